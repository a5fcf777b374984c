"""The ports: what a protocol implements (Client, Listener) and what it is handed (Intake, signals)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DEFAULT_TIMEOUT
from producer_pool.model.stats import Health, ListenerStats

if TYPE_CHECKING:
    from producer_pool.delivery.receipts import BatchReceipt
    from producer_pool.model.endpoint import Endpoint

__all__ = ["Client", "ClientSignals", "Intake", "Listener", "Observer", "PipelinedClient", "Settled", "Stage"]


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
        if limit is None or batch.nbytes <= limit:
            return {}
        return {
            index: Rejected(
                f"message of {len(message)} bytes; {self.protocol_name or 'this client'} carries {limit}"
            )
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

    def rejected(self, number: int, error: Rejected) -> None:
        """
        Say that the consumer will never take message *number*, counted from 0 since connect().

        It counts as settled too.
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

    @abstractmethod
    def settled(self) -> Settled:
        """Return how far the messages since connect() have got. Cheap: called for each batch."""

    async def send(self, message: bytes) -> None:
        """Connect if need be, hand over *message*, wait until it reached `ack`: without a Producer."""
        await self.send_batch(Batch.of([message]))

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        """Connect if need be, hand over *batch*, wait until all of it reached `ack`: without a Producer."""
        for error in self.misfits(batch).values():
            raise error
        alone = await self._connected_alone()
        try:
            await self._in_time(alone.hand_over(self, batch, start), SendError)
        except BaseException as error:
            self._alone = None
            await self.aclose()
            if isinstance(error, DeliveryError):
                error.index = start
            raise

    async def __aenter__(self) -> Self:
        await self._connected_alone()
        return self

    _alone: _Alone | None = None

    async def _connected_alone(self) -> _Alone:
        """Return the signals of a connection that works, a new one if need be."""
        if self._alone is None or self._alone.lost is not None:
            await self.aclose()
            self._alone = None
            alone = _Alone(self.ack)
            self.attach(alone)
            await self._in_time(self.connect(), ConnectError)
            self._alone = alone
        return self._alone

    async def _in_time(self, work: object, late: type[DeliveryError]) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                await work  # type: ignore[misc]
        except TimeoutError:
            raise late(f"{self.address}: not done within {self.timeout:g} s") from None


class _Alone:
    """The signals of a pipelined client that has no Producer."""

    def __init__(self, ack: Ack) -> None:
        self.ack = ack
        self.lost: DeliveryError | None = None
        self._handed = 0
        self._moved = asyncio.Event()

    def writable(self) -> None:
        self._moved.set()

    def broken(self, error: DeliveryError) -> None:
        self.lost = error
        self._moved.set()

    def rejected(self, number: int, error: Rejected) -> None:
        self.broken(error)

    async def hand_over(self, client: PipelinedClient, batch: Batch, start: int) -> None:
        while client.start([batch], start) == 0:
            await self._change()
        self._handed += len(batch) - start
        while self._progress(client) < self._handed:
            await self._change()

    def _progress(self, client: PipelinedClient) -> int:
        settled = client.settled()
        return settled.written if self.ack is Ack.WRITTEN else settled.confirmed

    async def _change(self) -> None:
        """Wait for a signal, or a little while: an acknowledgement signals nothing."""
        if self.lost is not None:
            raise self.lost
        self._moved.clear()
        try:
            async with asyncio.timeout(None if self.ack is Ack.WRITTEN else 0.005):
                await self._moved.wait()
        except TimeoutError:
            return


class Intake(Protocol):
    """What a listener pours its batches into; a pool is one."""

    @property
    def paused(self) -> bool:
        """Whether a listener should leave waiting what it can leave waiting. Looked at *before* each read."""

    def feed(self, batch: Batch) -> None:
        """Take *batch*, always, and tell nobody what becomes of it: the hot path."""

    def accept(self, batch: Batch) -> BatchReceipt:
        """Take *batch*, always, and return what a listener needs to acknowledge it upstream."""

    async def resumed(self) -> None:
        """Wait until it is not paused."""


class Listener(ABC):
    """
    Receives messages at one endpoint and pours them into an intake.

    The order of an orderly end is stop_accepting(), drain(), aclose().
    """

    stats: ListenerStats

    @abstractmethod
    async def start(self, intake: Intake) -> Endpoint:
        """
        Listen, and return the endpoint with the address it really has.

        Raises:
            ListenError: it cannot; the text says what to do.
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
        """Be told that a producer came up, went down, or was closed."""

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        """Be told that so many messages came to this outcome. Called for batches, on the pool's thread."""
