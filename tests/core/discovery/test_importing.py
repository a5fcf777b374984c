"""Why a plugin cannot be imported, in the words that help."""

import sys
from pathlib import Path

import pytest

from producer_pool import __version__
from producer_pool.discovery.installed import bounds_on_core
from producer_pool.discovery.registry import Registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.errors import PluginLoadError
from support.distributions import Site, transports_module

ABSENT = "from producer_pool.plugin import Absent"


def installed(site: Site, *requirements: str, module: str = ABSENT) -> Registry:
    """Install a plugin that requires something, and return a registry that finds it."""
    metadata = site.install("acme-fifo", transports={"fifo": "acme_fifo"}, modules={"acme_fifo": module})
    lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    text = (metadata / "METADATA").read_text()
    (metadata / "METADATA").write_text(text.replace("\n\n", f"\n{lines}\n", 1))
    return Registry(PluginSelection())


def failure(registry: Registry) -> str:
    """Return why the plugin cannot be had."""
    with pytest.raises(PluginLoadError) as caught:
        registry.transport("fifo")
    return str(caught.value)


def test_plugin_that_misses_something_in_core(site: Site) -> None:
    """The error says for which core it was made, and which one this is."""
    text = failure(installed(site, "other>=3", "producer-pool<0.1,>=0.0", "producer-pool-tcp>=9"))

    assert text.startswith("acme-fifo 1.0 is installed but cannot be imported: cannot import name 'Absent'")
    assert text.endswith(
        f"; it was made for producer-pool<0.1,>=0.0, and this is {__version__}; try: pip check"
    )


def test_plugin_that_misses_something_else(site: Site) -> None:
    """That has nothing to do with core."""
    assert "made for" not in failure(installed(site, "producer-pool<0.1", module="import not_there"))


def test_plugin_that_does_not_bound_core(site: Site) -> None:
    """Then there is nothing to be said of it."""
    assert "made for" not in failure(installed(site, "producer-pool", "producer-pool-tcp>=9"))


@pytest.mark.parametrize(
    "requirement, bounds",
    [
        ("producer-pool<0.2,>=0.1", "<0.2,>=0.1"),
        ("producer-pool (<0.2,>=0.1)", "<0.2,>=0.1"),
        ("Producer.Pool[cli,tcp]~=0.1", "~=0.1"),
        ("producer_pool >=0.1 ; python_version > '3'", ">=0.1"),
        ("producer-pool", ""),
        ("producer-pool[cli]", ""),
        ("producer-pool; extra == 'test'", ""),
        ("producer-pools>=1", ""),
    ],
)
def test_bounds_on_core(site: Site, requirement: str, bounds: str) -> None:
    """They are found in each form in which metadata have been written."""
    (provided,) = [one for one in installed(site, requirement).installed() if one.distribution == "acme-fifo"]

    assert bounds_on_core(provided) == bounds


def test_bounds_of_what_has_no_metadata(tmp_path: Path) -> None:
    """A plugin in a file bounds nothing."""
    registry = Registry(PluginSelection())
    path = tmp_path / "own_fifo.py"
    path.write_text(transports_module("own"))
    registry.register_file(path)

    (provided,) = [one for one in registry.installed() if "own_fifo" in one.distribution]
    assert bounds_on_core(provided) == ""
    sys.modules.pop("producer_pool_file_own_fifo")
