"""How a command that goes on and on is ended: the first signal asks, the second one insists."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import Final

from producer_pool.cli.exits import FAILED

__all__ = ["Stop"]

_INSIST: Final = 1.0
"""Seconds after a second signal until the process leaves, whatever it is busy with."""


class Stop:
    """
    SIGTERM and SIGINT as two events: `asked` with the first, `insisted` with the second.

    A second signal ends the process with exit code 1 after a second at the most, even where its loop
    is stuck in a blocking call.
    """

    def __init__(self) -> None:
        """Take over the signals. On the running loop, in the main thread."""
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
            self._loop.call_soon_threadsafe(self.asked.set)
            return
        self._loop.call_soon_threadsafe(self.insisted.set)
        if self._count == 2:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(FAILED))
            signal.setitimer(signal.ITIMER_REAL, _INSIST)
        else:
            os._exit(FAILED)
