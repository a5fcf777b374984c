"""When a listener reads: whenever something came, unless its intake has it wait, or it takes a rest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from producer_pool.contract.ports import Intake
from producer_pool.toolkit.sockets.readiness import Readiness
from producer_pool.toolkit.streams.gathering import Gathering
from producer_pool.toolkit.streams.readbuffer import TURN

__all__ = ["Turns"]


class Turns:
    """
    Has a listener take a turn whenever connections are ready, in which each of them is visited once.

    None begins while the intake is paused, nor within a rest, for which a turn may ask: what comes
    meanwhile is left in the kernel.
    """

    reading: bool = False
    """Whether turns are taken, rests between them included."""
    resuming: asyncio.Task[None] | None = None
    """What waits until the intake is not paused any more."""

    def __init__(
        self,
        ready: Readiness,
        intake: Intake,
        *,
        visit: Callable[[int], int],
        resumed: Callable[[], None],
        gathering: Gathering | None = None,
    ) -> None:
        """
        Prepare turns on this loop for the connections of which *ready* tells. They begin with start().

        *visit* is called with the descriptor of each, and returns what that cost. *resumed* is called before
        the first turn after the intake was paused. *gathering* is told when one ends, and asks for rests.
        """
        self._loop = asyncio.get_running_loop()
        self._ready = ready
        self._intake = intake
        self._visit = visit
        self._resumed = resumed
        self._gathering = gathering
        self._waiting: deque[int] = deque()
        """Connections that are ready and were not visited in this turn."""
        self._resting: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take turns from now on."""
        self.reading = True
        self._ready.attend(self._loop, self._turn)

    def stop(self) -> None:
        """Take none any more. May be called at any time."""
        if self.reading:
            self.reading = False
            self._ready.leave()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self.resuming is not None:
            self.resuming.cancel()
            self.resuming = None

    async def read_out(self) -> bool:
        """Visit all that are ready, until none is; say whether any was. Not while turns are taken."""
        found = False
        while True:
            while self._intake.paused:
                await self._intake.resumed()
            if not self._go_round():
                return found
            found = True
            if self._gathering is not None:
                self._gathering.end_turn(self._loop.time())
            await asyncio.sleep(0)

    def _turn(self, fd: int | None) -> None:
        rest = 0.0
        if not self._intake.paused:
            if fd is None:
                self._go_round()
            else:
                self._visit(fd)
            if self._gathering is not None:
                rest = self._gathering.end_turn(self._loop.time())
        if not self.reading:
            return
        if self._intake.paused:
            self.stop()
            self.resuming = self._loop.create_task(self._resume())
        elif rest and not self._waiting:
            self._ready.leave()
            self._resting = self._loop.call_later(rest, self._go_on)

    def _go_round(self) -> bool:
        """Visit those that are ready, until the turn is over or the intake is full; False: none is."""
        waiting = self._waiting
        if not waiting:
            waiting.extend(self._ready.poll())
        found = bool(waiting)
        left = TURN
        while waiting and left > 0:
            left -= self._visit(waiting.popleft())
            if waiting and self._intake.paused:
                break
        return found

    def _go_on(self) -> None:
        self._resting = None
        self.start()
        self._turn(None)

    async def _resume(self) -> None:
        while self._intake.paused:
            await self._intake.resumed()
        self.resuming = None
        self._resumed()
        self.start()
