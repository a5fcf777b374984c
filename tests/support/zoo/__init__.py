"""
Transports that are wrong on purpose, each in one way, and the rule of the suite that has to find it.

A module holds the animals of one family of rules: classes marked with ``@animal``, or values of Animal. One
that is new is found; nothing has to be told of it.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Final

from support.zoo import daemon, metadata
from support.zoo.animal import HEALTHY, Animal, cleaning

__all__ = ["ANIMALS", "HEALTHY", "IN_FILES", "Animal", "cleaning"]

IN_FILES: Final = (*daemon.HEALTHY, *metadata.HEALTHY)
"""Those that keep every rule, and that a daemon can load, or that are installed."""


def _all() -> tuple[Animal, ...]:
    found: dict[str, Animal] = {}
    for module in pkgutil.iter_modules(__path__):
        for thing in vars(import_module(f"{__name__}.{module.name}")).values():
            one = thing if isinstance(thing, Animal) else getattr(thing, "__dict__", {}).get("animal")
            if isinstance(one, Animal):
                assert found.setdefault(one.name, one) is one, f"two animals are called {one.name}"
    return tuple(found.values())


ANIMALS: Final = _all()
"""All that are wrong."""
