"""A pool's verbs: producers come and go, and each message's results tell what happened at whom."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from producer_pool import (
    AsyncProducerPool,
    ConnectError,
    DuplicateProducer,
    Full,
    Outcome,
    ProducerPool,
    UnknownProducer,
)
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.waiting import BOUND, eventually

Consumers = dict[str, RecordingConsumer]


@pytest.fixture
def consumers() -> Iterator[Consumers]:
    with RecordingConsumer() as a, RecordingConsumer() as b, RecordingConsumer() as c:
        yield {"a": a, "b": b, "c": c}


@pytest.fixture
def pool(consumers: Consumers) -> Iterator[ProducerPool]:
    with ProducerPool() as pool:
        for name, consumer in consumers.items():
            pool.add_producer(name, consumer.url, timeout=10 * BOUND)
        yield pool


def test_forward_to_all(pool: ProducerPool, consumers: Consumers) -> None:
    """Everybody has each message once and in order; results are in the order of adding."""
    ledger = Ledger()

    results = [pool.forward_to_all(message) for message in ledger.write_many(100)]

    assert all(list(result) == ["a", "b", "c"] and result.ok for result in results)
    for consumer in consumers.values():
        assert ledger.judge(consumer.wait_for(100)).exact


def test_forward_to_some(pool: ProducerPool, consumers: Consumers) -> None:
    """Only those who are named get it, each once, even who is named twice."""
    ledger = Ledger()
    to_one, to_two, to_all = ledger.write_many(3)

    one = pool.forward_to("b", to_one)
    two = pool.forward_to_many(["c", "b", "c"], to_two)
    everybody = pool.forward_to_all(to_all)

    assert one.ok
    assert one.producer_id == "b"
    assert list(two) == ["c", "b"]
    assert two.ok
    assert everybody.ok
    assert consumers["a"].wait_for(1) == [to_all]
    assert consumers["b"].wait_for(3) == [to_one, to_two, to_all]
    assert consumers["c"].wait_for(2) == [to_two, to_all]


def test_duplicate_id(pool: ProducerPool, consumers: Consumers) -> None:
    """It is refused, with the known ids, and the one that is there goes on."""
    with RecordingConsumer() as other:
        with pytest.raises(DuplicateProducer, match=r"'b'.*known: a, b, c"):
            pool.add_producer("b", other.url)

        assert pool.forward_to("b", "still here").ok
        assert consumers["b"].wait_for(1) == [b"still here"]
        assert other.messages == []


@pytest.mark.parametrize("verb", ["forward_to", "forward_to_many", "submit", "remove_producer"])
def test_unknown_id(pool: ProducerPool, consumers: Consumers, verb: str) -> None:
    """It is refused, with the known ids, before anything is sent to anybody."""
    calls: dict[str, Callable[[], object]] = {
        "forward_to": lambda: pool.forward_to("nobody", "lost"),
        "forward_to_many": lambda: pool.forward_to_many(["a", "nobody"], "lost"),
        "submit": lambda: pool.submit("lost", to=["a", "nobody"]),
        "remove_producer": lambda: pool.remove_producer("nobody"),
    }
    with pytest.raises(UnknownProducer, match=r"'nobody'.*known: a, b, c"):
        calls[verb]()
    pool.forward_to_all("after")

    assert [consumer.wait_for(1) for consumer in consumers.values()] == [[b"after"]] * 3


def test_producer_is_removed(pool: ProducerPool, consumers: Consumers) -> None:
    """It gets all that was submitted before, and nothing after; its id is free again."""
    ledger = Ledger()
    consumers["b"].stop_reading()
    before = ledger.write_many(300, size=100_000)  # More than kernels keep on their way to it.
    for message in before:
        pool.submit(message)
    with ThreadPoolExecutor(1) as executor:
        removal = executor.submit(pool.remove_producer, "b")
        eventually(lambda: "b" not in pool.producers, "it is no target any more")
        consumers["b"].read_on()
        removal.result(BOUND)
    after = ledger.write_many(10)
    results = [pool.forward_to_all(message) for message in after]

    assert list(results[0]) == ["a", "c"]
    assert pool.producers == ("a", "c")
    assert ledger.judge(consumers["b"].wait_for(300), expected=before).exact
    assert ledger.judge(consumers["a"].wait_for(310)).exact

    with RecordingConsumer() as other:
        pool.add_producer("b", other.url)
        assert pool.forward_to("b", "again").ok
        assert other.wait_for(1) == [b"again"]


def test_producer_is_added_in_the_middle(pool: ProducerPool, consumers: Consumers) -> None:
    """It gets what is submitted from then on, and nothing from before."""
    ledger = Ledger()
    pool.submit_many(ledger.write_many(500))
    with RecordingConsumer() as late:
        pool.add_producer("late", late.url)
        after = ledger.write_many(500)
        pool.submit_many(after)

        assert pool.drain(wait=20)
        assert ledger.judge(late.wait_for(500), expected=after).exact
        assert ledger.judge(consumers["a"].wait_for(1000)).exact


def test_producer_is_removed_at_once(pool: ProducerPool, consumers: Consumers) -> None:
    """What it had not delivered is CANCELLED, and each result says so; the others do not notice."""
    ledger = Ledger()
    consumers["b"].stop_reading()
    receipts = [pool.submit(message) for message in ledger.write_many(400, size=64 * 1024)]
    eventually(lambda: consumers["b"].unread > 64 * 1024, "its kernel has the first one")
    pool.remove_producer("b", drain=False)
    results = [receipt.results(wait=20) for receipt in receipts]
    outcomes = [result["b"].outcome for result in results]
    delivered = [message for message, result in zip(ledger.sent, results, strict=True) if result["b"].ok]

    assert set(outcomes) <= {Outcome.DELIVERED, Outcome.CANCELLED}
    assert Outcome.CANCELLED in outcomes
    assert all(result["a"].ok and result["c"].ok for result in results)
    assert ledger.judge(consumers["a"].wait_for(400)).exact
    assert ledger.judge(consumers["c"].wait_for(400)).exact
    consumers["b"].read_on()
    record = consumers["b"].wait_for(1)
    assert ledger.judge(record, expected=delivered[: len(record)]).exact


def test_source_of_a_full_producer(pool: ProducerPool, consumers: Consumers) -> None:
    """With overflow=block, submit() waits for room at most the deadline, then raises; nobody got that one."""
    ledger = Ledger()
    accepted = []
    refused = 0
    with RecordingConsumer(reads=False, receive_buffer=8192) as stuck:
        url = f"{stuck.url}?overflow=block&buffer=200kB&timeout=600s&deadline=50ms"
        pool.add_producer("stuck", url)
        while refused < 5:
            message = ledger.write(size=100_000)
            began = time.monotonic()
            try:
                pool.submit(message)
                accepted.append(message)
            except Full:
                refused += 1
            assert time.monotonic() - began < BOUND
        pool.remove_producer("stuck", drain=False)

        assert ledger.judge(consumers["a"].wait_for(len(accepted)), expected=accepted).exact


def test_one_consumer_is_down(pool: ProducerPool, consumers: Consumers) -> None:
    """Its result has the error, check() raises all errors together, and the others have the message."""
    consumers["b"].go_away()
    results = pool.forward_to_all("one")
    results = pool.forward_to_all("two")

    assert list(results.failed) == ["b"]
    assert isinstance(results["b"].error, ConnectError)
    with pytest.raises(ExceptionGroup, match="not delivered to 1 of 3 producers"):
        results.check()
    assert consumers["a"].wait_for(2) == [b"one", b"two"]
    assert consumers["c"].wait_for(2) == [b"one", b"two"]


def test_pool_without_producers(caplog: pytest.LogCaptureFixture) -> None:
    """Results are empty, nothing is raised, and it is said once."""
    with ProducerPool() as pool:
        results = [pool.forward_to_all("into the void") for _ in range(3)]

    assert [len(result) for result in results] == [0, 0, 0]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_same_verbs_in_asyncio(consumers: Consumers) -> None:
    """They are awaited, and do the same."""
    ledger = Ledger()
    async with AsyncProducerPool() as pool:
        for name, consumer in consumers.items():
            await pool.add_producer(name, consumer.url)
        with pytest.raises(DuplicateProducer):
            await pool.add_producer("a", consumers["a"].url)
        with pytest.raises(UnknownProducer):
            await pool.forward_to_many(["a", "nobody"], "lost")
        to_one, to_two, *to_all = ledger.write_many(52)
        one = await pool.forward_to("a", to_one)
        two = await pool.forward_to_many(["a", "b"], to_two)
        results = [await pool.forward_to_all(message) for message in to_all]
        await pool.remove_producer("c")
        last = await pool.forward_to_all("last")

    assert one.ok
    assert two.ok
    assert all(result.ok for result in results)
    assert list(last) == ["a", "b"]
    assert consumers["a"].wait_for(53) == [*ledger.sent, b"last"]
    assert consumers["b"].wait_for(52) == [to_two, *to_all, b"last"]
    assert consumers["c"].wait_for(50) == to_all
