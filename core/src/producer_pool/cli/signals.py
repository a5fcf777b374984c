"""How a command that goes on and on is ended: the first signal asks, the second one insists."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from producer_pool.cli.exits import FAILED

__all__ = ["Stop"]

_INSIST: Final = 1.0
"""Seconds after a second signal until the process leaves, whatever it is busy with."""
_LONGEST: Final = 1e8
"""Seconds that the system's timer takes: three years."""


class Stop:
    """
    SIGTERM and SIGINT as two events: `asked` with the first, `insisted` with the second.

    A second signal ends the process with exit code 1 after a second at the most, even where its loop
    is stuck in a blocking call.
    """

    def __init__(self, patience: float | None = None, overdue: Callable[[], int] | None = None) -> None:
        """
        Take over the signals. On the running loop, in the main thread.

        A process that is still there *patience* seconds after the first signal calls *overdue*, and ends
        with the exit code that it returns. It is called by the signal handler of a timer: whatever the
        loop is stuck in, it stands in the middle of that, and the loop does not go on.
        """
        self._patience = patience
        self._overdue = overdue
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Not add_signal_handler(): its handlers wait for the loop, and the loop may be stuck.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._count = 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            if self._patience is not None:
                self._leave_after(min(self._patience, _LONGEST))
            self._loop.call_soon_threadsafe(self.asked.set)
            return
        self._loop.call_soon_threadsafe(self.insisted.set)
        if self._count == 2:
            self._leave_after(_INSIST)
        else:
            os._exit(FAILED)

    def _leave_after(self, seconds: float) -> None:
        signal.signal(signal.SIGALRM, self._leave)
        # Late in its end the interpreter takes its handlers away: then the timer would kill it.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        code = FAILED
        try:
            if self._overdue is not None:
                code = self._overdue()
        finally:
            os._exit(code)
