"""Time in ticks of the loop: what is late because of others is not late."""

from __future__ import annotations

import asyncio
import time

import pytest

from producer_pool.testing.patience import bounded, call_after, settling


async def test_what_is_done_in_time() -> None:
    """Nothing happens, and nothing is left."""
    async with bounded(5) as limit:
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)

    assert not limit.expired()


@pytest.mark.parametrize("seconds", [0, 0.001, 0.05])
async def test_what_never_ends(seconds: float) -> None:
    """It is cancelled, and who bounded it knows that it was that bound."""
    since = time.monotonic()
    with pytest.raises(TimeoutError):
        async with bounded(seconds) as limit:
            await asyncio.Event().wait()

    assert limit.expired()
    assert time.monotonic() - since >= seconds * 0.9


async def test_bound_in_a_bound() -> None:
    """Each is the end of its own."""
    async with bounded(5) as outer:
        with pytest.raises(TimeoutError):
            async with bounded(0.02):
                await asyncio.Event().wait()

    assert not outer.expired()


async def test_time_that_others_took() -> None:
    """A loop that had no time for what was to be done does not end it."""
    loop = asyncio.get_running_loop()
    async with bounded(0.05) as limit:
        done = asyncio.Event()
        loop.call_later(0.001, time.sleep, 0.2)  # Here the machine is busy with somebody else,
        loop.call_later(0.2, done.set)  # and this was to happen in the meantime.
        await done.wait()

    assert not limit.expired()


async def test_call_after_time_that_others_took() -> None:
    """It comes when what was due before it is done, however late that was."""
    loop = asyncio.get_running_loop()
    order: list[str] = []
    loop.call_later(0.001, time.sleep, 0.2)
    loop.call_later(0.21, order.append, "due")
    called = asyncio.Event()

    def call() -> None:
        order.append("called")
        called.set()

    call_after(0.1, call)
    await called.wait()

    assert order == ["due", "called"]


async def test_what_comes_to_rest() -> None:
    """The value that stayed is returned, and not one before it."""
    now = 0

    async def move() -> None:
        nonlocal now
        for now in range(1, 6):  # noqa: B007 - it is looked at from outside
            await asyncio.sleep(0.02)

    moving = asyncio.ensure_future(move())

    assert await settling(lambda: now, 0.2) == 5
    await moving


async def test_rest_while_nobody_could_move() -> None:
    """Time that others took is no rest."""
    loop = asyncio.get_running_loop()
    now: list[int] = []
    loop.call_later(0.001, time.sleep, 0.2)
    loop.call_later(0.21, now.append, 1)

    assert await settling(lambda: len(now), 0.05) == 1
