"""How a command that goes on and on is ended: the first signal asks, the second one insists."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select
from types import FrameType
from typing import Final, Self

from producer_pool.cli.exits import FAILED

__all__ = ["Interrupts", "Stop"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
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
        for number in _ENDING:
            signal.signal(number, self._on_signal)
        # A loop that is about to wait misses signals, unless it handles any: this one tells it nothing else.
        self._loop.add_signal_handler(signal.SIGWINCH, int)
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
        # Late in its end the interpreter takes its handlers away: then the timer would kill it.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        # The timer first: an alarm that somebody else had set is not taken for it.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.signal(signal.SIGALRM, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        code = FAILED
        try:
            if self._overdue is not None:
                code = self._overdue()
        finally:
            os._exit(code)


class Interrupts:
    """
    The first SIGTERM or SIGINT as a KeyboardInterrupt where a command without a loop waits, and only there.

    Elsewhere it could come out of the middle of anything, such as a log handler that has just taken its
    lock: nobody would give that back, and the next thread that logs would wait for ever. The second signal
    is raised wherever it comes.
    """

    def __init__(self, *more: int, insists: bool = True) -> None:
        """Make them of *more* signals, too. Without *insists*, those after the first one say nothing new."""
        self._numbers = (*_ENDING, *more)
        self._insists = insists
        self._came = False
        self._waits = False

    def __enter__(self) -> Self:
        """Take over the signals. In the main thread."""
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        self._before = [(number, signal.signal(number, self._on_signal)) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._readable)
        os.close(self._writable)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._insists:
            for ending in self._numbers:
                signal.signal(ending, signal.default_int_handler)
        self._came = True
        if self._waits:
            # Once: the next one may come while it is on its way out of the body.
            self._waits = False
            raise KeyboardInterrupt

    @contextmanager
    def raised(self) -> Iterator[None]:
        """
        Raise in the body, or before it, what has come.

        The body must bear an exception between any two of its steps, and must not wait for long: a signal
        that comes when it is just about to wait is raised only afterwards. See wait().
        """
        self._waits = True
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._waits = False

    def wait(self, *fds: int, seconds: float | None = None) -> None:
        """Wait until one of *fds* can be read, or for *seconds*. No signal is missed."""
        with self.raised():
            select([self._readable, *fds], [], [], seconds)
