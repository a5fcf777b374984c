"""Time as a trial counts it: in ticks of the event loop, so that a busy machine makes nobody late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

__all__ = ["bounded", "call_after", "settling"]

_TICK: Final = 0.01
"""Seconds between two ticks. One that comes late counts for no more than this."""

T = TypeVar("T")


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """
    Bound what is done inside, as asyncio.timeout() does, by so many seconds that the loop had time for.

    Time in which the machine was busy with others, or the loop with what is bounded, does not count.

    Raises:
        TimeoutError: it took longer; what is yielded says that it has expired.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    timer: asyncio.TimerHandle | None = None

    def tick(left: int) -> None:
        nonlocal timer
        if left > 1:
            timer = loop.call_later(_TICK, tick, left - 1)
        else:
            limit.reschedule(loop.time())

    timer = loop.call_later(_TICK, tick, max(round(seconds / _TICK), 1))
    try:
        async with limit:
            yield limit
    finally:
        if timer is not None:
            timer.cancel()


def call_after(seconds: float, callback: Callable[[], object]) -> None:
    """Call *callback* when so many seconds are over that the loop had time for."""
    loop = asyncio.get_running_loop()

    def tick(left: int) -> None:
        if left > 0:
            loop.call_later(_TICK, tick, left - 1)
        else:
            callback()

    tick(max(round(seconds / _TICK), 1))


async def settling(look: Callable[[], T], seconds: float) -> T:
    """Return what *look* returns when that has been the same for so many seconds."""
    last, same = look(), 0
    while same * _TICK < seconds:
        await asyncio.sleep(_TICK)
        now = look()
        same = same + 1 if now == last else 0
        last = now
    return last
