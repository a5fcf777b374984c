"""Many threads on one pool, with the interpreter changing threads as often as it can."""

import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from producer_pool import ForwardResult, Limits, Outcome, ProducerPool, Receipt, UnknownProducer
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.waiting import BOUND, eventually

THREADS = 32
EACH = 150
"""Messages of one thread."""

LONG = 10 * BOUND

LIMITS = Limits(drain=1)
"""A pool that is broken does not keep the test waiting."""


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(jobs: list[Callable[[], object]]) -> None:
    """Run each job on a thread of its own, all of them starting together; raise what one raises."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        barrier.wait(BOUND)
        job()

    with ThreadPoolExecutor(len(jobs)) as executor:
        for done in [executor.submit(run, job) for job in jobs]:
            done.result(2 * BOUND)


def test_threads_forward_submit_add_and_remove() -> None:
    """Nothing is lost or doubled, each thread's order holds, and every result says what its consumer has."""
    ledger = Ledger()
    lock = threading.Lock()
    delivered: dict[str, list[bytes]] = {"first": [], "second": [], "guest": []}
    receipts: list[tuple[bytes, Receipt]] = []
    added = itertools.count()

    def note(message: bytes, results: Mapping[str, ForwardResult]) -> None:
        with lock:
            for name, result in results.items():
                assert result.outcome in (Outcome.DELIVERED, Outcome.CANCELLED)
                if result.ok:
                    delivered[name.partition("-")[0]].append(message)

    def forward(number: int) -> None:
        for _ in range(EACH):
            message = ledger.write(f"forward{number}")
            note(message, pool.forward_to_all(message, wait=BOUND))

    def submit(number: int) -> None:
        for _ in range(EACH):
            message = ledger.write(f"submit{number}")
            receipt = pool.submit(message)
            with lock:
                receipts.append((message, receipt))

    def choose(number: int) -> None:
        for turn in range(EACH):
            message = ledger.write(f"choose{number}")
            if turn % 2:
                result = pool.forward_to("first", message, wait=BOUND)
                note(message, {"first": result})
            else:
                note(message, pool.forward_to_many(["second", "first"], message, wait=BOUND))

    def come_and_go(number: int) -> None:
        for turn in range(5):
            name = f"guest-{next(added)}"
            pool.add_producer(name, guest.url, timeout=LONG)
            message = ledger.write(f"guest{number}")
            try:
                note(message, {name: pool.forward_to(name, message, wait=BOUND)})
            except UnknownProducer as error:
                raise AssertionError("it was added before") from error
            pool.remove_producer(name, drain=turn % 2 == 0)

    with (
        RecordingConsumer() as first,
        RecordingConsumer() as second,
        RecordingConsumer() as guest,
        ProducerPool(limits=LIMITS) as pool,
    ):
        pool.add_producer("first", first.url, timeout=LONG)
        pool.add_producer("second", second.url, timeout=LONG)
        quarter = range(THREADS // 4)
        verbs = (forward, submit, choose, come_and_go)
        at_once([partial(verb, number) for verb in verbs for number in quarter])
        for message, receipt in receipts:
            note(message, receipt.results(wait=BOUND))
        stats = pool.stats().producers

        for name, consumer in (("first", first), ("second", second)):
            counted = stats[name]
            assert counted.accepted == counted.delivered == len(delivered[name])
            record = consumer.wait_for(counted.delivered)
            assert ledger.judge(record, expected=delivered[name]).exact
        wanted = Counter(delivered["guest"])
        eventually(lambda: wanted <= Counter(guest.messages), "all that was called delivered")
        for stream in guest.streams:  # Each guest has a connection of its own.
            verdict = ledger.judge(stream.messages)
            assert not verdict.corrupt
            assert not verdict.doubled
            assert not verdict.disordered


def test_threads_forward_while_the_loop_sends() -> None:
    """Callers that do the loop's step themselves and the loop that sends large batches do not collide."""
    ledger = Ledger()

    def forward(number: int) -> None:
        for message in ledger.write_many(EACH, f"forward{number}"):
            assert pool.forward_to_all(message, wait=BOUND).ok

    def submit(number: int) -> None:
        for message in ledger.write_many(20 * EACH, f"submit{number}", size=500):
            pool.submit(message)

    with (
        RecordingConsumer() as first,
        RecordingConsumer() as second,
        ProducerPool(limits=LIMITS) as pool,
    ):
        pool.add_producer("first", first.url, timeout=LONG)
        pool.add_producer("second", second.url, timeout=LONG)
        at_once([*(partial(forward, number) for number in range(8)), *(partial(submit, n) for n in range(4))])

        assert pool.drain(wait=BOUND)
        for consumer in (first, second):
            assert ledger.judge(consumer.wait_for(len(ledger.sent))).exact


def test_threads_while_a_consumer_comes_and_goes() -> None:
    """Each message has one outcome at each consumer, whatever happens, and the counters add up."""
    ledger = Ledger()
    over = threading.Event()

    def forward(number: int) -> list[Outcome]:
        messages = ledger.write_many(2 * EACH, f"forward{number}")
        return [pool.forward_to_all(message, wait=BOUND)["restless"].outcome for message in messages]

    def disturb() -> None:
        while not over.is_set():
            restless.go_away()
            restless.come_back()
            over.wait(0.002)

    with (
        RecordingConsumer() as steady,
        RecordingConsumer() as restless,
        ProducerPool(limits=LIMITS) as pool,
    ):
        pool.add_producer("steady", steady.url, timeout=LONG)
        pool.add_producer("restless", restless.url, timeout=LONG)
        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            with ThreadPoolExecutor(8) as executor:
                outcomes = [one for done in executor.map(forward, range(8)) for one in done]
        finally:
            over.set()
            disturber.join(BOUND)
        counted = pool.stats().producers["restless"]

        assert ledger.judge(steady.wait_for(len(ledger.sent))).exact
        assert (counted.accepted, counted.pending) == (len(ledger.sent), 0)
        assert counted.delivered == outcomes.count(Outcome.DELIVERED)
        assert counted.failed == outcomes.count(Outcome.FAILED)
        verdict = ledger.judge(restless.messages)
        assert not verdict.corrupt
        assert not verdict.doubled
