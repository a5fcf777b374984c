"""
A daemon with a spool that is killed in mid-stream, again and again, with its consumer slow or away.

It acknowledges what is on its disk. So what it had acknowledged must arrive, whatever was in its memory,
and nothing has to be done by hand in between.
"""

import asyncio
import random
import sys
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

SIZE = 256
RATE = 3_000_000
"""Bytes that the consumer takes in a second: so the daemon is behind when it is killed."""

AHEAD = 10_000
"""Messages that are on their way at the most, or lie on a disk."""

POLICY = f"{QUICK}&ack=app&buffer=100kB"
"""So little memory that most of what waits lies on the disk only; and a consumer that says what it has."""

MOVED_ON_WRITE = """
from producer_pool.delivery.cursor import Cursor
from producer_pool.plugin import hookimpl


@hookimpl
def producer_pool_started(pool):
    def move(self):
        if self.handed > self._at:
            self._at = self.handed
            self._move(self.handed)

    Cursor.move = move
"""
"""A plugin that makes the daemon naive: what it has handed to a connection counts as delivered."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")


async def killed(folder: Path, kills: int, *arguments: str) -> Ending:
    """Kill a daemon so often while a program sends to it, and then let everything arrive that will."""
    ledger = Ledger()
    seen = 0
    loop = asyncio.get_running_loop()
    with (
        ProcessConsumer(rate=RATE, answers=True) as consumer,
        Killable(
            *("--to", f"last={consumer.url}?{POLICY}", "--spool", str(folder / "spool"), *arguments),
            options="?ack-after=stored",
        ) as relay,
    ):
        async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
            await pool.add_producer("relay", f"tcp://127.0.0.1:{relay.port}?ack=app&{QUICK}&overflow=block")

            async def send() -> None:
                while True:
                    if len(ledger.sent) - seen < AHEAD:
                        await pool.submit_many(ledger.write_many(50, size=SIZE))
                    await asyncio.sleep(0.005)

            sending = loop.create_task(send())
            for kill in range(kills):
                there = seen + random.randrange(500, 2000)
                seen = len(await asyncio.to_thread(consumer.wait_for, there))
                if kill % 3 == 2:
                    # All that comes now lies on the disk when the daemon is killed.
                    await asyncio.to_thread(consumer.kill)
                    await asyncio.sleep(0.1)
                await asyncio.to_thread(relay.kill)
                if kill % 3 == 2:
                    await asyncio.to_thread(consumer.start)
            sending.cancel()
            await asyncio.wait([sending])
            await asyncio.to_thread(consumer.kill)
            await asyncio.to_thread(consumer.start, rate=0)
            assert await pool.drain(wait=60)
        await asyncio.to_thread(deliver_all, relay.running, "last")
        record = await asyncio.to_thread(read_out, consumer)
        return Ending(ledger.judge(record), len(ledger.sent), relay.kills, relay.back_s)


async def test_killed_with_a_spool(tmp_path: Path) -> None:
    """Nothing that was accepted and stored is lost, and order holds; what was on its way comes twice."""
    ending = await killed(tmp_path, times(4, 100))
    report("pool with a spool killed", **ending.figures)

    assert not ending.verdict.disordered, ending.verdict
    assert not ending.verdict.corrupt, ending.verdict
    assert not ending.verdict.lost, ending.verdict


async def test_control_that_moves_its_cursor_on_write_loses(tmp_path: Path) -> None:
    """What it had in memory, and in its connection, counted as delivered."""
    plugin = tmp_path / "naive.py"
    plugin.write_text(MOVED_ON_WRITE)
    naive = ("--plugin", str(plugin))
    folder, tries = tmp_path, count(1)
    while not (ending := await killed(folder, times(3, 10), *naive)).verdict.lost and next(tries) < 5:
        (folder := folder / "again").mkdir()  # It had nothing each time that it was killed.
    report("pool with a spool killed, control: cursor moved on write", **ending.figures)

    assert ending.verdict.lost
