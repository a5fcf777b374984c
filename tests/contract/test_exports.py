"""What a module offers is written down in `__all__`, and importing the package loads nothing of it."""

import ast
import importlib
import subprocess
import sys

import pytest

import producer_pool
from support.tree import CORE, Module, distributions, modules

PRODUCT = [module for place in distributions() for module in modules(place / "src")]
TOP = next(module for module in PRODUCT if module.path == CORE / "src/producer_pool/__init__.py")


@pytest.mark.parametrize("module", PRODUCT, ids=lambda module: module.name)
def test_module_declares_its_names(module: Module) -> None:
    """Every module has an `__all__` of names that it has, each once."""
    if module.path.name == "__main__.py":
        return
    declared = module.declared()

    assert declared is not None, f"{module.path} has no __all__"
    assert len(declared) == len(set(declared))
    loaded = importlib.import_module(module.name)
    assert [name for name in declared if not hasattr(loaded, name)] == []


def test_package_resolves_what_the_type_checker_sees() -> None:
    """The names in `__all__`, in the TYPE_CHECKING block and in `dir()` are the same, and each resolves."""
    seen = {imported.target.rpartition(".")[2] for imported in TOP.imports() if imported.typing_only}
    declared = set(producer_pool.__all__)

    assert declared - {"__version__"} == seen
    assert declared <= set(dir(producer_pool))
    assert {name for name in declared if getattr(producer_pool, name, None) is None} == set()


def test_package_gives_each_name_from_where_the_type_checker_takes_it() -> None:
    """A lazy name is the same object as the one in the module that the TYPE_CHECKING block names."""
    for imported in TOP.imports():
        if imported.typing_only:
            source, _, name = imported.target.rpartition(".")

            assert getattr(producer_pool, name) is getattr(importlib.import_module(source), name)


def test_package_refuses_other_names() -> None:
    """A name that is not there is an AttributeError, as in any module."""
    name = "no_such_name"

    with pytest.raises(AttributeError, match=name):
        getattr(producer_pool, name)


def test_importing_the_package_loads_nothing() -> None:
    """`import producer_pool` costs no asyncio, no plugin system, and none of its own modules."""
    code = "import sys; old = set(sys.modules); import producer_pool; print(sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: list[str] = ast.literal_eval(done.stdout)

    unwanted = (
        "producer_pool.",
        "producer_pool_",
        "asyncio",
        "pluggy",
        "importlib_metadata",
        "click",
        "rich",
    )
    assert [name for name in loaded if name.startswith(unwanted)] == []
