"""Those who wait for something to change, and look again."""

import asyncio

from producer_pool.delivery.waiters import Waiters
from producer_pool.testing import in_virtual_time


@in_virtual_time
async def test_all_who_wait_are_woken() -> None:
    """Those of now, and not those who come later."""
    waiters = Waiters()
    tasks = [asyncio.create_task(waiters.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert waiters
    waiters.wake()
    await asyncio.gather(*tasks)
    late = asyncio.create_task(waiters.wait())
    await asyncio.sleep(1)

    assert not late.done()

    waiters.wake()
    await late


@in_virtual_time
async def test_who_stops_waiting_is_forgotten() -> None:
    """Nothing is kept of it."""
    waiters = Waiters()
    task = asyncio.create_task(waiters.wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert not waiters

    waiters.wake()
