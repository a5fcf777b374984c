"""Animals that say what is not true."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from producer_pool.plugin import Ack, Batch, Settled
from support.zoo.animal import animal
from support.zoo.handmade import HandmadeClient
from support.zoo.healthy import PipelinedClient, PlainClient


@animal("declares-what-it-reaches", says=r"client\.acks has app, which its Transport does not declare")
class ClaimsAHigherLevel(PipelinedClient):
    """Its clients can be asked for a level that its transport does not have."""

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.APP}


@animal(
    "declares-what-it-reaches",
    says=r"Transport declares peer, which client\.acks does not have",
    acks={Ack.WRITTEN, Ack.PEER},
)
class DeclaresAHigherLevel(PlainClient):
    """Its transport declares a level that no client of it has."""


@animal("written-means-written", says=r"10 of 10 messages never arrived: send\(\) had returned")
class ReturnsBeforeWriting(PlainClient):
    """send() leaves writing to a task, and returns."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.last: asyncio.Task[None] | None = None

    async def write(self, wire: bytes) -> None:
        self.last = asyncio.ensure_future(self.write_after(self.last, wire))

    async def write_after(self, before: asyncio.Task[None] | None, wire: bytes) -> None:
        if before is not None:
            await before
        await super().write(wire)

    async def aclose(self) -> None:
        if self.last is not None:
            await asyncio.wait([self.last], timeout=1)
        await super().aclose()


@animal("written-means-written", says=r"[1-9] of \d+ messages never arrived: send\(\) had returned")
class KeepsABuffer(PlainClient):
    """What the kernel does not take at once is kept, and written later: up to 64 KiB, as asyncio does."""

    unwritten = b""

    async def write(self, wire: bytes) -> None:
        sock = self.socket
        assert sock is not None
        self.unwritten += wire
        while True:
            try:
                self.unwritten = self.unwritten[sock.send(self.unwritten) :]
            except BlockingIOError:
                if len(self.unwritten) < 65536:
                    return
            if not self.unwritten:
                return
            await asyncio.sleep(0.001)


@animal("written-means-written", says=r"[1-9] of \d+ messages never arrived: send\(\) had returned")
class LeavesTheLimitsAsTheyAre(HandmadeClient):
    """It drains as the library does by default: until less than 64 KiB are not written."""

    async def connect(self) -> None:
        await super().connect()
        assert self.writer is not None
        self.writer.transport.set_write_buffer_limits()


@animal("written-means-written", says=r"[1-9] of \d+ messages never arrived: send\(\) had returned")
class ReturnsWhenTimeIsUp(HandmadeClient):
    """send() bounds its time, and returns when that is over."""

    async def send(self, message: bytes) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.timeout):
                await super().send(message)


@animal(
    "confirms-only-what-arrived",
    says=r"all \d+ messages that are written are confirmed \(kernel\), and the consumer read only",
)
class ConfirmsWhatIsWritten(PipelinedClient):
    """It takes what is written for what is confirmed."""

    def settled(self) -> Settled:
        written = super().settled().written
        return Settled(written, written)


@animal(
    "confirms-only-what-arrived",
    says=r"\d+ messages are confirmed \(peer\), and the consumer read 20\b",
    acks={Ack.WRITTEN, Ack.PEER},
)
class CallsTheKernelAPeer(PipelinedClient):
    """It takes the acknowledgement of the kernel for that of the protocol."""

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.PEER})


@animal("confirms-only-what-arrived", says=r"settled\(\) returned .*, and only \d+ messages were handed over")
class CountsTooFar(PipelinedClient):
    """It counts one message more than it was given."""

    def settled(self) -> Settled:
        written, confirmed = super().settled()
        return Settled(written + 1, confirmed)


@animal(
    "settles-everything", says=r"1 of 1 messages were not settled; ack=kernel, and 1 of the last 1 arrived"
)
class WaitsForTheNextMessage(PipelinedClient):
    """It looks for confirmations only when it is given a message."""

    confirmed = 0

    async def connect(self) -> None:
        self.confirmed = 0
        await super().connect()

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.confirmed = super().settled().confirmed
        return super().start(batches, offset)

    def settled(self) -> Settled:
        return Settled(super().settled().written, self.confirmed)
