"""Import a plugin that is one file, and say what is wrong if that fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from producer_pool.discovery.faults import faulty, spell
from producer_pool.discovery.installed import Provided

__all__ = ["import_file"]


def import_file(path: str | Path, provided: Provided) -> ModuleType:
    """
    Import one file as a module of its own.

    Raises:
        PluginLoadError: it cannot be read, or its import fails.
    """
    path = Path(path)
    name = f"producer_pool_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise faulty(provided, "is no Python file; name one that ends in .py")
    if not path.exists():
        relative = "" if path.is_absolute() else "; the path is relative to where the program runs"
        raise faulty(provided, f"cannot be imported: no such file{relative}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise faulty(provided, f"cannot be imported: {spell(error)}") from error
    return module
