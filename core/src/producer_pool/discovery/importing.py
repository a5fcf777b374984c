"""Import a plugin, and say what is wrong if that fails."""

from __future__ import annotations

import importlib

from producer_pool import __version__
from producer_pool.discovery.faults import faulty, spell
from producer_pool.discovery.installed import Provided, bounds_on_core

__all__ = ["import_plugin"]


def import_plugin(provided: Provided) -> object:
    """
    Import the module, or the object in a module, that an entry point names.

    Raises:
        PluginLoadError: that fails, in whatever way; the text names the distribution and what is missing.
    """
    module, _, attributes = provided.value.partition(":")
    try:
        plugin: object = importlib.import_module(module)
        for name in filter(None, attributes.split(".")):
            plugin = getattr(plugin, name)
    except ImportError as error:
        raise faulty(
            provided, f"is installed but cannot be imported: {error}{_misfit(error, provided)}"
        ) from error
    except (Exception, SystemExit) as error:
        raise faulty(provided, f"is installed but cannot be imported: {spell(error)}") from error
    return plugin


def _misfit(error: ImportError, provided: Provided) -> str:
    """Say for which core a plugin was made, if it misses something there: pip may have warned, long ago."""
    if (error.name or "").partition(".")[0] != "producer_pool":
        return ""
    bounds = bounds_on_core(provided)
    if not bounds:
        return ""
    return f"; it was made for producer-pool{bounds}, and this is {__version__}; try: pip check"
