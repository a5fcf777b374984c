"""When a listener reads: whenever something came, unless its intake has it wait, or it takes a rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from producer_pool.contract.ports import Intake

__all__ = ["Turns"]


class Turns:
    """
    Has a listener take a turn whenever a descriptor is readable.

    None begins while the intake is paused, nor within a rest, for which a turn may ask: what comes
    meanwhile is left in the kernel.
    """

    reading: bool = False
    """Whether turns are taken, rests between them included."""
    resuming: asyncio.Task[None] | None = None
    """What waits until the intake is not paused any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        intake: Intake,
        work: Callable[[], float],
        resumed: Callable[[], None],
    ) -> None:
        """
        Prepare turns at the descriptor *fd*, which begin with start().

        *work* is called for each, and returns the seconds of rest that follow it. *resumed* is called
        before the first one after the intake was paused.
        """
        self._loop = loop
        self._fd = fd
        self._intake = intake
        self._work = work
        self._resumed = resumed
        self._resting: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take turns from now on."""
        self.reading = True
        self._loop.add_reader(self._fd, self._turn)

    def stop(self) -> None:
        """Take none any more. May be called at any time."""
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self._fd)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self.resuming is not None:
            self.resuming.cancel()
            self.resuming = None

    def _turn(self) -> None:
        rest = 0.0 if self._intake.paused else self._work()
        if not self.reading:
            return
        if self._intake.paused:
            self.stop()
            self.resuming = self._loop.create_task(self._resume())
        elif rest:
            self._loop.remove_reader(self._fd)
            self._resting = self._loop.call_later(rest, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        self.start()
        self._turn()

    async def _resume(self) -> None:
        while self._intake.paused:
            await self._intake.resumed()
        self.resuming = None
        self._resumed()
        self.start()
