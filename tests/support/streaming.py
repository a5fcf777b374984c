"""Clients whose connections are streams with a kernel that a test plays, and of which the truth is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.contract.stream import Stream
from producer_pool.model.batch import Batch
from producer_pool.model.errors import SendError
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.ledger import Ledger

__all__ = ["FakeStream", "StreamingClient", "lines", "no_longer_watched"]


def lines(*messages: bytes) -> Batch:
    """Return a batch as a listener makes it of lines."""
    return Batch.from_wire(b"".join(message + b"\n" for message in messages), LINES)


class _Connection:
    """What the kernel of one connection has, and what its other side acknowledged."""

    def __init__(self) -> None:
        self.taken = b""
        self.acknowledged = 0
        self.ledger = Ledger(LINES, keeps=True)
        self.tail = b""
        self.lost = b""
        """What was written after the other side had closed."""


class StreamingClient(PipelinedClient):
    """
    Sends lines. Its consumer acknowledges at once, or with *prompt* false when it is told to.

    *room* is how many bytes the kernel takes; None: all.
    """

    protocol_name = "fake"

    def __init__(self) -> None:
        self.address = "fake:stream"
        self.connections: list[_Connection] = []
        self.prompt = True
        self.room: int | None = None
        self.ended = False
        self.fault: OSError | None = None
        """What the next send raises."""
        self.calls = self.streamed = 0
        """Calls of start(), and sends past it."""
        self._broken = True
        self._waiting = False
        """Whether it has to say so when there is room."""

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.KERNEL})

    @property
    def now(self) -> _Connection:
        return self.connections[-1]

    @property
    def arrived(self) -> list[list[bytes]]:
        """The whole lines of each connection."""
        return [one.taken[: one.taken.rfind(b"\n") + 1].split(b"\n")[:-1] for one in self.connections]

    @property
    def acknowledged(self) -> int:
        """Messages that were acknowledged wholly, on any connection."""
        return sum(one.taken[: one.acknowledged].count(b"\n") for one in self.connections)

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        self.connections.append(_Connection())
        self.ended = self._broken = self._waiting = False
        self.fault = None

    def stream(self) -> Stream | None:
        return FakeStream(self)

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        started = 0
        self.calls += 1
        for batch in batches:
            if self.now.tail or self.ended or self._broken:
                break
            wire = batch.wire(LINES, offset)
            try:
                sent = self.write(wire)
            except BlockingIOError:
                self._waiting = True
                break
            except OSError:
                self._broken = True
                break
            self.now.ledger.take(batch, offset, len(wire), len(wire) - sent)
            self.keep(wire[sent:])
            offset = 0
            started += 1
        return started

    def keep(self, rest: bytes) -> None:
        """Send *rest* when there is room."""
        self.now.tail = rest
        self._waiting = self._waiting or bool(rest)

    def settled(self) -> Settled:
        now = self.now
        written = now.ledger.within(now.ledger.position - len(now.tail))
        return Settled(written, now.ledger.within(now.acknowledged))

    async def aclose(self) -> None:
        self._broken = True

    # -- what the kernel does ----------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Take what there is room for."""
        if self.fault is not None:
            raise self.fault
        if self.ended:
            self.now.lost += data
            return len(data)
        sent = len(data) if self.room is None else min(self.room, len(data))
        if data and not sent:
            raise BlockingIOError
        if self.room is not None:
            self.room -= sent
        self.now.taken += data[:sent]
        if self.prompt:
            self.now.acknowledged = len(self.now.taken)
        return sent

    # -- what a test does to it --------------------------------------------------------------------

    def make_room(self, room: int | None) -> None:
        """Take so much more, beginning with what was partly written."""
        self.room = room
        if self._waiting and room != 0 and not (self._broken or self.ended or self.fault):
            if self.now.tail:
                self.now.tail = self.now.tail[self.write(self.now.tail) :]
            if not self.now.tail:
                self._waiting = False
                self.now.ledger.flushed()
                self._signals.writable()

    def acknowledge(self, count: int | None = None) -> None:
        """Have the consumer acknowledge *count* bytes more, or all."""
        now = self.now
        most = len(now.taken)
        now.acknowledged = most if count is None else min(now.acknowledged + count, most)

    def befall(self, what: str, *rest: Any) -> None:
        """Have it happen to the connection that a story tells of, in its words."""
        match what, *rest:
            case "acknowledge", count:
                self.acknowledge(count)
            case "room", room:
                self.make_room(room)
            case ("break",):
                self.break_off()
            case ("fault",):
                self.fault = ConnectionResetError()
                # As a real one would: the loop is told of it, too, a little later.
                asyncio.get_running_loop().call_later(0.05, self.break_off)
            case ("end",):
                self.ended = True
                asyncio.get_running_loop().call_later(0.05, self.break_off)

    def break_off(self) -> None:
        """Lose the connection, and say so."""
        if self.connections and not self._broken:
            self._broken = True
            self._signals.broken(SendError("fake: reset"))


class FakeStream(Stream):
    """The connection of a StreamingClient."""

    def __init__(self, client: StreamingClient) -> None:
        self.framing = LINES
        self._client = client
        self._connection = client.now
        self.send = self._send
        self.ended = _any_ended

    def _send(self, wire: bytes) -> int:
        assert self._connection is self._client.now, "sent on a connection that is over"
        self._client.streamed += 1
        return self._client.write(wire)

    def watch(self, yes: bool) -> None:
        if yes:
            assert self._client not in _watched
            _watched.append(self._client)
        else:
            _watched.remove(self._client)

    def has_ended(self) -> bool:
        return self._client.ended

    def unconfirmed(self) -> int:
        if self._client._signals.ack is Ack.WRITTEN:
            return 0
        return len(self._connection.taken) - self._connection.acknowledged

    def passed(self, size: int, count: int) -> None:
        self._connection.ledger.pass_by(size, count)

    def took(self, batch: Batch, sent: int) -> None:
        wire = batch.wire(LINES)
        self._connection.ledger.take(batch, 0, len(wire), len(wire) - sent)
        self._client.keep(wire[sent:])

    def broke(self, error: OSError) -> None:
        self._client._broken = True


_watched: list[StreamingClient] = []


def _any_ended() -> bool:
    return any(client.ended for client in _watched)


def no_longer_watched() -> list[StreamingClient]:
    """Return those that are watched, and watch them no longer."""
    left = _watched.copy()
    _watched.clear()
    return left
