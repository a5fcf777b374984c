"""The ports: what a protocol implements (Client, Listener) and what it is handed (Intake, signals)."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from producer_pool.contract.alone import Alone
from producer_pool.contract.stream import Stream
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DEFAULT_TIMEOUT
from producer_pool.model.stats import Health, ListenerStats

if TYPE_CHECKING:
    from producer_pool.model.endpoint import Endpoint

__all__ = [
    "Client",
    "ClientSignals",
    "Intake",
    "IntakeReceipt",
    "Listener",
    "Observer",
    "PipelinedClient",
    "Settled",
    "Stage",
]


class Client(ABC):
    """
    Sends messages to one consumer. One method is enough: ``send``.

    A Client never sleeps, retries, reconnects or swallows an error: its Producer does what is to be
    done about one. All methods are called on one event loop, never two at a time. After an error, and
    after a cancelled call, the Producer closes the client, and may connect it again.
    """

    protocol_name: str = ""
    """What it speaks, for people: ``tcp``."""
    address: str = ""
    """Where it sends to, for people. **It never shows a secret.**"""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds that one attempt may take. The Producer keeps that time; a client used alone does it itself."""
    ack: Ack = Ack.WRITTEN
    """The level that is reached when send() returns."""
    max_message: int | None = None
    """Bytes of the longest message that it can carry; longer ones are Rejected before they get here."""

    @property
    def acks(self) -> frozenset[Ack]:
        """The levels that it can be asked for, on this platform."""
        return frozenset({self.ack})

    @property
    def peers(self) -> int | None:
        """Consumers that are connected now, for a client that they connect to; None: it connects itself."""
        return None

    async def connect(self) -> None:  # noqa: B027 - there may be nothing to connect.
        """
        Reach the consumer. Called before the first send, and again after aclose().

        Raises:
            ConnectError: it cannot be reached.
        """

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """
        Hand *message* to the consumer.

        Returning means that the declared level, `ack`, is reached. If cancelled, it may have arrived:
        **assume neither**.

        Raises:
            ConnectError: it cannot have arrived.
            SendError: it may have arrived.
            Rejected: the consumer will never take it.
        """

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        """
        Hand over the messages of *batch* from number *start* on, in order.

        Override it where the protocol has a cheaper way than one send() after the other.

        Raises:
            DeliveryError: as send(); its ``index`` is the message it happened at, and all before that
                one have reached the declared level.
        """
        messages = batch.messages
        for index in range(start, len(messages)):
            try:
                await self.send(messages[index])
            except DeliveryError as error:
                error.index = index
                raise

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        """
        Return the messages of *batch*, by index, that this protocol can never carry, and why.

        Asked once for each batch, before anything else happens to it; what is returned is settled as
        FAILED, and the rest goes on without it. The default knows `max_message`.
        """
        limit = self.max_message
        # nbytes is never less than the longest message, and costs nothing.
        if limit is None or batch.nbytes <= limit or batch.longest <= limit:
            return {}
        name = self.protocol_name or "this client"
        return {
            index: Rejected(f"message of {len(message)} bytes; {name} carries at most {limit}")
            for index, message in enumerate(batch.messages)
            if len(message) > limit
        }

    async def aclose(self) -> None:  # noqa: B027 - there may be nothing to close.
        """Let go of the connection, if there is one. May be called twice; connect() may follow."""

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"


class Settled(NamedTuple):
    """How far the messages handed over since connect() have got: two cumulative numbers."""

    written: int
    """The kernel has every byte of this many messages."""
    confirmed: int
    """This many have reached the level that was asked for."""


class ClientSignals(Protocol):
    """What a PipelinedClient calls when something changes. On the loop, never inside start()."""

    ack: Ack
    """The level that ``Settled.confirmed`` has to mean."""

    def writable(self) -> None:
        """Say that start() may take more, or that `settled()` has moved."""

    def broken(self, error: DeliveryError) -> None:
        """Say that the connection is gone. Once for each connect(); nothing else follows."""

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        """
        Say that the consumer will never take message *number*, counted from 0 since connect().

        Or *count* messages from that one on. They count as settled too, from now on.
        """


class PipelinedClient(Client):
    """
    A client with many batches in flight: start() takes them at once, settled() tells how far they got.

    The Producer keeps every batch until it is settled; the client keeps at most one partly written
    buffer, and counts messages, never bytes. `settled()` stays readable after broken() until aclose().
    """

    @abstractmethod
    def attach(self, signals: ClientSignals) -> None:
        """Remember whom to tell. Called before connect()."""

    @abstractmethod
    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        """
        Take as many leading batches as go out now, and return how many; *offset* skips messages of the first.

        A batch is taken whole: what the kernel does not take is kept as the one partly written buffer.
        0 means: ask again after writable(). Never waits, never calls a signal.
        """

    def stream(self) -> Stream | None:
        """
        Return the connection as a stream that the same bytes can be sent on as on others.

        Asked once after connect(). None: there is more to it than to send the frames of a batch.
        """
        return None

    @abstractmethod
    def settled(self) -> Settled:
        """Return how far the messages since connect() have got. Cheap: called for each batch."""

    def settled_batches(self) -> Settled:
        """
        Return what settled() does, or how far the last batch reaches that is through.

        Called while batches go out. To be overridden where it is not cheap to count inside one.
        """
        return self.settled()

    def heard_at(self) -> float | None:
        """
        Return when, by the loop's clock, the consumer last told that it is at work on what it has.

        A connection on which nothing moves is given up after `timeout` seconds without such a sign. None:
        this protocol has none.
        """
        return None

    def why_stalled(self) -> str:
        """Say what the consumer does not do, for the error of a connection on which nothing moves."""
        return "accepts but does not read"

    async def send(self, message: bytes) -> None:
        """Connect if need be, hand over *message*, wait until it reached `ack`: without a Producer."""
        await self.send_batch(Batch.of([message]))

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        """Connect if need be, hand over *batch*, wait until all of it reached `ack`: without a Producer."""
        if start >= len(batch):
            return
        misfits = self.misfits(batch)
        if not misfits:
            await self._send_alone(batch, start)
            return
        unfit = min((index for index in misfits if index >= start), default=len(batch))
        if unfit > start:
            try:
                await self._send_alone(batch.select(range(start, unfit)), 0)
            except DeliveryError as error:
                error.index = start + (error.index or 0)
                raise
        if unfit in misfits:
            misfits[unfit].index = unfit
            raise misfits[unfit]

    async def __aenter__(self) -> Self:
        await self._connect_alone(asyncio.get_running_loop().time() + self.timeout)
        return self

    _alone: Alone | None = None
    """Its connection without a Producer."""

    async def aclose(self) -> None:
        self._alone = None

    def __init_subclass__(cls) -> None:
        # What is closed must not be taken for a connection by the next send(), whoever wrote aclose().
        super().__init_subclass__()
        if "aclose" in vars(cls):
            cls.aclose = _forgetting(cls.aclose)  # type: ignore[assignment, method-assign]

    async def _connect_alone(self, until: float) -> Alone:
        """Return a connection that works, a new one if need be."""
        if self._alone is None or self._alone.lost is not None:
            await self.aclose()
            self._alone = None
            alone = Alone(self)
            try:
                await alone.connect(until)
            except BaseException:
                await self.aclose()
                raise
            self._alone = alone
        return self._alone

    async def _send_alone(self, batch: Batch, start: int) -> None:
        until = asyncio.get_running_loop().time() + self.timeout
        alone = await self._connect_alone(until)
        try:
            await alone.send_batch(batch, start, until)
        except BaseException as error:
            if isinstance(error, Rejected) and alone.idle:
                raise  # the connection is as good as before
            self._alone = None
            await self.aclose()
            raise


_Close = Callable[[PipelinedClient], Coroutine[Any, Any, None]]


def _forgetting(close: _Close) -> _Close:
    @functools.wraps(close)
    async def aclose(self: PipelinedClient) -> None:
        self._alone = None
        await close(self)

    return aclose


class IntakeReceipt(Protocol):
    """What a listener needs to acknowledge a batch to the one who sent it."""

    @property
    def stored(self) -> bool | None:
        """Whether the batch is in durable storage; None: this intake has none."""

    def when_stored(self, callback: Callable[[], None], /) -> None:
        """
        Call *callback* once, on the loop, when it is known whether the batch is stored; at once if it is.

        If `stored` is not true then, it never will be: there is no storage, or it could not take it.
        """

    @property
    def done(self) -> bool:
        """Whether every message has a terminal outcome at each producer that is required."""

    @property
    def delivered(self) -> bool:
        """Whether every message was delivered to each of these, or taken care of: see Role, dead letters."""

    def when_done(self, callback: Callable[[], None], /) -> None:
        """Call *callback* once, on the loop, when `done`; at once if it is."""


class Intake(Protocol):
    """
    What a listener pours its batches into; a pool is one.

    One that has durable storage has an attribute ``stores = True``; then receipts can become `stored`.
    One whose producers have small buffers has an attribute ``bite``: bytes of which a listener should make a
    batch at most, where it can choose.
    """

    @property
    def paused(self) -> bool:
        """Whether a listener should leave waiting what it can leave waiting. Looked at *before* each read."""

    def feed(self, batch: Batch) -> None:
        """Take *batch*, always, and tell nobody what becomes of it: the hot path."""

    def accept(self, batch: Batch) -> IntakeReceipt:
        """Take *batch*, always, and return what a listener needs to acknowledge it upstream."""

    async def resumed(self) -> None:
        """Wait until it is not paused."""


class Listener(ABC):
    """
    Receives messages at one endpoint and pours them into an intake.

    The order of an orderly end is stop_accepting(), drain(), aclose(). As a context manager it only closes.
    """

    stats: ListenerStats
    """Its counters, which it keeps itself."""

    @abstractmethod
    async def start(self, intake: Intake) -> Endpoint:
        """
        Listen, and return the endpoint with the address it really has.

        Raises:
            ListenError: it cannot; the text says what to do.
            ConfigurationError: it may not, as it was told.
        """

    @abstractmethod
    async def stop_accepting(self) -> None:
        """Take no new connections. Those that are open go on."""

    @abstractmethod
    async def drain(self) -> None:
        """Read what has arrived already, pass it on, and read no more. The caller bounds the time."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of everything. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Stage(Protocol):
    """A callable before one producer: it returns the batch it gets, one made from it, or None for nothing."""

    def __call__(self, batch: Batch, /) -> Batch | None:
        """
        Return *batch*, ``batch.select(...)``, ``batch.replace(...)``, or None.

        What is left out is DROPPED.
        """


class Observer(Protocol):
    """Is told what happens. Its exceptions are counted and logged and stop nothing."""

    def state_changed(self, health: Health) -> None:
        """Be told that a producer came into another state; `health.reason` says why, in words."""

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        """Be told that so many messages came to this outcome. Called for batches, on the pool's thread."""
