"""Clients without a network, that do what a test tells them; for virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from producer_pool.contract.ports import Client, ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, SendError
from producer_pool.model.outcomes import Ack

__all__ = ["FakeClient", "FakePipelinedClient", "Unreachable", "hang", "hang_stubbornly"]


async def hang() -> None:
    """Never return."""
    await asyncio.get_running_loop().create_future()


async def hang_stubbornly(seconds: float = 3600.0) -> None:
    """Do not return for *seconds*, cancelled or not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            await asyncio.sleep(end - loop.time())
        except asyncio.CancelledError:
            continue


class FakeClient(Client):
    """A plain client: one message after the other. The `faults` are raised, or awaited, instead of a send."""

    protocol_name = "fake"

    def __init__(self, *, address: str = "fake:plain", timeout: float = 10.0) -> None:
        self.address = address
        self.timeout = timeout
        self.messages: list[bytes] = []
        """What arrived."""
        self.faults: list[BaseException | Callable[[], Awaitable[None]] | None] = []
        """For the next calls of send(), in order."""
        self.connect_faults: list[BaseException | Callable[[], Awaitable[None]] | None] = []
        self.close_faults: list[BaseException | Callable[[], Awaitable[None]] | None] = []
        self.always: BaseException | Callable[[], Awaitable[None]] | None = None
        """For every call of send() after those."""
        self.unreachable: BaseException | None = None
        """For every call of connect() after those in `connect_faults`."""
        self.sends = self.connects = self.closes = 0
        self.is_open = False

    async def connect(self) -> None:
        assert not self.is_open, "connected twice without a close between"
        self.connects += 1
        self.is_open = True
        await _suffer(self.connect_faults.pop(0) if self.connect_faults else self.unreachable)

    async def send(self, message: bytes) -> None:
        assert self.is_open, "send() before connect()"
        self.sends += 1
        await _suffer(self.faults.pop(0) if self.faults else self.always)
        self.messages.append(message)

    async def aclose(self) -> None:
        self.closes += 1
        self.is_open = False
        await _suffer(self.close_faults.pop(0) if self.close_faults else None)


async def _suffer(fault: BaseException | Callable[[], Awaitable[None]] | None) -> None:
    if isinstance(fault, BaseException):
        raise fault
    if fault is not None:
        await fault()


class FakePipelinedClient(PipelinedClient):
    """
    A pipelined client whose consumer confirms after a time, and without telling anybody.

    What it was given on each connection is in `given`. With *room*, it takes that many batches until
    make_room() is called.
    """

    protocol_name = "fake"

    def __init__(
        self, *, confirms_after: float = 0.0, room: int | None = None, timeout: float = 10.0
    ) -> None:
        self.address = "fake:pipelined"
        self.timeout = timeout
        self.confirms_after = confirms_after
        self.room = room
        self.given: list[list[bytes]] = []
        """Messages by connection."""
        self.connect_faults: list[BaseException | Callable[[], Awaitable[None]] | None] = []
        self.unreachable: BaseException | None = None
        self.connects = self.closes = self.asked = 0
        self.is_open = False
        self.signals: list[ClientSignals] = []
        """Those of each connection, the dead ones too."""
        self.written: int | None = None
        """Messages that the kernel has; None: all that it was given."""
        self._times: list[float] = []
        self._frozen: float | None = None

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.KERNEL})

    @property
    def messages(self) -> list[bytes]:
        """All that was given to it, on any connection."""
        return [message for connection in self.given for message in connection]

    def attach(self, signals: ClientSignals) -> None:
        self.signals.append(signals)

    async def connect(self) -> None:
        assert not self.is_open, "connected twice without a close between"
        self.connects += 1
        self.is_open = True
        self.given.append([])
        self._times = []
        self._frozen = None
        await _suffer(self.connect_faults.pop(0) if self.connect_faults else self.unreachable)

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        assert self.is_open, "start() before connect()"
        self.asked += 1
        count = len(batches) if self.room is None else min(len(batches), self.room)
        if self._frozen is not None:
            count = 0
        if self.room is not None:
            self.room -= count
        now = asyncio.get_running_loop().time()
        for batch in batches[:count]:
            messages = batch.messages[offset:]
            offset = 0
            self.given[-1] += messages
            self._times += [now] * len(messages)
        return count

    def settled(self) -> Settled:
        given = len(self._times)
        written = given if self.written is None else min(self.written, given)
        now = asyncio.get_running_loop().time() if self._frozen is None else self._frozen
        confirmed = sum(1 for time in self._times if time + self.confirms_after <= now)
        return Settled(written, min(written, confirmed))

    async def aclose(self) -> None:
        self.closes += 1
        self.is_open = False

    # -- what a test does to it ----------------------------------------------------------------------

    def make_room(self, batches: int) -> None:
        """Take so many more, and say so."""
        self.room = (self.room or 0) + batches
        self.signals[-1].writable()

    def break_off(self, error: DeliveryError | None = None) -> None:
        """Lose the connection: nothing is confirmed any more."""
        self._frozen = asyncio.get_running_loop().time()
        self.signals[-1].broken(error or SendError("fake: reset"))


class Unreachable(Client):
    """Never finishes connecting."""

    protocol_name = "unreachable"
    address = "unreachable:"

    async def connect(self) -> None:
        await hang()

    async def send(self, message: bytes) -> None:
        raise AssertionError
