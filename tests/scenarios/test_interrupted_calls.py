"""Signals whose handlers raise, on the main thread, in the middle of a pool's verbs."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import producer_pool
from producer_pool import Batch, Full, Limits, ProducerPool
from producer_pool.builtin.null import NullClient
from support.consumers import RecordingConsumer
from support.interrupts import interrupted_at, points
from support.ledger import Ledger
from support.processes import run_program
from support.waiting import BOUND, eventually

PACKAGE = Path(producer_pool.__file__).parent
STDLIB = Path(threading.__file__).parent


@pytest.fixture
def consumer() -> Iterator[RecordingConsumer]:
    with RecordingConsumer() as consumer:
        yield consumer


@pytest.fixture
def pool(consumer: RecordingConsumer) -> Iterator[ProducerPool]:
    with ProducerPool(limits=Limits(drain=1)) as pool:
        pool.add_producer("a", consumer.url)
        pool.forward_to_all("warm up")
        yield pool


def submitted_elsewhere(pool: ProducerPool, ledger: Ledger) -> bool:
    """Submit from another thread, which does nobody's work but its own; return whether it is delivered."""
    delivered = []

    def submit() -> None:
        delivered.append(pool.submit(ledger.write("elsewhere"), to="a").results(wait=BOUND).ok)

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    thread.join(BOUND)
    return delivered == [True]


@pytest.mark.parametrize("folder", [PACKAGE, STDLIB], ids=["in the pool", "in the standard library"])
@pytest.mark.parametrize("verb", ["forward_to_all", "submit", "stats", "drain"])
def test_interrupt_at_every_point_of_a_verb(
    pool: ProducerPool, consumer: RecordingConsumer, verb: str, folder: Path
) -> None:
    """Wherever it strikes: the pool goes on, the program's handlers are in place, nothing is doubled."""
    ledger = Ledger()
    verbs: dict[str, Callable[[], object]] = {
        "forward_to_all": lambda: pool.forward_to_all(ledger.write()),
        "submit": lambda: pool.submit(ledger.write()),
        "stats": pool.stats,
        "drain": pool.drain,
    }
    call = verbs[verb]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    count = points(call, folder, before=pool.drain)
    struck = 0
    for number in range(1, count + 1):
        pool.drain()
        where = interrupted_at(number, call, folder)
        struck += bool(where)

        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers, where
        assert submitted_elsewhere(pool, ledger), where

    assert struck > 0
    assert pool.drain(wait=BOUND)
    counted = pool.stats().producers["a"]
    assert counted.accepted == counted.delivered
    verdict = ledger.judge(consumer.wait_for(counted.delivered)[1:])
    assert not verdict.doubled
    assert not verdict.corrupt
    assert not verdict.disordered
    assert len(consumer.messages) == counted.delivered


@pytest.mark.parametrize("folder", [PACKAGE, STDLIB], ids=["in the pool", "in the standard library"])
def test_interrupt_while_waiting_for_room(pool: ProducerPool, folder: Path) -> None:
    """Wherever it strikes: others get their messages through, and who waits gets room or an error in time."""
    ledger = Ledger()

    def submit() -> None:
        with suppress(Full):
            pool.submit(b"x" * 100_000, to="stuck")

    with RecordingConsumer(reads=False, receive_buffer=8192) as stuck:
        url = f"{stuck.url}?overflow=block&buffer=200kB&timeout=600s&deadline=30ms"
        pool.add_producer("stuck", url)
        for _ in range(100):  # More than the kernel's buffers take.
            submit()
        count = points(submit, folder, before=submit)
        for number in range(1, count + 1):
            where = interrupted_at(number, submit, folder)

            assert submitted_elsewhere(pool, ledger), where
        pool.remove_producer("stuck", drain=False)


def test_two_signals_in_one_step(pool: ProducerPool) -> None:
    """Both handlers are called, though the first one raises; and both stay in place."""
    called: list[int] = []

    class Signalling(NullClient):
        def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)
            return super().start(batches, offset)

    def handler(number: int, _: object) -> None:
        called.append(number)
        raise LookupError(number)

    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        pool.add_producer("signalling", Signalling())
        # Where the pool's own thread takes the step, they are handled one after the other.
        with suppress(LookupError), suppress(LookupError):
            pool.forward_to("signalling", "hello")

        eventually(lambda: sorted(called) == sorted(numbers), "both were handled")
        assert [signal.getsignal(number) for number in numbers] == [handler, handler]
    finally:
        for number, original in zip(numbers, before, strict=True):
            signal.signal(number, original)


def test_timer_raises_in_a_tight_loop() -> None:
    """Thousands of interrupts later each message that was accepted has arrived once and in order."""
    program = """
        import signal, sys, time
        from producer_pool import ProducerPool

        class Interrupted(Exception):
            pass

        armed = False

        def handler(signum, frame):
            if armed:
                raise Interrupted

        def ring(on):
            signal.setitimer(signal.ITIMER_REAL, 0.0007 if on else 0, 0.0003 if on else 0)

        pool = ProducerPool()
        pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
        pool.add_producer("b", f"tcp://127.0.0.1:{sys.argv[2]}")
        signal.signal(signal.SIGALRM, handler)
        ok = interrupts = number = 0
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                armed = True
                ring(True)
                while True:
                    number += 1
                    assert pool.forward_to_all(b"%d" % number, wait=10).ok
                    ok += 1
            except Interrupted:
                armed = False  # first: on a busy machine the next signal has come by now
                ring(False)
                interrupts += 1
        assert pool.drain(wait=10)
        stats = pool.stats().producers
        pool.close()
        for one in stats.values():
            assert one.accepted == one.delivered, one
            assert ok <= one.delivered <= ok + interrupts, (ok, interrupts, one)
        print(stats["a"].delivered, interrupts)
    """
    with RecordingConsumer() as a, RecordingConsumer() as b:
        delivered, interrupts = map(int, run_program(program, a.port, b.port).stdout.split())

        for consumer in (a, b):
            numbers = [int(message) for message in consumer.wait_for(delivered)]
            assert len(numbers) == delivered
            assert numbers == sorted(set(numbers))
        assert interrupts > 10


def test_ctrl_c_while_waiting() -> None:
    """KeyboardInterrupt comes out of the call that waits, at once, and the pool can still be used."""
    program = """
        import os, signal, sys, threading, time
        from producer_pool import Limits, ProducerPool

        with ProducerPool(limits=Limits(drain=0.1)) as pool:
            pool.add_producer("stuck", f"tcp://127.0.0.1:{sys.argv[1]}", timeout=600)
            pool.add_producer("well", f"tcp://127.0.0.1:{sys.argv[2]}")
            def interrupt():
                while pool.stats().producers["well"].accepted == accepted and call != pool.drain:
                    time.sleep(0.01)
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGINT)

            for call in (lambda: pool.forward_to_all(b"x" * 1_000_000), pool.drain):
                for _ in range(20):
                    pool.submit(b"x" * 1_000_000, to="stuck")
                accepted = pool.stats().producers["well"].accepted
                try:
                    threading.Thread(target=interrupt).start()
                    call()
                except KeyboardInterrupt:
                    print("interrupted", pool.forward_to("well", "still here").ok)
    """
    with RecordingConsumer(reads=False) as stuck, RecordingConsumer() as well:
        ended = run_program(program, stuck.port, well.port)

        assert ended.stdout == "interrupted True\ninterrupted True\n"
        assert well.wait_for(3)[-1] == b"still here"
