"""One direction of one connection through a fault proxy: read at the source, written to the sink."""
# Rule: nothing here waits. Sockets and timers of one loop call in, and each call does what can be done now.

from __future__ import annotations

import asyncio
import socket
from collections import deque
from random import Random
from typing import Final, Protocol

from producer_pool.model.outcomes import Ack
from producer_pool.testing.proxy_faults import Faults, Traffic
from producer_pool.toolkit.streams.progress import TCP_ACKS, TcpProgress

__all__ = ["BUFFER", "Pipe", "PipeEvents"]

BUFFER: Final = 256 * 1024
"""Bytes above which a pipe reads nothing more; the kernel's buffers come on top."""

_READ: Final = 64 * 1024
_TICK: Final = 0.02
"""Seconds: with a bandwidth, so much goes out at once."""
_LOOK: Final = 0.001
_LOOKS: Final = 1000
"""How often a reset looks whether what goes before it is acknowledged: a second, on a machine with time."""


class PipeEvents(Protocol):
    """What a pipe tells its connection."""

    def lost(self, sock: socket.socket) -> None:
        """Who is at the other side of *sock* is gone."""

    def reset_now(self) -> None:
        """It is time for both sides to see a reset."""

    def look_over(self) -> None:
        """Something has changed; perhaps the connection is through."""


class Pipe(Traffic):
    """Reads, keeps within bounds, delays, cuts and writes. It uses both sockets; the connection has them."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        connection: PipeEvents,
        *,
        total: Traffic,
        random: Random,
    ) -> None:
        super().__init__()
        self.source = source
        self.sink = sink
        self.queued = 0
        """Bytes that are kept."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._total = total
        self._random = random
        self._faults = Faults()
        self._queue: deque[tuple[float, memoryview]] = deque()
        """What is kept, and when it is due. What is due before those in front of it waits for them."""
        self._free = 0.0
        """When the bandwidth lets the next piece go."""
        self._quota: int | None = None
        """Bytes that are still to be passed on before the connection is reset."""
        self._looks = 0
        """How often a reset has looked in vain."""
        self._ended = self._was_reset = False
        """Whether the source says no more, and whether that was by a reset."""
        self._shut = False
        """Whether nothing more is written to the sink."""
        self._reads = self._writes = False
        self._next: asyncio.Handle | None = None

    # -- what is done to it --------------------------------------------------------------------------

    def suffer(self, faults: Faults) -> None:
        """Do so from now on, with what is kept, too."""
        now = self._loop.time()
        latest = now + faults.delay + faults.jitter
        self._queue = deque((min(due, latest), data) for due, data in self._queue)
        self._free = 0.0
        self._faults = faults
        self._quota = faults.reset_after
        self._looks = 0
        self.go_on()

    def half_close(self) -> None:
        """End the stream at the sink; what the source says from now on is thrown away."""
        self._shut_down()
        self.go_on()

    def lose_source(self) -> None:
        """Pass the source's reset on, behind what came before it."""
        self._ended = self._was_reset = True
        self.go_on()

    def lose_sink(self) -> None:
        """Throw away what comes: there is nobody to pass it on to."""
        self._shut = True
        self.go_on()

    def close(self) -> None:
        """Let go of the loop."""
        self._ended = self._shut = True
        self._quota = None
        self._queue.clear()
        self.queued = 0
        self._watch(reads=False, writes=False)
        if self._next is not None:
            self._next.cancel()

    @property
    def over(self) -> bool:
        """Whether there is nothing to be read any more, and nothing to be written."""
        return self._ended and self._shut

    # -- reading -------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self.source.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._connection.lost(self.source)
            return
        if data:
            stays = self._faults.delay + self._faults.jitter * self._random.random()
            self._queue.append((self._loop.time() + stays, memoryview(data)))
            self.queued += len(data)
        else:
            self._ended = True
        self.go_on()

    # -- passing on ----------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Do what is due, and see to it that the rest will be done."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        blocked = False
        if self._shut or self._faults.black_hole:
            self._swallow()
        elif self._quota != 0 and self._queue:
            blocked = self._pass_on()
        if self._quota == 0:
            self._reset_soon()
            return
        if self._ended and not self._queue and not self._faults.black_hole:
            if self._was_reset:
                self._reset_soon()
                return
            self._shut_down()
        reads = not self._ended and not self._faults.stalled and self.queued < BUFFER
        self._watch(reads=reads, writes=blocked)
        self._connection.look_over()

    def _swallow(self) -> None:
        self.swallowed += self.queued
        self._total.swallowed += self.queued
        self._queue.clear()
        self.queued = 0

    def _pass_on(self) -> bool:
        """Write what may be written now; say whether the sink has no room for more of it."""
        faults, loop = self._faults, self._loop
        while self._queue and self._quota != 0:
            due = max(self._queue[0][0], self._free)
            if due > loop.time():
                self._next = loop.call_at(due, self.go_on)
                return False
            piece = self._queue[0][1]
            try:
                count = self.sink.send(piece[: self._most(len(piece))])
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                self._connection.lost(self.sink)
                return False
            self._passed(count)
            if faults.bandwidth is not None:
                self._free = max(self._free, loop.time() - _TICK) + count / faults.bandwidth
            if faults.slice is not None and self._queue:
                # A receiver on this loop reads each piece alone. It has its turn behind the next one of ours.
                self._next = loop.call_soon(self._let_others)
                return False
        return False

    def _let_others(self) -> None:
        self._next = self._loop.call_soon(self.go_on)

    def _most(self, size: int) -> int:
        """Return how many bytes the next piece may have."""
        bounds = [size]
        if self._faults.slice is not None:
            bounds.append(self._faults.slice)
        if self._faults.bandwidth is not None:
            bounds.append(max(1, int(self._faults.bandwidth * _TICK)))
        if self._quota is not None:
            bounds.append(self._quota)
        return min(bounds)

    def _passed(self, count: int) -> None:
        due, data = self._queue.popleft()
        if count < len(data):
            self._queue.appendleft((due, data[count:]))
        self.queued -= count
        self.passed += count
        self._total.passed += count
        if self._quota is not None:
            self._quota -= count
            self._looks = 0

    # -- ending --------------------------------------------------------------------------------------

    def _reset_soon(self) -> None:
        """Reset the connection, but not what was passed on before: a kernel forgets what it has not sent."""
        self._watch(reads=False, writes=False)
        if _unacknowledged(self.sink) and self._looks < _LOOKS:
            self._looks += 1
            self._next = self._loop.call_later(_LOOK, self.go_on)
        else:
            self._connection.reset_now()

    def _shut_down(self) -> None:
        if not self._shut:
            self._shut = True
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                return  # It is gone already; who reads from it will be told.

    def _watch(self, *, reads: bool, writes: bool) -> None:
        if reads is not self._reads:
            self._reads = reads
            if reads:
                self._loop.add_reader(self.source, self._read)
            else:
                self._loop.remove_reader(self.source)
        if writes is not self._writes:
            self._writes = writes
            if writes:
                self._loop.add_writer(self.sink, self.go_on)
            else:
                self._loop.remove_writer(self.sink)


def _unacknowledged(sock: socket.socket) -> bool:
    """Whether bytes of *sock* have not been acknowledged, as far as that can be known."""
    if sock.family == socket.AF_UNIX or Ack.KERNEL not in TCP_ACKS:
        return False
    return TcpProgress(sock).acknowledged(0) != 0
