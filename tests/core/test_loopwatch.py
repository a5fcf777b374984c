"""What holds up the loop is named, once, and again when it is over; and nothing is lost by it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from producer_pool import AsyncProducerPool, Batch, DeliveryPolicy, Limits, ProducerPool
from producer_pool.contract.ports import Client, Intake, Listener
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.loopwatch import LoopWatch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import MiB
from producer_pool.model.stats import Health, ListenerStats
from support.fake_clients import FakeClient, FakePipelinedClient
from support.waiting import BOUND, eventually

AFTER = 0.2
RELAY = DeliveryPolicy.relay()
STILL = "the event loop has stood still for 200ms, because of"


class Stuck:
    """Code that blocks its thread when it is told to, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.blocks = True

    def block(self) -> None:
        if self.blocks:
            self.blocks = False
            self.let_go.wait(30)


class StuckClient(FakePipelinedClient):
    def __init__(self, stuck: Stuck) -> None:
        super().__init__()
        self.stuck = stuck

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.stuck.block()
        return super().start(batches, offset)


class StuckPlainClient(FakeClient):
    def __init__(self, stuck: Stuck) -> None:
        super().__init__()
        self.stuck = stuck

    async def send(self, message: bytes) -> None:
        self.stuck.block()
        await super().send(message)


def said(log: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in log.records if text in record.getMessage()]


def said_of_it(log: pytest.LogCaptureFixture, text: str) -> list[str]:
    """Return what was said of Stuck.block(): on a busy machine a loop may stand still elsewhere, too."""
    return [line for line in said(log, text) if "block() (" in line]


@contextmanager
def noticed(log: pytest.LogCaptureFixture, stuck: Stuck) -> Iterator[list[str]]:
    """After the body, wait for the watchdog to say what blocks; let it go, and wait until it says so, too."""
    told: list[str] = []
    try:
        yield told
        eventually(lambda: said_of_it(log, "stood still for 200ms"), "it says what blocks")
    finally:
        stuck.let_go.set()
    eventually(lambda: said_of_it(log, "goes on"), "it says that it is over")
    told += said_of_it(log, "stood still for")


@pytest.mark.parametrize("kind", [StuckClient, StuckPlainClient])
def test_client_that_blocks(kind: Callable[[Stuck], Client], caplog: pytest.LogCaptureFixture) -> None:
    """Its producer, function and line are named, once; then, how long it took. Nobody's messages are lost."""
    stuck = Stuck()
    client, well = kind(stuck), FakePipelinedClient()
    with ProducerPool(policy=RELAY, limits=Limits(watchdog=AFTER)) as pool:
        pool.add_producer("well", well)
        pool.add_producer("blocks", client)
        pool.check()
        with noticed(caplog, stuck) as told:
            for number in range(100):
                pool.submit(b"%d" % number)
            time.sleep(3 * AFTER)  # Long enough for it to be said again, if that were so.
        assert pool.drain(wait=BOUND)
    expected = [b"%d" % number for number in range(100)]

    assert well.messages == expected
    assert client.messages == expected  # type: ignore[attr-defined]
    assert len(told) == 2
    assert told[0].startswith(f"{STILL} the client of blocks, in wait() (")
    assert f"called by block() (core/{__file__.rpartition('/')[2]}, line " in told[0]
    assert "the event loop goes on: it stood still for" in told[1]
    assert "the client of blocks" in told[1]


def test_client_that_blocks_the_thread_of_a_caller(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that waits for its answer may do the loop's work: then it is the one that is looked at."""
    stuck = Stuck()
    client = StuckClient(stuck)
    with ProducerPool(limits=Limits(watchdog=AFTER)) as pool:
        pool.add_producer("blocks", client)
        pool.check()
        caller = threading.Thread(target=pool.forward_to_all, args=(b"x",))
        with noticed(caplog, stuck) as told:
            caller.start()
        caller.join()

    assert told[0].startswith(f"{STILL} the client of blocks")
    assert client.messages == [b"x"]


async def blocked(
    caplog: pytest.LogCaptureFixture, stuck: Stuck, act: Callable[[Engine], object], *producers: Producer
) -> list[str]:
    """Let *act* block the running loop with an engine on it, and return what was said of that."""
    engine = Engine(Limits(buffer=64 * MiB))
    for producer in producers:
        engine.add(producer)
    await asyncio.sleep(0.05)
    watch = LoopWatch(asyncio.get_running_loop(), AFTER)
    helper = threading.Thread(target=_let_go_when_noticed, args=(caplog, stuck))
    helper.start()
    try:
        act(engine)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(BOUND):
            while not said_of_it(caplog, "goes on"):
                await asyncio.sleep(0.01)
    finally:
        stuck.let_go.set()
        helper.join()
        watch.end()
        await engine.aclose(0)
    return said_of_it(caplog, "stood still for 200ms")


def _let_go_when_noticed(caplog: pytest.LogCaptureFixture, stuck: Stuck) -> None:
    try:
        eventually(lambda: said_of_it(caplog, "stood still for 200ms"), "it says what blocks")
    finally:
        stuck.let_go.set()


async def test_stage_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """It is told from the client of the same producer."""
    stuck = Stuck()

    def stage(batch: Batch) -> Batch:
        stuck.block()
        return batch

    producer = Producer("audit", FakeClient(), stages=[stage])
    told = await blocked(caplog, stuck, lambda engine: engine.feed(Batch.of([b"x"])), producer)

    assert told[0].startswith(f"{STILL} a stage of audit, in wait() (")
    assert ", called by block() (" in told[0]


async def test_observer_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """It is named by its class."""
    stuck = Stuck()

    class Sleepy:
        def state_changed(self, health: Health) -> None:
            pass

        def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
            stuck.block()

    def act(engine: Engine) -> None:
        engine.observers.extend([Sleepy()])
        engine.feed(Batch.of([b"x"]))

    told = await blocked(caplog, stuck, act, Producer("audit", FakeClient()))

    assert told[0].startswith(f"{STILL} the observer Sleepy, ")


async def test_listener_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """So is a listener, unless it is inside of a producer at that moment."""
    stuck = Stuck()

    class Sleepy(Listener):
        def __init__(self) -> None:
            self.stats = ListenerStats()

        async def start(self, intake: Intake) -> Endpoint:
            return Endpoint.parse("fake:")

        async def stop_accepting(self) -> None:
            pass

        async def drain(self) -> None:
            pass

        async def aclose(self) -> None:
            pass

        def read(self) -> None:
            stuck.block()

    listener = Sleepy()
    told = await blocked(caplog, stuck, lambda engine: listener.read())

    assert told[0].startswith(f"{STILL} the listener Sleepy, ")


async def test_loop_that_turns(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of many short calls, and nothing of a pool that is not watched."""
    caplog.set_level(logging.DEBUG)
    watch = LoopWatch(asyncio.get_running_loop(), AFTER)
    longest = 0.0
    turned = began = time.monotonic()
    while turned < began + 3 * AFTER:
        await asyncio.sleep(0)
        before, turned = turned, time.monotonic()
        longest = max(longest, turned - before)
    watch.end()
    earlier = watchdogs()
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", FakeClient())

        assert not watchdogs() - earlier

    # A busy machine may have kept the loop from turning; it has two turns to answer in.
    assert said(caplog, "stood still") == [] or longest >= AFTER / 2


def watchdogs() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "watchdog" in thread.name}


async def test_end_of_the_watch() -> None:
    """Its thread is gone, with the pool; or with the loop, if nobody closes the pool."""
    before = watchdogs()
    async with AsyncProducerPool(limits=Limits(watchdog=AFTER)) as pool:
        await pool.add_producer("audit", FakeClient())
        (watch,) = watchdogs() - before
    watch.join(BOUND)

    assert not watch.is_alive()


@pytest.mark.parametrize("asked", [False, True], ids=["before", "after it was asked"])
def test_loop_that_is_closed(asked: bool) -> None:
    """It has nothing to watch, and ends by itself, though the loop did not come to its last question."""
    loop = asyncio.new_event_loop()
    watch = LoopWatch(loop, AFTER)
    if asked:
        eventually(lambda: watch._asked, "it asks")
    loop.close()
    assert watch._thread is not None
    watch._thread.join(BOUND)

    assert not watch._thread.is_alive()
