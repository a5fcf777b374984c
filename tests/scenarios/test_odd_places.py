"""A pool called from where one hardly looks: its own thread, finalizers, signal handlers, forked children."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import producer_pool
from producer_pool import Client, Limits, PoolClosed, ProducerPool, Receipt, WrongThread
from support.consumers import RecordingConsumer
from support.interrupts import interrupted_at, points
from support.ledger import Ledger
from support.processes import run_program
from support.waiting import BOUND, eventually

PACKAGE = Path(producer_pool.__file__).parent


@pytest.fixture
def consumer() -> Iterator[RecordingConsumer]:
    with RecordingConsumer() as consumer:
        yield consumer


class Calling(Client):
    """A client that calls something on the pool's own thread, once, and remembers how that went."""

    protocol_name = "calling"
    address = "the pool's own thread"

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call
        self.returned: object = None
        self.raised: Exception | None = None
        self.done = threading.Event()

    async def send(self, message: bytes) -> None:
        call, self._call = self._call, None
        if call is not None:
            try:
                self.returned = call()
            except Exception as error:
                self.raised = error
            self.done.set()


@pytest.mark.parametrize(
    "verb",
    [
        "forward_to_all",
        "forward_to",
        "forward_to_many",
        "remove_producer",
        "stats",
        "health",
        "check",
        "drain",
        "close",
        "results",
    ],
)
def test_waiting_verb_on_the_pool_s_own_thread(consumer: RecordingConsumer, verb: str) -> None:
    """It raises at once instead of waiting for itself, and says what to call there; nothing is sent."""
    calls: dict[str, Callable[[], object]] = {
        "forward_to_all": lambda: pool.forward_to_all("lost"),
        "forward_to": lambda: pool.forward_to("a", "lost"),
        "forward_to_many": lambda: pool.forward_to_many(["a"], "lost"),
        "remove_producer": lambda: pool.remove_producer("a"),
        "stats": lambda: pool.stats(),
        "health": lambda: pool.health(),
        "check": lambda: pool.check(),
        "drain": lambda: pool.drain(),
        "close": lambda: pool.close(),
        "results": lambda: pool.submit("one", to="calling").results(),
    }
    client = Calling(calls[verb])
    with ProducerPool() as pool:
        pool.add_producer("a", consumer.url)
        pool.add_producer("calling", client)
        assert pool.forward_to("calling", "go").ok
        assert pool.forward_to("a", "after").ok

        assert isinstance(client.raised, WrongThread)
        assert "submit()" in str(client.raised)
        eventually(lambda: consumer.messages[-1:] == [b"after"], "what was sent after it")
        assert pool.producers == ("a", "calling")


def test_submit_on_the_pool_s_own_thread(consumer: RecordingConsumer) -> None:
    """It works, and the receipt can be asked elsewhere."""
    client = Calling(lambda: pool.submit("from inside", to="a"))
    with ProducerPool() as pool:
        pool.add_producer("a", consumer.url)
        pool.add_producer("calling", client)
        pool.submit("go", to="calling")
        assert client.done.wait(BOUND)
        receipt = client.returned

        assert isinstance(receipt, Receipt)
        assert receipt.results(wait=BOUND).ok
        assert consumer.wait_for(1) == [b"from inside"]


def test_submit_from_finalizers(consumer: RecordingConsumer) -> None:
    """Garbage that submits in __del__, in the middle of submit(), blocks nobody; all arrives once."""
    program = """
        import gc, sys
        from producer_pool import ProducerPool

        class Garbage:
            def __init__(self, number):
                self.itself, self.number = self, number

            def __del__(self):
                pool.submit(b"garbage %d" % self.number)

        gc.set_threshold(1)  # Collect wherever something is allocated.
        with ProducerPool() as pool:
            pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}", timeout=600)
            for number in range(2000):
                Garbage(number)
                pool.submit(b"main %d" % number)
            gc.collect()
            assert pool.drain(wait=600)
    """
    run_program(program, consumer.port)
    record = consumer.wait_for(4000)

    assert len(record) == 4000
    assert [m for m in record if m.startswith(b"main")] == [b"main %d" % number for number in range(2000)]
    assert {m for m in record if m.startswith(b"garbage")} == {b"garbage %d" % n for n in range(2000)}


def test_submit_from_a_signal_handler(consumer: RecordingConsumer) -> None:
    """Handlers that submit, in the middle of submit() and forward(), block nobody; all arrives once."""
    program = """
        import signal, sys, time
        from producer_pool import ProducerPool

        rings = 0

        def handler(signum, frame):
            global rings
            rings += 1
            pool.submit(b"handler %d" % rings)

        with ProducerPool() as pool:
            pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
            pool.add_producer("b", "null:")
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            number = 0
            end = time.monotonic() + 1
            while time.monotonic() < end:
                pool.submit(b"main %d" % number)
                assert pool.forward_to_all(b"main %d" % (number + 1), wait=10).ok
                number += 2
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert pool.drain(wait=10)
        print(number, rings)
    """
    number, rings = map(int, run_program(program, consumer.port).stdout.split())
    record = consumer.wait_for(number + rings)

    assert len(record) == len(set(record)) == number + rings
    assert [m for m in record if m.startswith(b"main")] == [b"main %d" % n for n in range(number)]
    assert rings > 10


@pytest.mark.parametrize("interrupted", ["submit", "forward_to_all", "add_producer"])
@pytest.mark.parametrize("verb", ["submit", "forward_to_all"])
def test_signal_handler_at_every_point(consumer: RecordingConsumer, interrupted: str, verb: str) -> None:
    """Its message arrives; a verb that would have to wait for what it interrupts raises and sends nothing."""
    ledger = Ledger()
    expected: list[bytes] = []
    refused = 0

    def call() -> None:
        if interrupted == "add_producer":
            pool.add_producer(f"null-{next(numbers)}", "null:")
        else:
            expected.append(ledger.write("main"))
            verbs[interrupted](expected[-1])

    def handler(number: int, frame: object) -> None:
        nonlocal refused
        message = ledger.write("handler")
        try:
            verbs[verb](message)
        except WrongThread:
            refused += 1
        else:
            expected.append(message)

    def forward(message: bytes) -> None:
        assert pool.forward_to_all(message, wait=BOUND)["a"].ok

    numbers = itertools.count()
    with ProducerPool(limits=Limits(drain=1)) as pool:
        verbs: dict[str, Callable[[bytes], object]] = {"submit": pool.submit, "forward_to_all": forward}
        pool.add_producer("a", consumer.url)
        pool.forward_to_all("warm up")
        count = points(call, PACKAGE / "delivery", before=pool.drain)
        for number in range(1, count + 1):
            pool.drain()
            interrupted_at(number, call, PACKAGE / "delivery", handler)
        assert pool.drain(wait=BOUND)
        record = consumer.wait_for(len(expected) + 1)[1:]

        assert count > 3
        assert ledger.judge(record, expected=expected).exact
        assert not (refused and verb == "submit")


def test_other_thread_at_every_point_of_a_submit(consumer: RecordingConsumer) -> None:
    """Wherever another thread submits and the loop takes what is there: every message has its own result."""
    ledger = Ledger()
    receipts: list[Receipt] = []
    threads: list[threading.Thread] = []

    def submit() -> None:
        receipts.append(pool.submit(ledger.write("here")))

    def elsewhere(sender: str) -> None:
        receipt = pool.submit(ledger.write(sender))
        receipts.append(receipt)
        receipt.results(wait=BOUND)

    def cut_in(signum: int, frame: object) -> None:
        # A sender for each: between two threads there is no order.
        threads.append(threading.Thread(target=elsewhere, args=(f"elsewhere{len(threads)}",), daemon=True))
        threads[-1].start()
        threads[-1].join(0.05)  # It has to wait where the submit holds the lock.

    with ProducerPool(limits=Limits(drain=1)) as pool:
        pool.add_producer("a", consumer.url)
        count = points(submit, PACKAGE / "delivery", before=pool.drain)
        for number in range(1, count + 1):
            pool.drain()
            interrupted_at(number, submit, PACKAGE / "delivery", cut_in)
        for thread in threads:
            thread.join(BOUND)

        assert len(threads) > 3
        assert all(receipt.results(wait=BOUND).ok for receipt in receipts)
        assert ledger.judge(consumer.wait_for(len(ledger.sent))).exact


def test_forked_child(consumer: RecordingConsumer) -> None:
    """Every verb is refused in the child and says why; the parent goes on; a new pool works in the child."""
    program = """
        import os, sys, threading
        from producer_pool import ForkedPool, ProducerPool, get_producer_pool

        url = f"tcp://127.0.0.1:{sys.argv[1]}"
        pool = ProducerPool()
        pool.add_producer("a", url)
        receipt = pool.submit("parent 1")
        assert receipt.results(wait=10).ok

        def child():
            verbs = [
                lambda: pool.submit("child"), lambda: pool.forward_to_all("child"), pool.stats, pool.health,
                lambda: pool.forward_to("a", "child"), pool.check, pool.drain, pool.close,
                lambda: pool.add_producer("b", url), lambda: pool.remove_producer("a"),
                lambda: pool.submit_many(["child"]),
            ]
            for verb in verbs:
                try:
                    verb()
                except ForkedPool as error:
                    assert "make a new pool in the child" in str(error)
                else:
                    raise AssertionError("not refused")
            with ProducerPool() as own:
                own.add_producer("a", url)
                assert own.forward_to_all("child's own").ok
            get_producer_pool().add_producer("a", url)
            assert get_producer_pool().forward_to_all("child's process-wide").ok

        get_producer_pool().add_producer("a", url)
        get_producer_pool().submit("parent's process-wide")
        pid = os.fork()
        if not pid:
            child()
            sys.exit(0)  # Finalizers and atexit run: they must leave the parent's connections alone.
        _, status = os.waitpid(pid, 0)
        assert pool.forward_to_all("parent 2", wait=10).ok
        assert pool.stats().producers["a"].connects == 1
        pool.close()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    run_program(program, consumer.port)
    record = consumer.wait_for(5)

    assert sorted(record) == sorted(
        [b"parent 1", b"parent 2", b"parent's process-wide", b"child's own", b"child's process-wide"]
    )


def test_fork_while_threads_submit(consumer: RecordingConsumer) -> None:
    """Whatever lock was held when it happened: the child is refused at once, and the parent loses nothing."""
    program = """
        import os, sys, threading
        from producer_pool import ForkedPool, ProducerPool

        over = threading.Event()
        counts = [0] * 4
        with ProducerPool() as pool:
            pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}", timeout=600)

            def work(index):
                while not over.is_set():
                    pool.submit(b"%d/%d" % (index, counts[index]))
                    counts[index] += 1

            threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                pid = os.fork()
                if not pid:
                    try:
                        pool.submit("from the child")
                    except ForkedPool:
                        os._exit(0)
                    os._exit(1)
                _, status = os.waitpid(pid, 0)
                assert status == 0, status
            over.set()
            for thread in threads:
                thread.join()
            assert pool.drain(wait=600)
        print(*counts)
    """
    counts = list(map(int, run_program(program, consumer.port).stdout.split()))
    record = consumer.wait_for(sum(counts))

    for index, count in enumerate(counts):
        prefix = b"%d/" % index
        assert [m for m in record if m.startswith(prefix)] == [b"%d/%d" % (index, n) for n in range(count)]
    assert len(record) == sum(counts)


def test_pool_is_closed_while_others_call_it(consumer: RecordingConsumer) -> None:
    """Each call that was under way returns or raises PoolClosed; none waits for ever, and nothing is lost."""
    ledger = Ledger()
    started = threading.Barrier(9)
    delivered: list[bytes] = []
    surprises: list[BaseException] = []

    def call(number: int) -> None:
        verbs: list[Callable[[], object]] = [pool.stats, pool.health, pool.drain, pool.check]
        try:
            started.wait(BOUND)
            while True:
                message = ledger.write(f"caller{number}")
                if pool.forward_to_all(message)["a"].ok:
                    delivered.append(message)
                verbs[number % 4]()
        except PoolClosed:
            pass
        except BaseException as error:
            surprises.append(error)

    for _ in range(5):
        pool = ProducerPool(limits=Limits(drain=1.0))
        pool.add_producer("a", consumer.url)
        threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        started.wait(BOUND)
        pool.forward_to_all(ledger.write("main"))
        pool.close()
        for thread in threads:
            thread.join(BOUND)

        assert not any(thread.is_alive() for thread in threads)
        assert surprises == []
    # More may have arrived than was called delivered: what was on its way when the pool was closed.
    eventually(lambda: set(delivered) <= set(consumer.messages), "all that was called delivered")

    assert not ledger.judge(consumer.messages).doubled


def test_calls_after_the_end() -> None:
    """They raise PoolClosed, each with a traceback of its own, however often."""
    pool = ProducerPool()
    pool.add_producer("null", "null:")
    pool.close()
    pool.close()
    depths = []
    for _ in range(5):
        with pytest.raises(PoolClosed, match="the pool is closed") as raised:
            pool.submit("too late")
        depths.append(len(list(raised.traceback)))

    assert len(set(depths)) == 1
