"""Clients whose code blocks the pool's thread: it is named, and nothing is lost once it goes on."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from producer_pool import BlockingClient, Client, DeliveryPolicy, Limits, ProducerPool
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger, Verdict
from support.waiting import BOUND, eventually

BLOCKS = times(0.5, 12.0)
"""Seconds for which a client blocks, where nobody waits for something else."""
LOOKS = times(0.5, 5.0)
MESSAGES = 200
HALF = MESSAGES // 2


class Blocks(Client):
    """Written for asyncio, as it seems, with a call inside that waits for something."""

    address = "blocks:"

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.begun = threading.Event()
        self.blocked = threading.Lock()
        self.blocked.acquire()

    async def send(self, message: bytes) -> None:
        self.take(message)

    def take(self, message: bytes) -> None:
        if len(self.messages) == HALF:
            self.begun.set()
            self.blocked.acquire(timeout=BOUND)
        self.messages.append(message)


class Honest:
    """The same code in an object that does not say that it is for asyncio."""

    address = "honest:"

    def __init__(self) -> None:
        self.inner = Blocks()

    def send(self, message: bytes) -> None:
        self.inner.take(message)


class Told(NamedTuple):
    """What came of one story."""

    lines: list[str]
    well: Verdict
    itself: Verdict
    meanwhile: int
    """How many messages the consumer that is well had when the other one went on."""
    blocked: float


def story(
    client: Client,
    blocks: Blocks,
    limits: Limits,
    log: pytest.LogCaptureFixture,
    meanwhile: Callable[[RecordingConsumer], object],
) -> Told:
    """Send to a consumer that is well, and to *client*, which goes on when *meanwhile* has returned."""
    ledger = Ledger()
    with RecordingConsumer() as well, ProducerPool(policy=DeliveryPolicy.relay(), limits=limits) as pool:
        pool.add_producer("well", well.url)
        pool.add_producer("blocks", client)
        pool.check()
        for _ in range(HALF + 1):
            pool.submit(ledger.write())
        assert blocks.begun.wait(BOUND)
        began = time.monotonic()
        for _ in range(HALF - 1):
            pool.submit(ledger.write())
        meanwhile(well)
        there = len(well.messages)
        blocks.blocked.release()
        blocked = time.monotonic() - began
        assert pool.drain(wait=60)
        eventually(lambda: len(naming(log)) != 1, "the end is told")
        received = well.wait_for(MESSAGES)
    return Told(warnings(log), ledger.judge(received), ledger.judge(blocks.messages), there, blocked)


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


def naming(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that name the client. A machine that stands still makes others."""
    return [line for line in warnings(log) if "the client of blocks" in line]


def test_client_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """The line of its code is named, once, and how long it took; afterwards everything has arrived."""
    client = Blocks()
    told = story(
        client,
        client,
        Limits(watchdog=LOOKS),
        caplog,
        lambda well: eventually(lambda: naming(caplog), "it is named"),
    )
    report("blocked loop, watched", blocked_s=told.blocked, others_had=told.meanwhile, lines=len(told.lines))

    assert told.well.exact
    assert told.itself.exact
    assert told.meanwhile <= HALF + 1
    still, goes_on = naming(caplog)
    assert "because of the client of blocks, in take() (faults/test_blocked_loops.py, line " in still
    assert "the event loop goes on: it stood still for" in goes_on


def test_client_that_blocks_and_nobody_looks(caplog: pytest.LogCaptureFixture) -> None:
    """The control: everybody waits, and nothing says for whom."""
    client = Blocks()
    told = story(client, client, Limits(), caplog, lambda well: time.sleep(BLOCKS))

    assert told.meanwhile <= HALF + 1
    assert told.lines == []


def test_client_on_a_thread_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """True isolation: while it blocks there the others have everything, and there is nothing to name."""
    honest = Honest()
    client = BlockingClient(honest, timeout=3 * BOUND)
    told = story(client, honest.inner, Limits(watchdog=LOOKS), caplog, lambda well: well.wait_for(MESSAGES))
    report("blocked thread of a BlockingClient", blocked_s=told.blocked, others_had=told.meanwhile)

    assert told.well.exact
    assert told.itself.exact
    assert told.meanwhile == MESSAGES
    assert naming(caplog) == []
