"""Imports point downward: the order of core's folders, and what a plugin may know of core."""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support.tree import CORE, PLUGINS, Import, Module, modules

# A folder or file of core may import from smaller numbers, and within its folder; the
# files at the top form one. So two folders with one number do not know each other.
LAYERS = {
    "model": 1,
    "contract": 2,
    "delivery": 3,
    "storage": 3,
    "discovery": 3,
    "toolkit": 3,
    "builtin": 3,
    "aio": 4,
    "dead_letter_office": 4,
    "entrance": 4,
    "deferral": 4,
    "direct": 4,
    "lending": 4,
    "sturdy": 4,
    "pool": 4,
    "worker": 4,
    "server": 4,
    "loopwatch": 4,
    "plugin": 4,
    "testing": 5,
    "shortcuts": 5,
    "cli": 6,
    "__main__": 7,
}
ALSO_ALLOWED = {("builtin", "toolkit")}

# What a plugin may import of core: names of these modules, and nothing below them.
PUBLIC = {"producer_pool", "producer_pool.plugin", "producer_pool.testing"}

# A package from outside -> the only places that know it.
ONLY_IN = {
    "pluggy": ("discovery.registry", "contract.hookspecs"),
    "importlib_metadata": ("discovery.registry",),
    "importlib.metadata": (),
    "click": ("cli",),
    "rich": ("cli",),
    "pytest": ("testing",),
}

# A place -> what it has to do without: values have no I/O, and the outbox decides by the `now` it is given.
DOES_WITHOUT = {
    "model": {"asyncio", "selectors", "socket", "ssl", "subprocess", "threading"},
    "delivery.accounts": {"asyncio", "selectors", "socket", "threading", "time"},
    "delivery.outbox": {"asyncio", "selectors", "socket", "threading", "time"},
}


def check_core(source: Path) -> Iterator[str]:
    """Yield what is wrong with the imports of the package producer_pool in *source*."""
    known = {module.name: module for module in modules(source)}
    folders = {name.split(".")[1] for name, module in known.items() if module.is_package and "." in name}
    edges: dict[str, set[str]] = {name: set() for name in known}
    for module in known.values():
        here = module.name.removeprefix("producer_pool").removeprefix(".")
        top = here.partition(".")[0]
        if top and top not in LAYERS:
            yield f"{module.name}: not in the table of layers"
            continue
        for imported in module.imports():
            if imported.typing_only:
                continue
            where = f"{module.path.name}:{imported.line}: {module.name} imports {imported.target}"
            yield from (f"{where}: {wrong}" for wrong in _outside(here, imported.target))
            target = _module(imported, known)
            if target is None or not here:  # the package itself re-exports from everywhere, lazily
                continue
            if target == "producer_pool":
                if imported.target != "producer_pool.__version__":
                    yield f"{where}: from the top, which knows everything"
                continue
            if _may_import(top, target.split(".")[1], folders):
                edges[module.name].add(target)
            else:
                yield f"{where}: not downward"
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        yield f"a cycle: {' -> '.join(error.args[1])}"


def check_plugins(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the imports of the plugins in *folder*."""
    packages = {path.name for path in folder.glob("*/src/*")}
    for source in sorted(folder.glob("*/src")):
        own = {path.name for path in source.iterdir()}
        for module in modules(source):
            for imported in module.imports():
                where = f"{module.path.name}:{imported.line}: {module.name} imports {imported.target}"
                top = imported.target.partition(".")[0]
                if top in packages - own:
                    yield f"{where}: another plugin"
                elif top == "producer_pool" and not _is_public(imported.target):
                    yield f"{where}: not a public name"
                elif top in {"pluggy", "importlib_metadata"}:
                    yield f"{where}: producer_pool.plugin has what a plugin needs of it"


def _outside(here: str, target: str) -> Iterator[str]:
    for package, places in ONLY_IN.items():
        if _below(target, package) and not any(_below(here, place) for place in places):
            yield f"known only to {', '.join(places) or 'nobody'}"
    for place, without in DOES_WITHOUT.items():
        if _below(here, place) and any(_below(target, package) for package in without):
            yield f"{place} does without"


def _may_import(top: str, target: str, folders: set[str]) -> bool:
    if top == target or (top, target) in ALSO_ALLOWED:
        return True
    if LAYERS.get(target) == LAYERS[top]:
        return not folders & {top, target}
    return LAYERS.get(target, 0) < LAYERS[top]


def _is_public(target: str) -> bool:
    parent, _, name = target.rpartition(".")
    below = CORE / "src" / parent.replace(".", "/") / name
    return target in PUBLIC or (
        parent in PUBLIC and not below.is_dir() and not below.with_suffix(".py").exists()
    )


def _module(imported: Import, known: Mapping[str, Module]) -> str | None:
    """Return the module that an import reaches: `a.b` is either the module a.b or a name in module a."""
    for name in (imported.target, imported.target.rpartition(".")[0]):
        if name in known:
            return name
    return None


def _below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_core_imports_downward() -> None:
    """Every import in core points to a smaller number, and there is no cycle."""
    assert list(check_core(CORE / "src")) == []


def test_plugins_import_public_names() -> None:
    """No plugin knows core's inside, or another plugin."""
    assert list(check_plugins(PLUGINS)) == []


GOOD = {
    "__init__.py": "if TYPE_CHECKING:\n    from producer_pool.pool import Pool",
    "model/__init__.py": "from producer_pool.model.batch import Batch",
    "model/batch.py": "if TYPE_CHECKING:\n    import producer_pool.pool",
    "model/outcomes.py": "from producer_pool.model.batch import Batch",
    "toolkit/__init__.py": "",
    "toolkit/sockets.py": "import socket",
    "builtin/__init__.py": "",
    "builtin/sinks.py": "from producer_pool.toolkit.sockets import connect",
    "delivery/__init__.py": "",
    "delivery/outbox.py": "from producer_pool.model import Batch",
    "discovery/__init__.py": "",
    "discovery/registry.py": "import pluggy",
    "aio.py": "from producer_pool.delivery.outbox import Outbox",
    "pool.py": "from producer_pool.aio import AsyncPool\nfrom producer_pool import __version__",
}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Return a source folder with a small core that obeys the rules."""
    for name, text in GOOD.items():
        _write(tmp_path / "producer_pool" / name, text)
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_sample_that_obeys(sample: Path) -> None:
    """Downward imports, those of neighbours, and those for types only are fine."""
    assert list(check_core(sample)) == []


@pytest.mark.parametrize(
    "name,text,wrong",
    [
        ("model/batch.py", "from producer_pool.delivery.outbox import Outbox", "not downward"),
        ("model/batch.py", "def f():\n    import producer_pool.pool", "not downward"),
        ("model/batch.py", "from ..pool import Pool", "not downward"),
        ("model/batch.py", "if not TYPE_CHECKING:\n    import socket", "model does without"),
        ("model/batch.py", "from producer_pool.model.outcomes import Outcome", "a cycle"),
        ("delivery/outbox.py", "from producer_pool.discovery import registry", "not downward"),
        ("delivery/outbox.py", "import time", "delivery.outbox does without"),
        ("delivery/engine.py", "import pluggy", "known only to discovery.registry"),
        ("delivery/engine.py", "from importlib import metadata", "known only to nobody"),
        ("toolkit/sockets.py", "from producer_pool.builtin import sinks", "not downward"),
        ("aio.py", "from producer_pool.pool import Pool", "a cycle"),
        ("pool.py", "from producer_pool import Batch", "from the top"),
        ("extras.py", "", "not in the table"),
    ],
)
def test_sample_that_does_not(sample: Path, name: str, text: str, wrong: str) -> None:
    """Each rule is broken once, and the report names it."""
    _write(sample / "producer_pool" / name, text)

    found = list(check_core(sample))

    assert len(found) == 1
    assert wrong in found[0]


@pytest.mark.parametrize(
    "text,wrong",
    [
        ("from producer_pool.plugin import hookimpl\nfrom producer_pool import Batch", None),
        ("from producer_pool.toolkit.sockets import connect", "not a public name"),
        ("from producer_pool import model", "not a public name"),
        ("if TYPE_CHECKING:\n    from producer_pool.model.batch import Batch", "not a public name"),
        ("import producer_pool_two", "another plugin"),
        ("import pluggy", "producer_pool.plugin has"),
    ],
)
def test_sample_plugin(tmp_path: Path, text: str, wrong: str | None) -> None:
    """A plugin knows the three public modules."""
    _write(tmp_path / "one/src/producer_pool_one/__init__.py", text)
    _write(tmp_path / "two/src/producer_pool_two/__init__.py", "")

    found = list(check_plugins(tmp_path))

    assert [wrong in report for report in found if wrong] == ([True] if wrong else [])
