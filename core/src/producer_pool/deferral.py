"""Ctrl-C on an event loop that the program runs itself: raised after what the pool is in the middle of."""
# Python raises KeyboardInterrupt wherever the main thread is just then, between a send and the account of it,
# too. asyncio.run() handles the signal by cancelling the main task; who calls run_until_complete() has no
# such handler. Nothing here runs before a signal comes: it costs no message anything.

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Final
from weakref import WeakKeyDictionary

__all__ = ["Deferral"]

_TURN: Final = asyncio.Handle._run.__code__
"""In a frame of this, asyncio's loop makes one of its calls: a step of a task, or a callback."""


class _Interrupts:
    """Those of one loop."""

    def __init__(self) -> None:
        self.deferrals = 0
        self._coming: asyncio.Handle | None = None
        """What is going to raise the one that came."""

    def defer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise one between two calls that *loop* makes: what runs the loop gets it."""
        self._coming = loop.call_soon_threadsafe(self._raise)

    def take_back(self) -> bool:
        """Say whether one was still to be raised; it is not, any more."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
        return coming is not None

    def _raise(self) -> None:
        self._coming = None
        raise KeyboardInterrupt


_LOOPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Interrupts]] = WeakKeyDictionary()


class Deferral:
    """
    Until end(), SIGINT raises no KeyboardInterrupt out of the middle of a pool's work on a loop.

    It comes out of the loop between two calls that this makes, as if it had come while the loop waited. Code
    in the program's own tasks is interrupted at once, as ever; and so is everything by a second signal that
    comes before the first one was raised, for something may hold up the loop.

    Only Python's own handler of SIGINT is replaced. Any other that a program has stays, asyncio.run()'s among
    them; and on another thread than the main one Python raises no interrupts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """*loop* is the one that runs."""
        self._loop = loop
        self._interrupts: _Interrupts | None = None
        if threading.current_thread() is threading.main_thread():
            self._interrupts = _LOOPS.setdefault(loop, _Interrupts())
            self._interrupts.deferrals += 1
            _exchange(signal.default_int_handler, _on_interrupt)

    def end(self) -> None:
        """Defer no more, and raise what has not been raised yet. May be called twice."""
        interrupts, self._interrupts = self._interrupts, None
        if interrupts is None:
            return
        interrupts.deferrals -= 1
        if interrupts.deferrals:
            return
        _LOOPS.pop(self._loop, None)
        if not _LOOPS:
            _exchange(_on_interrupt, signal.default_int_handler)
        if interrupts.take_back():
            raise KeyboardInterrupt


_Handler = Callable[[int, FrameType | None], object]


def _exchange(old: _Handler, new: _Handler) -> None:
    """Have *new* handle SIGINT, if *old* does."""
    if signal.getsignal(signal.SIGINT) is old:
        with suppress(ValueError):  # This is not the thread on which Python handles signals.
            signal.signal(signal.SIGINT, new)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    loop = asyncio._get_running_loop()
    interrupts = _LOOPS.get(loop) if loop is not None else None
    if loop is None or interrupts is None or interrupts.take_back() or _is_of_the_program(loop, frame):
        raise KeyboardInterrupt
    interrupts.defer(loop)


def _is_of_the_program(loop: asyncio.AbstractEventLoop, frame: FrameType | None) -> bool:
    """
    Whether the program's own code is at *frame*, in one of its tasks, and nothing of ours has called it.

    Callbacks are not taken for that, nor is the loop: what it was about to call would never be called.
    """
    return asyncio.current_task(loop) is not None and not any(map(_is_ours, _outward(frame)))


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield *frame* and what called it, as far as to the loop."""
    while frame is not None and frame.f_code is not _TURN:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    """Whether this is code of the pool, or of a plugin that is named as ours are: producer_pool_tcp."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith("producer_pool")
