"""A trial without a rule: what rules are given, for tests of its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from producer_pool.discovery.registry import Registry
from producer_pool.plugin import Client
from producer_pool.testing.rule import Rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.waiting import BOUND
from support.zoo.animal import HEALTHY, Plugin, transport

__all__ = ["plain", "rule_of", "subject_of", "trying"]


def plain() -> Subject:
    """Return a healthy transport."""
    return HEALTHY[0].subject()


def subject_of(client: type[Client]) -> Subject:
    """Return the healthy transport with that client."""
    registry = Registry()
    registry.register(Plugin(transport(client)), "zoo")
    return Subject("zoo://127.0.0.1:0", registry)


@asynccontextmanager
async def trying(
    folder: Path, subject: Subject | None = None, *, patience: float = BOUND
) -> AsyncIterator[Trial]:
    """Yield a trial of *subject*, by default a healthy one, and close it."""
    trial = Trial(subject or plain(), folder, 0, patience=patience)
    try:
        yield trial
    finally:
        await trial.aclose()


def rule_of(check: Callable[[Trial], Coroutine[Any, Any, None]]) -> Rule:
    """Make a rule that needs nothing and does *check*."""
    return Rule("a-rule", "tests", "It is kept.", "Because.", (), check)
