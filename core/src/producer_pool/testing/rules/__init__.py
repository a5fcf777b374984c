"""The rules of the conformance suite by name, in the order in which they are tried."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from producer_pool.testing.rule import Rule

__all__ = ["FAMILIES", "RULES"]

FAMILIES: Final = (
    # A client that blocks the loop breaks or delays most others: the cause is named before its effects.
    "loop",
    "lifecycle",
    "listening",
    "boundaries",
    "order",
    "backpressure",
    "cancellation",
    "reconnect",
    "honesty",
    "acknowledging",
    "errors",
    "secrets",
    "urls",
    "metadata",
    "daemon",
)
"""The modules that hold the rules, in the order in which they are tried."""


def _all() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for family in FAMILIES:
        module = import_module(f"{__name__}.{family}")
        for name in module.__all__:
            one = getattr(module, name)
            assert one.name not in rules, f"two rules are called {one.name}"
            rules[one.name] = one
    return rules


RULES: Final = _all()
"""All rules by name."""
