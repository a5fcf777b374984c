"""Clients and plugins that raise anything, hang, lie, fork and call back in: nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from producer_pool import (
    Batch,
    DeliveryPolicy,
    Limits,
    Outcome,
    PoolClosed,
    PoolStats,
    ProducerPool,
    Retry,
    WrongThread,
)
from producer_pool.contract.ports import Client, ClientSignals, PipelinedClient, Settled
from producer_pool.model.errors import Rejected, SendError
from producer_pool.model.outcomes import Ack
from support.anything import ANYTHING, KINDS, Odd
from support.consumers import RecordingConsumer
from support.engines import check_books
from support.faults import times
from support.ledger import Ledger
from support.processes import run_program
from support.waiting import BOUND, eventually


@pytest.fixture(autouse=True)
def collects() -> Iterator[None]:
    """Collect what these clients left behind now, and not in the middle of another test."""
    yield
    gc.collect()


class Deed:
    """What a client does in one of its calls."""

    protocol_name = "hostile"
    address = "hostile:"
    timeout = 0.2
    pool: ClassVar[ProducerPool]

    def __init__(self, where: str, deed: Callable[[], Any]) -> None:
        self._where = where
        self._deed = deed
        self._taken = 0
        self.done = 0

    def _do(self, where: str) -> Any:
        if where != self._where:
            return None
        self.done += 1
        return self._deed()


class Hostile(Deed, Client):
    """A client that does something in one of its calls."""

    async def _wait(self, where: str) -> None:
        result = self._do(where)
        if asyncio.iscoroutine(result):
            await result

    async def connect(self) -> None:
        await self._wait("connect")

    async def send(self, message: bytes) -> None:
        await self._wait("send")

    async def aclose(self) -> None:
        await self._wait("aclose")


class HostilePipelined(Deed, PipelinedClient):
    """The same with start() and settled(), whose results it may lie about."""

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.KERNEL})

    def attach(self, signals: ClientSignals) -> None:
        self.signals = signals
        self._do("attach")

    async def connect(self) -> None:
        self._taken = 0
        self._do("connect")

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        lie = self._do("start")
        if lie is not None:
            return lie(self, batches) if callable(lie) else lie  # type: ignore[no-any-return]
        self._taken += sum(map(len, batches)) - offset
        return len(batches)

    def settled(self) -> Settled:
        lie = self._do("settled")
        if lie is not None:
            return lie(self) if callable(lie) else lie  # type: ignore[no-any-return]
        return Settled(self._taken, self._taken)

    async def aclose(self) -> None:
        self._do("aclose")


def not_its_own(where: str, what: str) -> bool:
    """Whether it can be told from what the pool itself throws into an aclose() at the end, to end it."""
    return where != "aclose" or what not in ("CancelledError", "GeneratorExit")


def raising(made: Callable[[], BaseException]) -> Callable[[], None]:
    def deed() -> None:
        raise made()

    return deed


def in_a_task(made: Callable[[], BaseException]) -> Callable[[], None]:
    async def task() -> None:
        raise made()

    def deed() -> None:
        tasks.append(asyncio.get_running_loop().create_task(task()))

    return deed


tasks: list[asyncio.Task[None]] = []


def in_a_callback(made: Callable[[], BaseException]) -> Callable[[], None]:
    def deed() -> None:
        asyncio.get_running_loop().call_soon(raising(made))

    return deed


def last_stats(pool: ProducerPool) -> PoolStats | None:
    """Return the counters of a pool that is closed; None while its thread waits for a client that hangs."""
    try:
        return pool.stats()
    except PoolClosed:
        return None


def live_with(
    client: Hostile | HostilePipelined,
    caplog: pytest.LogCaptureFixture,
    *,
    fails: bool,
    closed: Callable[[], object] = lambda: None,
) -> None:
    """Tell the story of one pool with a hostile client and a good one, and judge it; call *closed* then."""
    ledger = Ledger()
    policy = DeliveryPolicy(retry=Retry(attempts=2, backoff=0.01, max_backoff=0.02), deadline=5.0)
    with caplog.at_level(logging.INFO), RecordingConsumer() as consumer:
        with ProducerPool(limits=Limits(drain=0.3)) as pool:
            type(client).pool = pool
            pool.add_producer("well", consumer.url, policy=DeliveryPolicy.relay())
            pool.add_producer("hostile", client, policy=policy)
            receipts = []
            for _ in range(3):
                receipts += [pool.submit(message) for message in ledger.write_many(20)]
                consumer.wait_for(len(ledger.sent))
                assert pool.forward_to("well", ledger.write(), wait=BOUND).ok
                check_books(pool.stats())
            eventually(lambda: client.done or client._where == "aclose", "its deed")
            began = time.monotonic()
        closing = time.monotonic() - began
        closed()
        stats = eventually(lambda: last_stats(pool), "the pool's thread ends")
        assert stats is not None
        results = [receipt.results(wait=0) for receipt in receipts]

        check_books(stats)
        assert ledger.judge(consumer.messages).exact
        assert all(result["well"].ok for result in results)
        assert all(result["hostile"].outcome is not Outcome.PENDING for result in results)
        assert closing < BOUND
        if fails:
            lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
            assert any("hostile" in line for line in lines), lines


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("where", ["connect", "send", "aclose"])
def test_plain_client_that_raises(where: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, and wherever: the log names the producer, and the other one goes on."""
    live_with(Hostile(where, raising(ANYTHING[what])), caplog, fails=not_its_own(where, what))


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("where", ["attach", "connect", "start", "settled", "aclose"])
def test_pipelined_client_that_raises(where: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, and wherever."""
    live_with(HostilePipelined(where, raising(ANYTHING[what])), caplog, fails=not_its_own(where, what))


@pytest.mark.parametrize(
    "what", ["ValueError", *times((), ("BaseException",)), "SystemExit", "KeyboardInterrupt"]
)
@pytest.mark.parametrize("how", [in_a_task, in_a_callback])
def test_client_whose_own_work_raises(how: Any, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """What it began on the loop, and what ends loops of others, does not end the pool's."""
    live_with(Hostile("send", how(ANYTHING[what])), caplog, fails=False)
    assert all(task.exception() for task in tasks)
    tasks.clear()


LIES: dict[str, tuple[str, Any]] = {
    "takes more than there is": ("start", 1000),
    "takes less than nothing": ("start", -1),
    "takes a word": ("start", "all"),
    "takes something": ("start", True),
    "has settled more than it was given": ("settled", Settled(10**9, 10**9)),
    "has settled less than nothing": ("settled", Settled(-5, -5)),
    "has settled words": ("settled", ("many", "many")),
    "has settled too little to count": ("settled", Settled(0.5, 0.5)),  # type: ignore[arg-type]
    "has settled something else": ("settled", object()),
}


@pytest.mark.parametrize("lie", LIES)
def test_client_that_lies(lie: str, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be true ends its connection, and counts for nothing."""
    where, said = LIES[lie]
    live_with(HostilePipelined(where, lambda: said), caplog, fails=lie != "has settled less than nothing")


async def hang_until(over: threading.Event) -> None:
    """Do not return before that, cancelled or not."""
    while not over.is_set():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("where", ["connect", "send", "aclose"])
def test_client_that_hangs(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Though it does not hear of being cancelled: it is left behind, by name."""
    over = threading.Event()
    live_with(Hostile(where, lambda: hang_until(over)), caplog, fails=True, closed=over.set)


class CallsBack:
    """Does with its pool what may be done in one of its own calls, and what may not."""

    def __init__(self, pool: ProducerPool) -> None:
        self._pool = pool
        self.submitted = 0

    def __call__(self) -> None:
        self._pool.submit(b"from inside", to="other")
        self.submitted += 1
        for verb in (self._pool.stats, self._pool.drain, self._pool.close):
            with pytest.raises(WrongThread):
                verb()
        with pytest.raises(WrongThread):
            self._pool.remove_producer("hostile")


@pytest.mark.parametrize(
    "kind, where",
    [(Hostile, "connect"), (Hostile, "send"), (HostilePipelined, "start"), (HostilePipelined, "settled")],
)
def test_client_that_calls_back_in(kind: Any, where: str) -> None:
    """A message is taken; what would wait for itself is refused."""
    ledger = Ledger()
    with RecordingConsumer() as consumer, RecordingConsumer() as other:
        with ProducerPool(limits=Limits(drain=BOUND)) as pool:
            deed = CallsBack(pool)
            pool.add_producer("well", consumer.url)
            pool.add_producer("other", other.url, policy=DeliveryPolicy.relay())
            pool.add_producer("hostile", kind(where, deed))
            for message in ledger.write_many(20):
                assert pool.forward_to_many(["well", "hostile"], message, wait=BOUND).ok
            assert pool.drain(wait=BOUND)
            check_books(pool.stats())

        assert ledger.judge(consumer.wait_for(20)).exact
        assert deed.submitted > 0
        assert other.wait_for(deed.submitted) == [b"from inside"] * deed.submitted


SIGNALS: dict[str, Callable[[Any], object]] = {
    "writable": lambda signals: signals.writable(),
    "broken": lambda signals: signals.broken(SendError("broken")),
    "broken by something": lambda signals: signals.broken(ValueError("odd")),
    "rejected what it has not": lambda signals: signals.rejected(10**9, Rejected("no")),
    "rejected backwards": lambda signals: signals.rejected(-1, Rejected("no"), -1),
    "rejected for nothing": lambda signals: signals.rejected(0, None),
}


@pytest.mark.parametrize("where", ["start", "settled", *times((), ("connect", "aclose"))])
@pytest.mark.parametrize("signal", list(SIGNALS)[:: times(2, 1)])
def test_client_that_signals_when_it_likes(signal: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Again and again, and inside of its own calls."""
    client = HostilePipelined(where, lambda: SIGNALS[signal](client.signals) and None)
    live_with(client, caplog, fails=False)


FORKS = """
    import os, sys, threading
    from producer_pool import Client, DeliveryPolicy, Limits, ProducerPool

    class Forks(Client):
        protocol_name = "forks"
        address = "forks:"
        done = 0

        async def send(self, message):
            if self.done == 3:
                return
            self.done += 1
            pid = os.fork()
            if pid:
                ended, status = os.waitpid(pid, 0)
                assert status == 0, status
            elif sys.argv[2] == "sys.exit":
                sys.exit(0)
            elif sys.argv[2] == "os._exit":
                os._exit(0)
            elif sys.argv[2] == "raise":
                raise ValueError("odd")
            # Or it goes on as if nothing had happened.

    with ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=5)) as pool:
        client = Forks()
        pool.add_producer("well", sys.argv[1])
        pool.add_producer("forks", client)
        for message in sys.argv[3:]:
            pool.submit(message)
            pool.stats()
        assert pool.drain(wait=10)
        for counted in pool.stats().producers.values():
            assert counted.delivered == len(sys.argv) - 3, counted
        assert client.done == 3
"""


@pytest.mark.parametrize("end", ["sys.exit", "os._exit", "raise", "return"])
def test_client_that_forks(end: str) -> None:
    """Its child ends, however it goes on; nobody hears anything twice."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        messages = ledger.write_many(50)
        run_program(FORKS, consumer.url, end, *(message.decode() for message in messages))

        assert ledger.judge(consumer.wait_for(50)).exact


class NaivePool:
    """Sends to each in turn, and catches what one thinks of."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self.delivered = 0

    async def forward_to_all(self, message: bytes) -> None:
        for client in self.clients:
            try:
                await client.send(message)
                self.delivered += 1
            except Exception:
                logging.getLogger(__name__).exception("failed")


class Good(Client):
    def __init__(self) -> None:
        self.came: list[bytes] = []

    async def send(self, message: bytes) -> None:
        self.came.append(message)


@pytest.mark.parametrize("what", ["SystemExit", "BaseException", "CancelledError"])
def test_control_of_the_clients(what: str) -> None:
    """A naive pool ends, and the good client gets nothing."""
    good = Good()
    pool = NaivePool([Hostile("send", raising(ANYTHING[what])), good])
    with pytest.raises((SystemExit, Odd, asyncio.CancelledError)):
        asyncio.run(pool.forward_to_all(b"one"))

    assert good.came == []


@pytest.mark.parametrize("where", ["connect", "send"])
def test_client_that_blocks_the_loop(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that watches names it while it does, and nothing is lost after that."""
    ledger = Ledger()
    go_on = threading.Event()
    client = Hostile(where, lambda: None if go_on.is_set() else go_on.wait(BOUND) and None)
    client.timeout = 60.0
    with RecordingConsumer() as consumer:
        with ProducerPool(limits=Limits(drain=5.0, watchdog=0.2)) as pool:
            pool.add_producer("well", consumer.url, policy=DeliveryPolicy.relay())
            assert pool.forward_to("well", ledger.write(), wait=BOUND).ok
            pool.add_producer("hostile", client, policy=DeliveryPolicy.relay())
            receipts = [pool.submit(message) for message in ledger.write_many(50)]
            eventually(lambda: "the client of hostile" in caplog.text, "its name in the log")
            go_on.set()
            results = [receipt.results(wait=BOUND) for receipt in receipts]
            check_books(pool.stats())

        assert all(result.ok for result in results)
        assert ledger.judge(consumer.wait_for(51)).exact
        assert "belongs into a BlockingClient" in caplog.text
