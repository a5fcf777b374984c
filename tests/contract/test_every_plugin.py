"""What holds for each plugin of the tree: its entry points, and the options on its page."""

from __future__ import annotations

import tomllib
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest

from producer_pool.contract.options import describe
from producer_pool.contract.transport import Transport
from support.tree import distributions

each_plugin = pytest.mark.parametrize("place", distributions()[1:], ids=lambda place: place.name)


def project(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    return found


def entry_points(place: Path) -> dict[str, str]:
    found: dict[str, str] = project(place)["entry-points"]["producer_pool.transports"]
    return found


def transports(place: Path) -> list[Transport]:
    modules = dict.fromkeys(entry_points(place).values())
    return [one for module in modules for one in import_module(module).producer_pool_transports()]


@each_plugin
def test_schemes_are_the_entry_points(place: Path) -> None:
    """The scheme of each entry point is served, and no other; ``.`` stands for ``+``."""
    found = metadata.distribution(project(place)["name"]).entry_points
    installed = {point.name: point.value for point in found.select(group="producer_pool.transports")}
    schemes = [scheme for transport in transports(place) for scheme in transport.schemes]

    assert installed == entry_points(place), "installed from other sources; make sets it right"
    assert sorted(name.replace(".", "+") for name in installed) == sorted(schemes)


@each_plugin
def test_options_are_what_the_readme_says(place: Path) -> None:
    """Every option of all schemes stands in the README's tables, and no other."""
    tables = (place / "README.md").read_text().partition("## Options of consumers")[2]
    listed = {line.split("`")[1] for line in tables.splitlines() if line.startswith("| `")}
    options = {
        option.name
        for transport in transports(place)
        for kind in (transport.options, transport.listener_options)
        if kind is not None
        for option in describe(kind)
    }

    assert listed == options
