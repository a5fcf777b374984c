"""Consumers that refuse, never read, or die in the middle, beside one that is well."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from producer_pool import (
    ConnectError,
    DeadlineExceeded,
    DeliveryPolicy,
    ForwardResult,
    Limits,
    Outcome,
    ProducerPool,
    SendError,
)
from support.consumers import ProcessConsumer, RecordingConsumer
from support.ledger import Ledger, Verdict
from support.waiting import BOUND, eventually

COUNT = 4000
SIZE = 1024


LONG = 10 * BOUND


class Neighbours:
    """One consumer of each kind, all in one pool; *timeout* is for the one that never reads."""

    def __init__(self, stack: ExitStack, policy: DeliveryPolicy | None = None, timeout: float = 0.5) -> None:
        self.refuses = stack.enter_context(RecordingConsumer(listens=False))
        self.never_reads = stack.enter_context(RecordingConsumer(reads=False, receive_buffer=8192))
        self.dies = stack.enter_context(RecordingConsumer())
        self.well = stack.enter_context(RecordingConsumer())
        limits = Limits(drain=0.2)
        self.pool = stack.enter_context(ProducerPool(policy=policy, limits=limits))
        for name in ("refuses", "never_reads", "dies", "well"):
            consumer: RecordingConsumer = getattr(self, name)
            self.pool.add_producer(name, consumer.url, timeout=timeout if name == "never_reads" else LONG)
        self.dies.die_after(100 * SIZE)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_well_consumer_waits_for_nobody(stack: ExitStack) -> None:
    """It has everything, in order, while the one that never reads still has all of its time."""
    ledger = Ledger()
    neighbours = Neighbours(stack, timeout=LONG)
    receipts = [neighbours.pool.submit(message) for message in ledger.write_many(COUNT, size=SIZE)]
    record = neighbours.well.wait_for(COUNT)
    stuck = receipts[-1].results(wait=0)["never_reads"]

    assert ledger.judge(record).exact
    assert stuck.outcome is Outcome.PENDING


def test_each_result_is_about_its_own_consumer(stack: ExitStack) -> None:
    """Nothing is raised, every message has one outcome at each consumer, and the errors say what happened."""
    ledger = Ledger()
    neighbours = Neighbours(stack)
    receipts = [neighbours.pool.submit(message) for message in ledger.write_many(COUNT, size=SIZE)]
    results = [receipt.results(wait=BOUND) for receipt in receipts]

    assert all(result["well"].ok and result["well"].attempts == 1 for result in results)
    assert ledger.judge(neighbours.well.wait_for(COUNT)).exact

    refused = {type(result["refuses"].error) for result in results}
    assert refused == {ConnectError}
    assert "connection refused" in str(results[-1]["refuses"].error)

    stuck = [result["never_reads"] for result in results if not result["never_reads"].ok]
    assert {result.outcome for result in stuck} == {Outcome.FAILED}
    # Where this process stands still for so long, it may not even have connected.
    assert all(isinstance(result.error, DeadlineExceeded | SendError | ConnectError) for result in stuck)
    assert all("500ms" in str(result.error) for result in stuck)

    dead = [result["dies"] for result in results if not result["dies"].ok]
    assert {result.outcome for result in dead} == {Outcome.FAILED}
    assert all(isinstance(result.error, ConnectError | SendError) for result in dead)
    received = neighbours.dies.messages
    assert ledger.judge(received, expected=ledger.sent[: len(received)]).exact


def test_counters_agree_with_the_records(stack: ExitStack) -> None:
    """Delivered and failed add up at each consumer, and nobody has what was not counted as delivered."""
    ledger = Ledger()
    neighbours = Neighbours(stack)
    for message in ledger.write_many(COUNT, size=SIZE):
        neighbours.pool.submit(message)
    assert neighbours.pool.drain(wait=BOUND)
    stats = neighbours.pool.stats().producers
    for name in ("refuses", "never_reads", "dies", "well"):
        counted = stats[name]

        assert counted.accepted == counted.delivered + counted.failed == COUNT
    assert stats["well"].delivered == len(neighbours.well.wait_for(COUNT))
    assert stats["refuses"].delivered == len(neighbours.refuses.messages) == 0
    assert stats["dies"].delivered >= len(neighbours.dies.messages) > 0


def test_waiting_for_one_result_at_a_time(stack: ExitStack) -> None:
    """forward_to() the one that is well returns at once, however the others do."""
    ledger = Ledger()
    neighbours = Neighbours(stack, timeout=LONG)
    for message in ledger.write_many(COUNT, size=SIZE):
        neighbours.pool.submit(message)
    began = time.monotonic()
    results: list[ForwardResult] = [
        neighbours.pool.forward_to("well", message) for message in ledger.write_many(100, size=SIZE)
    ]

    assert all(result.ok for result in results)
    assert time.monotonic() - began < BOUND
    assert ledger.judge(neighbours.well.wait_for(COUNT + 100)).exact


def test_consumer_that_died_comes_back(stack: ExitStack) -> None:
    """A relaying producer sends it what it missed, in order; doubled is only what was in flight."""
    ledger = Ledger()
    neighbours = Neighbours(stack, policy=DeliveryPolicy.relay())
    messages = ledger.write_many(COUNT, size=SIZE)
    receipts = [neighbours.pool.submit(message, to=["dies", "well"]) for message in messages]
    neighbours.well.wait_for(COUNT)
    eventually(lambda: neighbours.dies.is_away, "it dies")
    neighbours.dies.come_back()
    results = [receipt.results(wait=BOUND) for receipt in receipts]
    eventually(lambda: neighbours.dies.messages[-1] == messages[-1], "it has read what is on its way")
    attempts = {message: result["dies"].attempts for message, result in zip(messages, results, strict=True)}
    verdict = ledger.judge(neighbours.dies.messages)

    assert all(result.ok for result in results)
    assert ledger.judge(neighbours.well.messages).exact
    assert not verdict.disordered
    assert not verdict.corrupt
    assert all(attempts[message] > 1 for message in verdict.doubled)
    # One that dies takes along what its kernel had acknowledged and it had not read: that is not sent again.
    assert all(attempts[message] == 1 for message in verdict.lost)


def test_consumer_is_killed_with_much_on_its_way() -> None:
    """What was in flight is sent again before what waited; its results say so, and only its."""
    ledger = Ledger()
    with (
        ProcessConsumer(receive_buffer=8192) as killed,
        ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=1)) as pool,
    ):
        pool.add_producer("killed", f"{killed.url}?retry-backoff=20ms&retry-max-backoff=50ms")
        pool.forward_to_all(ledger.write())
        killed.wait_for(1)
        killed.freeze()
        receipts = []
        for _ in range(40):
            receipts += [pool.submit(message) for message in ledger.write_many(10, size=20_000)]
            pool.stats()  # So that there are many batches, some in flight and some that wait.
        killed.kill()
        killed.start()
        assert pool.drain(wait=BOUND)
        eventually(lambda: killed.messages[-1] == ledger.sent[-1], "what is on its way is read")
        attempts = {
            message: receipt.results(wait=0)["killed"].attempts
            for message, receipt in zip(ledger.sent[1:], receipts, strict=True)
        }
        verdict = ledger.judge(killed.messages)
        again = sum(count - 1 for count in attempts.values())
        resent = pool.stats().producers["killed"].resent

        # More than twice: a new connection can still get to the listening socket that is just dying.
        assert {1, 2} <= set(attempts.values())
        assert verdict == Verdict(lost=verdict.lost)
        assert all(attempts[message] == 1 for message in verdict.lost)
        assert again == resent
