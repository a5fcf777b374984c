"""What a module offers is written down in `__all__`, and importing the package loads nothing of it."""

import ast
import importlib
import subprocess
import sys

import pytest

from support.tree import Module, distributions, modules

PRODUCT = [module for place in distributions() for module in modules(place / "src")]
LAZY = [
    module
    for module in PRODUCT
    if module.name in {"producer_pool", "producer_pool.plugin", "producer_pool.testing"}
]
lazily = pytest.mark.parametrize("package", LAZY, ids=lambda module: module.name)


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


@lazily
def test_package_resolves_what_the_type_checker_sees(package: Module) -> None:
    """The names in `__all__`, in the TYPE_CHECKING block and in `dir()` are the same, and each resolves."""
    loaded = importlib.import_module(package.name)
    seen = {imported.target.rpartition(".")[2] for imported in package.imports() if imported.typing_only}
    declared = set(loaded.__all__)

    assert declared - {"__version__"} == seen
    assert declared <= set(dir(loaded))
    assert {name for name in declared if getattr(loaded, name, None) is None} == set()


@lazily
def test_package_gives_each_name_from_where_the_type_checker_takes_it(package: Module) -> None:
    """A lazy name is the same object as the one in the module that the TYPE_CHECKING block names."""
    loaded = importlib.import_module(package.name)
    for imported in package.imports():
        if imported.typing_only:
            source, _, name = imported.target.rpartition(".")

            assert getattr(loaded, name) is getattr(importlib.import_module(source), name)


@lazily
def test_package_refuses_other_names(package: Module) -> None:
    """A name that is not there is an AttributeError, as in any module."""
    name = "no_such_name"

    with pytest.raises(AttributeError, match=name):
        getattr(importlib.import_module(package.name), name)


@lazily
def test_importing_the_package_loads_nothing(package: Module) -> None:
    """Importing it costs no asyncio, no plugin system, no pytest, and none of its own modules."""
    code = f"import sys; old = set(sys.modules); import {package.name}; print(sorted(set(sys.modules) - old))"
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
        "pytest",
    )
    assert [name for name in loaded if name.startswith(unwanted) and name != package.name] == []
