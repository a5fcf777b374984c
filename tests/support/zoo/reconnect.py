"""Animals that do not get over the end of a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from producer_pool.plugin import Ack, Batch, DeliveryError, Rejected, Settled
from support.zoo.animal import animal
from support.zoo.handmade import HandmadeClient
from support.zoo.healthy import PipelinedClient, PlainClient


@animal("reconnects", says=r"nothing arrived after .* the last error was ConnectError: it failed before")
class RemembersItsError(PlainClient):
    """Whatever failed once is raised by every send() after it, connected anew or not."""

    failed: DeliveryError | None = None

    async def write(self, wire: bytes) -> None:
        if self.failed is not None:
            raise type(self.failed)(f"it failed before: {self.failed}")
        try:
            await super().write(wire)
        except DeliveryError as error:
            self.failed = error
            raise


@animal("notices-the-end", says=r"500 messages were reported delivered after the consumer went away")
class SwallowsErrors(PlainClient):
    """send() catches what it should raise."""

    async def send(self, message: bytes) -> None:
        with contextlib.suppress(DeliveryError):
            await super().send(message)


@animal("notices-the-end", says=r"a message for a consumer that went away is Rejected: gone")
class GivesUpForGood(PlainClient):
    """When its consumer is gone, it says that nothing will ever be taken."""

    async def write(self, wire: bytes) -> None:
        try:
            await super().write(wire)
        except DeliveryError:
            raise Rejected("gone") from None


@animal("notices-the-end", says=r"500 messages were reported delivered after the consumer went away")
class SwallowsWhatItsReaderFinds(HandmadeClient):
    """A task reads, and keeps what it finds to itself; what is written then goes nowhere."""

    async def connect(self) -> None:
        await super().connect()
        self.reading = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        with contextlib.suppress(Exception):
            while await self.reader.read(1000):
                continue

    async def write(self, wire: bytes) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        if not self.reading.done():
            await super().write(wire)

    async def aclose(self) -> None:
        if self.writer is not None:
            self.reading.cancel()
        await super().aclose()


@animal("doubles-nothing-confirmed", says=r"50 of 50 messages that were reported delivered were sent again")
class ResendsWhatItSent(PlainClient):
    """It keeps all that it sent, and sends it again over each new connection."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.sent: list[bytes] = []

    async def connect(self) -> None:
        await super().connect()
        for wire in self.sent:
            await super().write(wire)

    async def write(self, wire: bytes) -> None:
        await super().write(wire)
        self.sent.append(wire)


@animal("loses-nothing-unconfirmed", says=r"\d+ messages were reported delivered \(kernel\) after .* crashed")
class ConfirmsAtTheBreak(PipelinedClient):
    """When the connection breaks, it counts all that was written as confirmed."""

    def settled(self) -> Settled:
        settled = super().settled()
        return settled if self._lost is None else Settled(settled.written, settled.written)


@animal(
    "loses-nothing-in-mid-stream", says=r"^1 messages were reported delivered \(kernel\) .* and never arrived"
)
class LosesOneAfterTheBreak(PipelinedClient):
    """Over its second connection, one message is counted, and not sent."""

    connections = left_out = 0

    async def connect(self) -> None:
        await super().connect()
        self.connections += 1
        self.left_out = 0

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if self.connections != 2 or self.left_out:
            return super().start(batches, offset)
        # The second one, since what is missing before the first may have arrived before the break.
        messages = [message for batch in batches for message in batch.messages][offset:]
        del messages[min(1, len(messages) - 1)]
        if messages and not super().start([Batch.of(messages)]):
            return 0
        self.left_out = 1
        return len(batches)

    def settled(self) -> Settled:
        settled = super().settled()
        return Settled(settled.written + self.left_out, settled.confirmed + self.left_out)


@animal(
    "loses-nothing-in-a-proxy",
    says=r"50 messages were reported delivered \(peer\) that a proxy took, and did not pass on",
    acks={Ack.WRITTEN, Ack.PEER},
)
class TakesAProxyForThePeer(PipelinedClient):
    """It takes the acknowledgement of the next kernel for an answer of the consumer."""

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.PEER})


@animal("connects-only-when-told", says=r"\d+ messages arrived over a connection that nobody had told it to")
class ReconnectsInsideSend(PlainClient):
    """send() connects again by itself."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except DeliveryError:
            await self.connect()
            await super().send(message)


@animal("tells-of-the-end-once", says=r"broken\(\) was called after broken\(\)")
class BreaksTwice(PipelinedClient):
    """It says twice that its connection broke."""

    def fail(self, error: DeliveryError) -> None:
        signals = self._signals
        super().fail(error)
        assert signals is not None
        signals.broken(error)


@animal(
    "tells-of-the-end-once", says=r"broken\(\) was called with ConnectionResetError\('gone'\), and not with a"
)
class BreaksWithWhatTheSystemSaid(PipelinedClient):
    """broken() is called with an OSError."""

    def fail(self, error: DeliveryError) -> None:
        super().fail(ConnectionResetError("gone"))  # type: ignore[arg-type]
