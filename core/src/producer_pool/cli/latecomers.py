"""Modules that others import at once, and that are loaded here when something of them is used."""
# Rule: for processes of ours only. A program that embeds a pool imports as it likes.

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final, cast

__all__ = ["LATECOMERS", "is_late", "let_come_late"]

LATECOMERS: Final = frozenset({"ssl", "asyncio.sslproto", "locale", "textwrap", "tokenize", "urllib.parse"})
"""
asyncio imports the first two, for who asks it for TLS. With OpenSSL behind it, ssl takes 4.5 MB, a sixth of
what an idle daemon has, and 7 ms of its start. The others are imported by subprocess, by traceback,
by what reads sources and by what reads URLs: 4 ms.
"""


def let_come_late(names: frozenset[str] = LATECOMERS) -> None:
    """
    Have modules of these *names* loaded at the first use of what is in them, and not at their import.

    Those that are imported already stay as they are. What goes wrong with loading one is raised where it is
    used, and the next use tries again.
    """
    sys.meta_path.insert(0, _Finder(names))


def is_late(module: ModuleType) -> bool:
    """Whether *module* is imported, and nothing of it was used so far."""
    return isinstance(vars(module).get("__getattr__"), _Rest)


class _Finder:
    """Finds the modules that come late, where they would be found without it."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Any", _LateLoader(spec.loader))
        return spec


class _LateLoader:
    """Makes a module, and leaves in it what loads the rest."""

    # importlib.util.LazyLoader lets threads race, and after a failure leaves half a module behind.

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        # Whoever asks where it comes from is told the same as ever.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__dict__["__getattr__"] = _Rest(module, self._loader)


class _Rest:
    """Stands in a module as its ``__getattr__``, and loads it."""

    def __init__(self, module: ModuleType, loader: Any) -> None:
        self._module = module
        self._loader = loader
        # Of several threads that use it first, all but one wait for it.
        self._lock = threading.RLock()
        self._loading = False

    def __call__(self, name: str) -> object:
        with self._lock:
            if self._is_missing() and not self._loading:
                self._loading = True
                try:
                    self._loader.exec_module(self._module)
                finally:
                    self._loading = False
                if self._is_missing():
                    del self._module.__dict__["__getattr__"]
        if self._is_missing():
            raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r} yet")
        return getattr(self._module, name)

    def _is_missing(self) -> bool:
        return self._module.__dict__.get("__getattr__") is self
