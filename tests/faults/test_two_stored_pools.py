"""
Two pools in a row with a spool each, both of which are killed in mid-stream, again and again.

Each acknowledges what it has on disk. So its sender keeps the rest, and sends it again.
"""

import asyncio
import random
import sys
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy
from support.arrivals import read_out
from support.consumers import ProcessConsumer
from support.contenders import QUICK
from support.faults import report, times
from support.killable import Ending, Killable, deliver_all
from support.ledger import Ledger

SIZE = 1024
RATE = 16_000_000
"""Bytes that the last consumer takes in a second."""
MESSAGES = 40_000
"""So many are sent at first, as fast as they are taken: more than the kernels hold."""
MORE = 5000
"""So many more are sent for each kill."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")

POLICY = f"{QUICK}&overflow=block"


async def both_killed(folder: Path, after: str, spools: bool, kills: int) -> Ending:
    """Kill both pools in turns while a program sends to the first one, which it asks for acknowledgements."""
    ledger = Ledger()

    def spool(name: str) -> tuple[str, ...]:
        return ("--spool", str(folder / name)) if spools else ()

    loop = asyncio.get_running_loop()
    in_turn = asyncio.Lock()
    with (
        ProcessConsumer(rate=RATE) as consumer,
        Killable("--to", f"last={consumer.url}?{POLICY}", *spool("second"), options=after) as second,
        Killable(
            *("--to", f"second=tcp://127.0.0.1:{second.port}?ack=app&{POLICY}", *spool("first")),
            options=after,
        ) as first,
    ):
        async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
            await pool.add_producer("first", f"tcp://127.0.0.1:{first.port}?ack=app&{POLICY}")

            async def send(count: int) -> None:
                async with in_turn:
                    for _ in range(count // 50):
                        await pool.submit_many(ledger.write_many(50, size=SIZE))
                        await asyncio.sleep(0)

            sending = [loop.create_task(send(MESSAGES))]
            for kill in range(kills):
                sending.append(loop.create_task(send(MORE)))
                there = len(consumer.messages) + random.randrange(1000, 3000)
                await asyncio.to_thread(consumer.wait_for, there)
                await asyncio.to_thread((first, second)[kill % 2].kill)
            await asyncio.gather(*sending)
            assert await pool.drain(wait=60)
        await asyncio.to_thread(deliver_all, first.running, "second")
        await asyncio.to_thread(deliver_all, second.running, "last")
        record = await asyncio.to_thread(read_out, consumer)
        kinds = first.kills + second.kills
        return Ending(ledger.judge(record), len(ledger.sent), kinds, max(first.back_s, second.back_s))


async def test_both_pools_are_killed(tmp_path: Path) -> None:
    """Nothing that was stored is lost: a pool that acknowledged it has it on disk."""
    ending = await both_killed(tmp_path, "?ack-after=stored", True, times(4, 50))
    report("both of two pools killed, app after stored", **ending.figures)

    assert ending.verdict.complete, ending.verdict


async def test_control_without_a_disk_loses(tmp_path: Path) -> None:
    """A pool that acknowledges what it has merely received takes that with it."""
    tries = count(1)
    told = partial(both_killed, tmp_path, "?ack-after=received", False, times(2, 10))
    while not (ending := await told()).verdict.lost and next(tries) < 5:
        pass  # They had nothing each time that they were killed.
    report("both of two pools killed, control: app after received", **ending.figures)

    assert ending.verdict.lost
