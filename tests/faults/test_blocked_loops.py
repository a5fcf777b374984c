"""Clients whose code blocks the pool's thread: it is named, and nothing is lost once it goes on."""

import logging
import time
from typing import NamedTuple

import pytest

from producer_pool import BlockingClient, Client, DeliveryPolicy, Limits, ProducerPool
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger, Verdict
from support.waiting import eventually

BLOCKS = times(1.5, 12.0)
"""Seconds for which each client blocks, once."""
LOOKS = times(0.5, 5.0)
MESSAGES = 200


class Blocks(Client):
    """Written for asyncio, as it seems, with a call inside that waits for something."""

    address = "blocks:"

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def send(self, message: bytes) -> None:
        self.take(message)

    def take(self, message: bytes) -> None:
        if len(self.messages) == MESSAGES // 2:
            time.sleep(BLOCKS)
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
    waited: float
    """The longest time that a message for the consumer that is well took."""


def story(client: Client, messages: list[bytes], limits: Limits, log: pytest.LogCaptureFixture) -> Told:
    """Send to a consumer that is well, and to *client*, which keeps what it gets in *messages*."""
    ledger = Ledger()
    waited = 0.0
    with RecordingConsumer() as well, ProducerPool(policy=DeliveryPolicy.relay(), limits=limits) as pool:
        pool.add_producer("well", well.url)
        pool.add_producer("blocks", client)
        pool.check()
        for count in range(1, MESSAGES + 1):
            began = time.monotonic()
            pool.submit(ledger.write())
            eventually(lambda count=count: len(well.messages) >= count, "the message arrives")  # type: ignore[misc]
            waited = max(waited, time.monotonic() - began)
        assert pool.drain(wait=60)
        if "has stood still" in log.text:
            eventually(lambda: "goes on" in log.text, "the end is told")
        received = well.messages
    lines = [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
    return Told(lines, ledger.judge(received), ledger.judge(messages), waited)


def test_client_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """The line of its code is named, once, and how long it took; afterwards everything has arrived."""
    client = Blocks()
    told = story(client, client.messages, Limits(watchdog=LOOKS), caplog)
    report("blocked loop, watched", blocked_s=BLOCKS, others_waited_s=told.waited, lines=len(told.lines))

    assert told.well.exact
    assert told.itself.exact
    assert told.waited > BLOCKS / 2
    still, goes_on = told.lines
    assert "because of the client of blocks, in take() (faults/test_blocked_loops.py, line " in still
    assert "the event loop goes on: it stood still for" in goes_on


def test_client_that_blocks_and_nobody_looks(caplog: pytest.LogCaptureFixture) -> None:
    """The control: everybody waits, and nothing says for whom."""
    client = Blocks()
    told = story(client, client.messages, Limits(), caplog)

    assert told.waited > BLOCKS / 2
    assert told.lines == []


def test_client_on_a_thread_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """True isolation: what blocks there costs the others nothing, and there is nothing to name."""
    honest = Honest()
    client = BlockingClient(honest, timeout=3 * BLOCKS)
    told = story(client, honest.inner.messages, Limits(watchdog=BLOCKS * 0.8), caplog)
    report("blocked thread of a BlockingClient", blocked_s=BLOCKS, others_waited_s=told.waited)

    assert told.well.exact
    assert told.itself.exact
    assert told.waited < BLOCKS / 2
    assert told.lines == []
