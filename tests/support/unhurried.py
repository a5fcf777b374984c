"""An event loop for which a busy machine is no reason to be late."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["take_time"]

TICK: Final = 0.01
"""Seconds that a loop may stand still, or sleep too long, for them to count."""


def take_time(loop: asyncio.AbstractEventLoop) -> None:
    """
    Have *loop* count only the time that it had something of: all its timers go by that.

    Both ends of a connection of a test stand still when the machine is busy with others. Whoever goes on
    first would otherwise take the other one for silent, though it had no time to speak.
    """
    selector = loop._selector  # type: ignore[attr-defined]
    clock: Callable[[], float] = loop.time
    select: Callable[[float | None], Any] = selector.select
    lost = 0.0
    seen = clock()

    def look(expected: float) -> None:
        nonlocal lost, seen
        now = clock()
        lost += max(0.0, now - seen - expected - TICK)
        seen = now

    def time() -> float:
        look(0.0)
        return seen - lost

    def patient(timeout: float | None = None) -> Any:
        end = time() + (float("inf") if timeout is None else timeout)
        while True:
            # In parts: of what is found ready nobody knows when in its part it was.
            part = min(max(0.0, end - (seen - lost)), TICK)
            ready = select(part)
            look(part)
            if ready or seen - lost >= end:
                return ready

    loop.time = time  # type: ignore[method-assign]
    selector.select = patient
