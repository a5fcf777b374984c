"""Animals that hold too much, never go on, or miscount what they took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Thread

from producer_pool.plugin import Batch, Settled
from support.zoo.animal import animal
from support.zoo.handmade import HandmadeClient
from support.zoo.healthy import PipelinedClient, PlainClient, ZooListener


@animal("bounds-what-it-holds", says=r"took 32 MiB while nothing was read, and keeps [23]\d MiB of them")
class BuffersWithoutEnd(PlainClient):
    """send() puts what the kernel does not take into a buffer, and returns."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.buffer: list[bytes] = []

    async def write(self, wire: bytes) -> None:
        assert self.socket is not None
        try:
            rest = b"" if self.buffer else wire[self.socket.send(wire) :]
        except BlockingIOError:
            rest = wire
        if rest or self.buffer:
            self.buffer.append(rest or wire)


@animal("bounds-what-it-holds", says=r"took 32 MiB while nothing was read, and keeps [23]\d MiB of them")
class ForgetsToDrain(HandmadeClient):
    """It writes, and does not wait until anything is written."""

    async def write(self, wire: bytes) -> None:
        assert self.writer is not None
        self.writer.write(wire)


@animal("goes-on-after-a-pause", says=r"waited .* in vain: every message comes to an outcome")
class NeverAsksForRoom(PipelinedClient):
    """Nobody watches whether the kernel has room again."""

    def _writable(self) -> None:
        assert self._socket is not None
        self._loop.remove_writer(self._socket)


@animal("goes-on-after-a-pause", says=r"waited .* in vain: every message comes to an outcome")
class ListenerStopsForEver(ZooListener):
    """The listener stops to read when its intake is paused, and does not begin again."""

    def _resumed(self) -> None:
        self._turns.start = lambda: None  # type: ignore[method-assign]


@animal("takes-what-it-says", says=r"start\(\) was given 1 batches, and returned 2")
class TakesMoreThanThere(PipelinedClient):
    """start() says that it took more batches than it was given."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        return super().start(batches, offset) + 1


@animal("takes-what-it-says", says=r"settled\(\) returned .*, and only 3 messages were handed over")
class CountsBytes(PipelinedClient):
    """settled() counts bytes."""

    def settled(self) -> Settled:
        return Settled(self._ledger.position, 0)


@animal("takes-what-it-says", says=r"settled\(\) returned .*: more are confirmed than written")
class ConfirmsBeforeItWrites(PipelinedClient):
    """settled() confirms all that was handed over, written or not."""

    def settled(self) -> Settled:
        return Settled(super().settled().written, self._ledger.taken)


@animal("takes-what-it-says", says=r"settled\(\) returned .*, and before that .*: it never goes back")
class GoesBack(PipelinedClient):
    """settled() counts the messages of the last call alone."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.before = self._ledger.taken
        return super().start(batches, offset)

    def settled(self) -> Settled:
        count = self._ledger.taken - self.before if self._ledger.taken else 0
        return Settled(count, 0)


@animal("takes-what-it-says", says=r"writable\(\) was called inside start\(\)")
class SignalsInsideStart(PipelinedClient):
    """start() says that there is room before it returns."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        assert self._signals is not None
        self._signals.writable()
        return super().start(batches, offset)


@animal("takes-what-it-says", says=r"writable\(\) was called from another thread")
class SignalsFromAThread(PipelinedClient):
    """What its library says on a thread is passed on there."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = super().start(batches, offset)
        assert self._signals is not None
        thread = Thread(target=self._signals.writable)
        thread.start()
        thread.join()
        return taken


@animal("takes-what-it-says", says=r"3 of 3 messages did not arrive")
class KeepsTheList(PipelinedClient):
    """It sends later, out of the list of batches that it was given, which is not its own."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        asyncio.get_running_loop().call_soon(self.go_on, batches, offset)
        return len(batches)

    def go_on(self, batches: Sequence[Batch], offset: int) -> None:
        if batches:
            super().start(batches, offset)


@animal("takes-what-it-says", says=r"b'00090000 .* arrived in the place of|only 3 messages were handed over")
class ForgetsWhatToSkip(PipelinedClient):
    """start() sends the messages again that it was told to skip."""

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        return super().start(batches, 0)


@animal("takes-what-it-says", says=r"waited .* in vain: .*after a 0, writable\(\) says when to ask again")
class NeverSaysThatThereIsRoom(PipelinedClient):
    """After start() took nothing, writable() is never called."""

    def _writable(self) -> None:
        signals, self._signals = self._signals, None
        super()._writable()
        self._signals = signals


@animal("bounds-what-it-holds", says=r"took 32 MiB while nothing was read, and keeps [23]\d MiB of them")
class TakesAllThereIs(PipelinedClient):
    """start() takes every batch, and keeps those that cannot go out yet."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.waiting: list[Batch] = []

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = 0 if self.waiting else super().start(batches, offset)
        self.waiting += batches[taken:]
        return len(batches)


@animal("forgets-what-is-settled", says=r"of 8 MiB that it sent, and that arrived, it keeps [789]\.\d MiB")
class RemembersAllItSent(PlainClient):
    """It keeps a history."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.sent: list[bytes] = []

    async def write(self, wire: bytes) -> None:
        await super().write(wire)
        self.sent.append(wire)
