"""Animals that lose, double or reorder messages."""

from __future__ import annotations

import contextlib

from producer_pool.plugin import Batch, DeliveryError
from support.zoo.animal import animal
from support.zoo.healthy import PlainClient


@animal("drops-nothing", says=r"6 of 3000 messages did not arrive, such as b'00000")
class DropsSome(PlainClient):
    """One message in five hundred is not sent."""

    count = 0

    async def write(self, wire: bytes) -> None:
        self.count += 1
        if self.count % 500:
            await super().write(wire)


@animal("drops-nothing", says=r"1 of \d+ messages did not arrive, such as b'00000122", ordered=False)
class DropsSomeUnordered(PlainClient):
    """It says that it keeps no order, and loses messages without a reason."""

    count = 0

    async def write(self, wire: bytes) -> None:
        self.count += 1
        if self.count != 123:
            await super().write(wire)


@animal("doubles-nothing", says=r"6 of 3000 messages arrived more than once, such as b'00000")
class SendsSomeTwice(PlainClient):
    """One message in five hundred is sent twice."""

    count = 0

    async def write(self, wire: bytes) -> None:
        self.count += 1
        await super().write(wire if self.count % 500 else wire + wire)


@animal("keeps-order", says=r"arrived after b'0.*, and was sent before it")
class SendsBatchesBackwards(PlainClient):
    """The last message of a batch goes out first."""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        for message in reversed(batch.messages[start:]):
            await self.send(message)


@animal("keeps-order", says=r"arrived after b'0.*, and was sent before it")
class TakesAShortCut(PlainClient):
    """Short batches overtake what it keeps of long ones."""

    kept = b""

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        wire = batch.wire(self.framing, start)
        if len(batch) == 40:
            self.kept += wire
        else:
            await self.write(wire)
            kept, self.kept = self.kept, b""
            await self.write(kept)


@animal("keeps-order-over-a-break", says=r"arrived after b'0.*, and was sent before it")
class KeepsItsOwn(PlainClient):
    """It connects again by itself, and sends what it could not send behind what came since."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.kept: list[bytes] = []

    async def write(self, wire: bytes) -> None:
        try:
            await super().write(wire)
        except DeliveryError:
            self.kept.append(wire)
            with contextlib.suppress(DeliveryError):
                await self.connect()
        else:
            while self.kept:
                await super().write(self.kept.pop(0))
