"""What a transport may leave behind: counted before, and after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from producer_pool.testing.rule import RuleBroken, require

if TYPE_CHECKING:
    from producer_pool.testing.trial import Trial

__all__ = ["COUNTED", "CYCLES", "descriptors", "require_back"]

CYCLES: Final = 12
"""How often something is begun and ended before what is left is counted."""


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return len(os.listdir(folder))


def _threads() -> int:
    """
    Return how many threads there are, but for those of event loops: a loop keeps a few, however busy it is.

    How soon it has all of them is up to the scheduler: another begins when none is seen to be idle.
    """
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


COUNTED: Final[dict[str, Callable[[], int]]] = {
    "file descriptors": descriptors,
    "tasks": lambda: len(asyncio.all_tasks()),
    "threads": _threads,
}
"""What can be left, and what counts it."""


async def require_back(trial: Trial, before: int, count: Callable[[], int], what: str, after: str) -> None:
    """
    Wait until *count* is what it was *before*: the other side needs a moment to close its half.

    One may come and go for reasons of its own: a leak grows with each repetition, so repeat often.

    Raises:
        RuleBroken: more are left; *what* names what is counted, *after* what was done.
    """
    with contextlib.suppress(RuleBroken):
        await trial.until(lambda: count() <= before + 1, what)
    left = count() - before
    require(left <= 1, f"{left} {what} are left after {after}")
