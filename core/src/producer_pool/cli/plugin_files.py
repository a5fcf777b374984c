"""The option ``--plugin`` of commands that take no other settings: protocols in files of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from producer_pool.discovery.registry import Registry

__all__ = ["plugin_files", "registry_with"]

plugin_files = click.option(
    "--plugin",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A plugin in one Python file, instead of an installed one. May be repeated.",
)
"""The decorator that adds it."""


def registry_with(files: Iterable[Path]) -> Registry:
    """
    Return a registry in which the plugins of *files* come before those that are installed.

    Raises:
        PluginError: one of them cannot be used.
    """
    from producer_pool.discovery.registry import Registry

    registry = Registry()
    for file in files:
        registry.register_file(file)
    return registry
