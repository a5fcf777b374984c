"""The loop thread of a pool: who sends, how it begins and ends, and what becomes of a forgotten pool."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

import producer_pool.pool
import producer_pool.worker
from producer_pool import (
    Batch,
    Client,
    DeliveryPolicy,
    Full,
    Limits,
    Outcome,
    Overflow,
    PoolClosed,
    ProducerPool,
    Receipt,
)
from producer_pool.builtin.null import NullClient
from producer_pool.delivery.engine import Engine
from producer_pool.lending import LendingLoop, Turn
from producer_pool.worker import Worker
from support.consumers import RecordingConsumer
from support.fake_clients import Unreachable
from support.processes import run_program
from support.waiting import BOUND, eventually


class Noting(NullClient):
    """Takes everything, and notes on which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.taken: list[bytes] = []

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.threads.append(threading.get_ident())
        for batch in batches:
            self.taken.extend(batch.messages[offset:])
            offset = 0
        return super().start(batches)


class Slow(Client):
    """Takes one message after the other, and none before it may."""

    protocol_name = "slow"
    address = "slow:"

    def __init__(self) -> None:
        self.may = threading.Event()
        self.messages: list[bytes] = []

    async def send(self, message: bytes) -> None:
        while not self.may.is_set():
            await asyncio.sleep(0.001)
        self.messages.append(message)


@pytest.fixture
def client() -> Noting:
    return Noting()


@pytest.fixture
def pool(client: Noting) -> Iterator[ProducerPool]:
    with ProducerPool() as pool:
        pool.add_producer("a", client)
        assert pool.forward_to("a", "warm up").ok
        yield pool


def begun(call: Callable[[], object]) -> threading.Thread:
    """Make *call* on another thread."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(BOUND)
    return not thread.is_alive()


# -- who sends -------------------------------------------------------------------------------------


def test_forward_while_the_loop_sleeps(pool: ProducerPool, client: Noting) -> None:
    """The message goes out on the caller's own thread."""

    def forwarded_here() -> bool:
        assert pool.forward_to("a", "hello").ok
        return client.threads[-1] == threading.get_ident()

    assert eventually(forwarded_here, "the loop slept")


def test_forward_while_the_loop_works(pool: ProducerPool, client: Noting) -> None:
    """The loop sends it as soon as it comes to it."""
    is_busy, enough = threading.Event(), threading.Event()

    async def work(engine: Engine) -> int:
        is_busy.set()
        assert enough.wait(BOUND)
        return threading.get_ident()

    loop_thread: list[int] = []
    thread = begun(lambda: loop_thread.append(pool.worker().run(work)))
    assert is_busy.wait(BOUND)
    client.threads.clear()

    result = pool.forward_to("a", "hello", wait=0.001)

    assert result.outcome is Outcome.PENDING
    assert not client.threads
    enough.set()
    assert pool.drain(wait=BOUND)
    assert ended(thread)
    assert client.threads == loop_thread
    assert client.taken[-1] == b"hello"


def test_forward_behind_what_was_submitted(pool: ProducerPool, client: Noting) -> None:
    """What the same thread submitted before goes out before, however short the way of a forward is."""
    expected = [b"warm up"]
    for number in range(200):
        expected += [b"submitted %d" % number, b"forwarded %d" % number]
        pool.submit(expected[-2])
        assert pool.forward_to("a", expected[-1]).ok

    assert client.taken == expected


def test_forward_while_a_call_waits_for_the_loop(pool: ProducerPool, client: Noting) -> None:
    """It does not pass what was asked of the loop before: who was added by then gets it, too."""
    other = Noting()
    pool.add_producer("other", other)
    # Its first message connects it, which takes the loop itself.
    assert pool.forward_to_all("hello", wait=BOUND).ok
    assert (client.taken[-1], other.taken) == (b"hello", [b"hello"])


def test_two_threads_forward(pool: ProducerPool, client: Noting) -> None:
    """Each message is sent once, in the order of its thread, whoever's turn it was."""
    failed: list[str] = []

    def forward(name: str) -> None:
        failed.extend(name for number in range(300) if not pool.forward_to("a", f"{name} {number}").ok)

    threads = [begun(lambda name=name: forward(name)) for name in ("x", "y")]  # type: ignore[misc]
    assert all(map(ended, threads))

    assert not failed
    assert len(client.taken) == 601
    for name in (b"x ", b"y "):
        assert [m for m in client.taken if m.startswith(name)] == [b"%b%d" % (name, n) for n in range(300)]
    counted = pool.stats().producers["a"]
    assert (counted.accepted, counted.delivered) == (601, 601)


def test_step_leaves_something_to_the_loop(pool: ProducerPool) -> None:
    """The loop is woken for what only it can do, such as awaiting a client's send()."""
    slow = Slow()
    slow.may.set()
    pool.add_producer("slow", slow)
    for number in range(20):
        assert pool.forward_to("slow", str(number), wait=BOUND).ok

    assert len(slow.messages) == 20


def test_step_that_is_interrupted_leaves_something_to_the_loop(pool: ProducerPool) -> None:
    """What was scheduled before an exception came out of a step is done, too."""

    class Interrupting(NullClient):
        armed = False

        def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
            if self.armed and threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return super().start(batches, offset)

    interrupting, slow = Interrupting(), Slow()
    slow.may.set()
    pool.add_producer("slow", slow)
    pool.add_producer("interrupting", interrupting)
    assert pool.forward_to_many(["slow", "interrupting"], "warm up").ok
    interrupting.armed = True

    def interrupted() -> bool:
        slow.messages.clear()
        try:
            pool.forward_to_many(["slow", "interrupting"], "hello", wait=BOUND)
        except KeyboardInterrupt:
            return True
        return False

    eventually(interrupted, "the loop slept")

    assert eventually(lambda: slow.messages, "the loop was woken") == [b"hello"]


def test_submitting_thread_leaves_nothing_behind() -> None:
    """A timer that runs for a day does not keep what was in the context of who submitted."""

    class Request:
        pass

    variable: contextvars.ContextVar[Request] = contextvars.ContextVar("variable")
    requests: list[weakref.ref[Request]] = []

    with ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=0)) as pool:
        pool.add_producer("a", Unreachable())
        assert pool.stats().producers["a"].pending == 0

        def serve() -> None:
            request = Request()
            variable.set(request)
            requests.append(weakref.ref(request))
            pool.submit("hello")

        assert ended(begun(serve))
        assert pool.stats().producers["a"].pending == 1
        gc.collect()

        assert requests[0]() is None


# -- how it begins ---------------------------------------------------------------------------------


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out, and the next call tries again."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    with ProducerPool() as pool:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.add_producer("a", NullClient())

        assert ended(begun(lambda: pool.add_producer("a", NullClient())))
        assert pool.forward_to("a", "hello", wait=BOUND).ok


def test_threads_start_a_pool_together() -> None:
    """One thread runs the loop, and all producers are on it."""
    with ProducerPool() as pool:
        ids = [f"p{number}" for number in range(8)]
        threads = [begun(lambda name=name: pool.add_producer(name, NullClient())) for name in ids]  # type: ignore[misc]
        assert all(map(ended, threads))

        assert sorted(pool.forward_to_all("hello", wait=BOUND)) == ids
        name = f"producer-pool-{id(pool.worker()):x}"
        # Those that were too late to run it may be about to end.
        eventually(lambda: [thread.name for thread in threading.enumerate()].count(name) == 1, "one runs it")


def test_closed_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds is told, and the thread ends."""
    starting, go_on = threading.Event(), threading.Event()

    def make(turn: Turn) -> LendingLoop:
        starting.set()
        assert go_on.wait(BOUND)
        return LendingLoop(turn)

    monkeypatch.setattr(producer_pool.worker, "LendingLoop", make)
    monkeypatch.setattr(producer_pool.pool, "GRACE", 0.0)
    pool = ProducerPool(limits=Limits(drain=0))
    refused: list[bool] = []

    def add() -> None:
        try:
            pool.add_producer("a", NullClient())
        except PoolClosed:
            refused.append(True)

    adding = begun(add)
    assert starting.wait(BOUND)
    (thread,) = [
        found for found in threading.enumerate() if found.name == f"producer-pool-{id(pool._worker):x}"
    ]
    pool.close()
    go_on.set()

    assert ended(adding)
    assert refused == [True]
    assert ended(thread)


# -- how it ends -----------------------------------------------------------------------------------


def test_close_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be called again, and closes."""
    monkeypatch.setattr(producer_pool.pool, "GRACE", 0.1)
    pool = ProducerPool(limits=Limits(drain=0))
    pool.add_producer("a", NullClient())
    worker = pool.worker()
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):

        def interrupted(drain: float) -> None:
            raise KeyboardInterrupt

        patched.setattr(worker, "ask_to_stop", interrupted)
        pool.close()

    pool.close()

    assert worker.join(BOUND)


def test_close_may_take_as_long_as_it_takes(pool: ProducerPool) -> None:
    """Infinite patience is no error."""
    pool.close(drain=float("inf"))

    assert pool.closed
    assert pool.stats().producers["a"].delivered == 1


def test_question_while_the_pool_closes() -> None:
    """Who waits for an answer is told that there will be none."""
    pool = ProducerPool(limits=Limits(drain=0))
    pool.add_producer("a", Unreachable())
    asking, told = threading.Event(), threading.Event()

    async def never(engine: Engine) -> None:
        asking.set()
        await asyncio.Event().wait()

    def ask() -> None:
        try:
            pool.worker().run(never)
        except PoolClosed:
            told.set()

    thread = begun(ask)
    assert asking.wait(BOUND)
    pool.close()

    assert ended(thread)
    assert told.is_set()


def forgotten(limits: Limits, client: Client) -> tuple["weakref.ref[ProducerPool]", Worker, Receipt]:
    """Make a pool, submit a message, and forget the pool."""
    pool = ProducerPool(limits=limits)
    pool.add_producer("a", client)
    receipt = pool.submit("hello")
    return weakref.ref(pool), pool.worker(), receipt


def test_forgotten_pool_drains_and_closes() -> None:
    """It can be collected while messages are on their way; these arrive, and the thread ends."""
    client = Slow()
    pool, worker, receipt = forgotten(Limits(drain=BOUND), client)
    gc.collect()
    # For a moment the thread has it, too: while it takes on the producer.
    eventually(lambda: pool() is None, "it is collected")

    assert not receipt.done
    client.may.set()
    assert receipt.results(wait=BOUND).ok
    assert worker.join(BOUND)
    assert client.messages == [b"hello"]


def test_forgotten_pool_whose_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """What is left is CANCELLED, and the log says so."""
    caplog.set_level(logging.INFO)
    _, worker, receipt = forgotten(Limits(drain=0.01), Unreachable())
    gc.collect()

    assert worker.join(BOUND)
    assert receipt.results(wait=BOUND)["a"].outcome is Outcome.CANCELLED
    assert "a: 1 message was not delivered before it was closed" in caplog.text


def test_program_ends_with_messages_on_their_way() -> None:
    """They are sent before it does."""
    with RecordingConsumer() as consumer:
        run_program(
            """
            import sys
            from producer_pool import ProducerPool

            pool = ProducerPool()
            pool.add_producer("a", f"tcp://127.0.0.1:{sys.argv[1]}")
            for number in range(100):
                pool.submit(str(number))
            """,
            consumer.port,
        )

        assert len(consumer.wait_for(100)) == 100


def test_wait_for_room_at_one_that_was_just_added() -> None:
    """Nobody is made to wait for longer than it allows, though it was not known yet when that began."""
    go_on = threading.Event()
    told: list[str] = []

    block = DeliveryPolicy(buffer=1000, overflow=Overflow.BLOCK, deadline=600)
    with ProducerPool(limits=Limits(drain=0.0)) as pool:

        def submit() -> None:
            try:
                pool.submit(b"x", to=["stuck", "hasty"])
            except Full as error:
                told.append(str(error))

        def stand_still() -> None:
            go_on.wait(BOUND)

        pool.add_producer("stuck", Unreachable(), policy=block)
        pool.submit(bytes(2000), to="stuck")
        eventually(lambda: pool._log.stuck(("stuck",)), "it has no room")
        pool._log.call(stand_still)
        pool.add_producer("hasty", NullClient(), policy=DeliveryPolicy(deadline=0.1))
        waits = threading.Thread(target=submit, daemon=True)
        waits.start()
        eventually(lambda: pool._log._waiting, "it waits")
        go_on.set()
        waits.join(BOUND)

    assert told == ["stuck: no room within 0.1 s (overflow=block); nothing was accepted"]


def test_program_ends_with_a_client_that_hangs() -> None:
    """It ends all the same, in bounded time, and says what was lost."""
    said = run_program(
        """
        import asyncio, logging
        from producer_pool import Client, Limits, ProducerPool

        class Hanging(Client):
            protocol_name = "hanging"
            address = "hanging:"

            async def send(self, message):
                while True:
                    try:
                        await asyncio.sleep(3600)
                    except asyncio.CancelledError:
                        pass

        logging.basicConfig()
        pool = ProducerPool(limits=Limits(drain=0.01))
        pool.add_producer("a", Hanging())
        pool.submit("hello")
        """
    )

    assert "a: 1 message was not delivered before it was closed" in said.stderr


def test_thread_ends_while_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others still get their time."""
    asked: list[int] = []
    live: set[object] = set()

    class Ending:
        """Stands for a worker whose thread ends as soon as it is looked at."""

        limits = Limits()

        @property
        def entrance(self) -> object:
            live.discard(self)
            return ProducerPool()._entrance

        def ask_to_stop(self, drain: float) -> None:
            asked.append(id(self))

        def join(self, wait: float) -> None:
            pass

    live.update(Ending() for _ in range(3))
    monkeypatch.setattr(producer_pool.worker, "_LIVE", live)

    producer_pool.worker._at_exit()

    assert len(asked) == 3
