"""Ctrl-C on an event loop that the program runs itself: raised after what the pool is in the middle of."""
# Python raises KeyboardInterrupt wherever the main thread is just then, between a send and the account of it,
# too. asyncio.run() handles the signal by cancelling the main task; who calls run_until_complete() has no
# such handler. Nothing here runs before a signal comes: it costs no message anything.

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Final
from weakref import WeakSet

__all__ = ["Deferral"]

_TURN: Final = asyncio.Handle._run.__code__
"""In a frame of this, asyncio's loop makes one of its calls: a step of a task, or a callback."""
_RUN: Final = asyncio.Runner.run.__code__
_AGAIN: Final = 0.05
"""Seconds after which is looked again whether an interrupt can be raised."""

_Handler = Callable[[int, FrameType | None], object]


class Deferral:
    """
    Until end(), SIGINT raises no KeyboardInterrupt out of the middle of a pool's work on a loop.

    It comes out of the loop between two calls that this makes, as if it had come while the loop waited; where
    the program's own code goes on before that, soon out of this. Code in the program's own tasks is
    interrupted at once, as ever, and so is everything by a second signal that comes before the first one was
    raised: something may hold up the loop.

    Only Python's own handler of SIGINT is replaced. Any other that a program has stays, and asyncio.run()
    does what it does without this. On another thread than the main one Python raises no interrupts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """*loop* is the one that runs."""
        self.loop = loop
        if _on_main_thread():
            # In this order: an interrupt may come in between.
            _exchange(signal.default_int_handler, _on_interrupt)
            _DEFERRALS.add(self)

    def end(self) -> None:
        """Defer no more, and raise what has not been raised yet. May be called twice."""
        if self not in _DEFERRALS:
            return
        due = False
        try:
            if _on_main_thread() and all(each is self or each.loop.is_closed() for each in _DEFERRALS):
                with _PENDING.lock:  # Or its reminder would come to Python's own handler.
                    due = _PENDING.take_back()
                    _exchange(_on_interrupt, signal.default_int_handler)
        finally:
            _DEFERRALS.discard(self)
        if due:
            raise KeyboardInterrupt


class _Pending:
    """The interrupt that came and has not been raised yet."""

    def __init__(self) -> None:
        self.lock = _thread.allocate_lock()
        """Held by whoever sends a reminder, or sees to it that none comes. A handler does not ask for it."""
        self._coming: asyncio.Handle | None = None
        """What is going to raise it."""
        self._reminds = False

    def __bool__(self) -> bool:
        return self._coming is not None

    def defer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise one between two calls that *loop* makes: what runs the loop gets it."""
        self._coming = loop.call_soon_threadsafe(self._raise)
        # Nothing of the module threading: the signal may have come while this thread holds one of its locks.
        _thread.start_new_thread(self._remind, (self._coming,))

    def take_back(self) -> bool:
        """Say whether one was still to be raised; it is not, any more."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
        return coming is not None

    def is_reminder(self) -> bool:
        """Whether the signal that has come is not a new one."""
        reminds, self._reminds = self._reminds, False
        return reminds

    def _raise(self) -> None:
        self._coming = None
        raise KeyboardInterrupt

    def _remind(self, coming: asyncio.Handle) -> None:
        """Have the main thread look again until it is raised: the loop may have no turn for long."""
        main = threading.main_thread().ident
        while True:
            time.sleep(_AGAIN)
            with self.lock:
                # Another handler may have come, whom this does not concern.
                ours = signal.getsignal(signal.SIGINT) is _on_interrupt
                if self._coming is not coming or not ours or main is None:
                    return
                self._reminds = True
                signal.pthread_kill(main, signal.SIGINT)


_DEFERRALS: Final[WeakSet[Deferral]] = WeakSet()
_PENDING: Final = _Pending()


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _exchange(old: _Handler, new: _Handler) -> None:
    """Have *new* handle SIGINT, if *old* does."""
    if signal.getsignal(signal.SIGINT) is old:
        with suppress(ValueError):  # This is not the thread on which Python handles signals.
            signal.signal(signal.SIGINT, new)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    again = _PENDING.is_reminder()
    if again and not _PENDING:
        return
    handler = _handler_of_run(frame)
    loop = asyncio._get_running_loop()
    if handler is None and loop is not None and _is_in_the_way(loop, frame):
        if again:
            return
        if not _PENDING:
            _PENDING.defer(loop)
            return
    _PENDING.take_back()
    (handler or signal.default_int_handler)(number, frame)


def _handler_of_run(frame: FrameType | None) -> _Handler | None:
    """
    Return the handler that asyncio.run() would have, if it is what runs the loop at *frame*.

    It takes the place of none but Python's own, and here is this one, for a pool on another loop.
    """
    while frame is not None and frame.f_code is not _RUN:
        frame = frame.f_back
    if frame is None or "task" not in frame.f_locals:
        return None
    runner, task = frame.f_locals["self"], frame.f_locals["task"]
    handle = getattr(runner, "_on_sigint", None)
    return None if handle is None else lambda number, frame: handle(number, frame, task)


def _is_in_the_way(loop: asyncio.AbstractEventLoop, frame: FrameType | None) -> bool:
    """
    Whether something of a pool's on *loop* would be left half done if *frame* were interrupted.

    Not in the program's own code, in one of its tasks, with nothing of ours that called it. But callbacks are
    in the way, and the loop itself: what it was about to call would never be called. So is the end of any
    task: those who wait for it, and are about to be told, would wait for ever.
    """
    if not any(deferral.loop is loop for deferral in _DEFERRALS):
        return False
    task = asyncio.current_task(loop)
    if task is None or _is_over(task.get_coro()):
        return True
    return any(map(_is_ours, _outward(frame)))


def _is_over(coroutine: object) -> bool:
    """Whether nothing of a coroutine, or of a generator that is used as one, is left to run."""
    return getattr(coroutine, "cr_frame", getattr(coroutine, "gi_frame", coroutine)) is None


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield *frame* and what called it, as far as to the loop."""
    while frame is not None and frame.f_code is not _TURN:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    """Whether this is code of the pool, or of a plugin that is named as ours are: producer_pool_tcp."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith("producer_pool")
