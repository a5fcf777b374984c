"""Ctrl-C on a loop of the program's own, wherever the pool is just then; the program goes on with it."""

import asyncio
import signal
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

import producer_pool
from producer_pool import (
    AsyncProducerPool,
    DeliveryPolicy,
    Outcome,
    Retry,
    bind_transport_async,
)
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.interrupts import interrupted_at
from support.ledger import Ledger
from support.processes import run_program
from support.streams import until
from support.waiting import BOUND

PACKAGE = Path(producer_pool.__file__).parent
ASYNCIO = Path(asyncio.__file__).parent
NAMES = ("a", "b")
POLICY = replace(DeliveryPolicy.relay(), retry=Retry(backoff=0.001, max_backoff=0.001))
APART = times(4, 1)
"""Points from one that is struck to the next."""


pytestmark = pytest.mark.usefixtures("python_handles_interrupts", "unreminded")


def as_before(number: int, frame: FrameType | None) -> None:
    """Raise where it strikes, as Python does."""
    raise KeyboardInterrupt


def while_it_runs(number: int, frame: FrameType | None) -> None:
    """Do what the pool does while a loop runs. What comes before and after, the program has to bear."""
    handler = signal.getsignal(signal.SIGINT)
    if asyncio._get_running_loop() is not None and callable(handler):
        handler(number, frame)


class Program:
    """Runs a pool, with a listener, on a loop of its own; goes on after each interrupt."""

    def __init__(self, stack: ExitStack, spool: Path | None = None) -> None:
        self.ledger = Ledger()
        self.interrupts = 0
        self.consumers = [stack.enter_context(RecordingConsumer()) for _ in NAMES]
        self._loop = asyncio.new_event_loop()
        stack.callback(self._loop.close)
        self.pool, self._server = self._loop.run_until_complete(self._begin(spool))
        stack.callback(lambda: self._loop.run_until_complete(self.pool.aclose()))
        self._line = socket.create_connection(("127.0.0.1", self._server.endpoint.port or 0))
        stack.callback(self._line.close)
        self._lines = 0

    async def _begin(self, spool: Path | None) -> tuple[AsyncProducerPool, producer_pool.AsyncServer]:
        pool = AsyncProducerPool(policy=POLICY, spool=spool)
        for name, consumer in zip(NAMES, self.consumers, strict=True):
            await pool.add_producer(name, consumer.url)
        await pool.check()
        return pool, await bind_transport_async("tcp://127.0.0.1:0", pool)

    def run(self, work: asyncio.Task[None]) -> None:
        """Do *work*, again and again interrupted."""
        while not work.done():
            try:
                self._loop.run_until_complete(work)
            except KeyboardInterrupt:
                self.interrupts += 1
            except RuntimeError:
                # One before was interrupted just as it was done, and has left asyncio a stop for this one.
                assert not work.done()

    def strike(self, number: int) -> str:
        """Interrupt one round at that point, and return where it was; '': nowhere."""
        work = self._loop.create_task(self._round())
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        where = interrupted_at(number, lambda: self.run(work), PACKAGE, handler)
        self.run(work)  # What a step raises, it raises here.
        work.result()
        # One that came as the work was done is raised before the next: that would seem to insist.
        self.run(self._loop.create_task(asyncio.sleep(0)))
        return where

    async def _round(self) -> None:
        """Have messages come in both ways, and see each of them delivered."""
        self._line.sendall(b"".join(each + b"\n" for each in self.ledger.write_many(2, "line")))
        self._lines += 2
        receipts = [await self.pool.submit(message) for message in self.ledger.write_many(2, "submit")]
        assert (await self.pool.forward_to_all(self.ledger.write("submit"))).ok
        await until(lambda: self._server.stats.messages == self._lines)
        assert await self.pool.drain()
        for receipt in receipts:
            assert (await receipt.results(0)).ok

    def waits(self, number: int) -> str:
        """Interrupt asyncio at that point while it is waited for the pool, and return where; '': nowhere."""

        async def wait() -> None:
            await self.pool.submit(self.ledger.write())
            assert await self.pool.drain()

        async def see() -> None:
            await asyncio.wait([work], timeout=BOUND)
            assert work.done(), f"{where}: it is waited for ever"

        work = self._loop.create_task(wait())
        where = interrupted_at(number, lambda: self.run(work), ASYNCIO, while_it_runs)
        self.run(self._loop.create_task(see()))
        work.result()
        return where

    def settles(self, number: int) -> bool:
        """Interrupt a message at that point; say whether it is settled when the pool says that all are."""

        async def submit() -> None:
            self.receipt = await self.pool.submit(self.ledger.write())
            await asyncio.sleep(0)  # Nothing of the pool's has run before.

        async def look() -> bool:
            assert await self.pool.drain(wait=BOUND)
            return all(
                result.outcome is not Outcome.PENDING for result in (await self.receipt.results(0)).values()
            )

        work = self._loop.create_task(submit())
        interrupted_at(number, lambda: self.run(work), PACKAGE / "delivery/engine.py", as_before)
        return self._loop.run_until_complete(look())

    async def end(self) -> None:
        """Close in order, and see that all has been counted, once."""
        await self.pool.aclose()
        stats = await self.pool.stats()
        for counters in stats.producers.values():
            assert counters.accepted == counters.delivered == len(self.ledger.sent)
            assert counters.pending_bytes == counters.failed == counters.breaks == 0
        assert not stats.buffered_bytes

    def close(self) -> None:
        self.run(self._loop.create_task(self.end()))


@pytest.mark.parametrize("stored", [False, True])
def test_interrupt_at_every_point(stored: bool, tmp_path: Path) -> None:
    """Each comes out of the loop, once; nothing is lost, doubled, sent anew or counted wrongly by any."""
    with ExitStack() as stack:
        program = Program(stack, tmp_path if stored else None)
        struck = 0
        while program.strike(1 + struck * APART):
            struck += 1
        program.close()

        report("Ctrl-C on a program's own loop", stored=stored, points=struck)
        assert program.interrupts == struck
        assert struck > 100
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        for consumer in program.consumers:
            consumer.wait_for(len(program.ledger.sent))
            assert program.ledger.judge(consumer.messages).exact


def test_interrupt_at_every_point_of_asyncio() -> None:
    """Whom it is about to tell of what has come to an end, it tells: nobody waits for ever."""
    with ExitStack() as stack:
        program = Program(stack)
        number = struck = missed = 0
        while missed < 10:  # A round may be shorter than another: some are acknowledged at once.
            number += 1
            missed = 0 if program.waits(number) else missed + 1
            struck += not missed
        program.close()

        assert struck > 50
        for consumer in program.consumers:
            consumer.wait_for(len(program.ledger.sent))
            assert program.ledger.judge(consumer.messages).exact


def test_control_of_every_point() -> None:
    """Raised where it strikes, one leaves a message that is never settled, though the pool waits for none."""
    with ExitStack() as stack:
        program = Program(stack)

        assert not all(program.settles(number) for number in range(1, 100))


def test_real_interrupts() -> None:
    """Each is raised, and all that the pool was in the middle of goes on: each message arrives once."""
    count = times(20_000, 500_000)
    with RecordingConsumer() as consumer:
        done = run_program(STORM, consumer.url, count)
        struck, raised, *counted = map(int, done.stdout.split())

        report("a storm of Ctrl-C", messages=count, interrupts=struck)
        assert struck == raised
        assert struck > 10
        assert counted == [count, count, 0]
        assert consumer.wait_for(count) == [b"%d" % number for number in range(count)]


# A timer stands for who presses Ctrl-C: it strikes wherever the program is. Not again before the last one was
# raised, which would mean to insist; and not outside of the loop, where the program itself has to bear it.
STORM = """
import asyncio, signal, socket, sys, threading

from producer_pool import AsyncProducerPool, DeliveryPolicy, bind_transport_async

url, count = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)
loop = asyncio.new_event_loop()
armed = True
struck = raised = 0

async def begin():
    pool = AsyncProducerPool(policy=DeliveryPolicy.relay())
    await pool.add_producer("it", url)
    await pool.check()
    return pool, await bind_transport_async("tcp://127.0.0.1:0", pool)

def send(port):
    with socket.create_connection(("127.0.0.1", port)) as line:
        for number in range(count):
            line.sendall(b"%d\\n" % number)

def strike(number, frame):
    global armed, struck
    if armed:
        armed = False  # Before any call: this may be called again in the middle of one.
        if loop.is_running():
            struck += 1
            signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)
        else:
            armed = True

async def work():
    while server.stats.messages < count:
        await asyncio.sleep(0.001)
    assert await pool.drain()

pool, server = loop.run_until_complete(begin())
threading.Thread(target=send, args=(server.endpoint.port,)).start()
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
task = loop.create_task(work())
while not task.done():
    try:
        loop.run_until_complete(task)
    except KeyboardInterrupt:
        raised += 1
        if task.done():  # It came while the program's own code ran.
            task = loop.create_task(work())
    except RuntimeError:  # The one before came just as the work was done.
        assert not task.done()
    armed = struck == raised  # Else one is still to be raised.
signal.setitimer(signal.ITIMER_REAL, 0)
while struck > raised:  # The last one came as the work was done, or was taken for a reminder.
    try:
        loop.run_until_complete(asyncio.sleep(0.001))
    except KeyboardInterrupt:
        raised += 1
loop.run_until_complete(pool.aclose())
counters = loop.run_until_complete(pool.stats()).producers
print(struck, raised)
print(server.stats.messages, counters["it"].delivered, counters["it"].breaks)
"""
