"""An event loop that lends its turn: while it sleeps, another thread may do a step of its work."""
# Rule: what the loop's callbacks touch is touched by nobody without the turn. The loop has it whenever it
# does not sleep in select(); a thread that waits for an answer takes it then, and saves two changes of
# threads, which cost more than a small send to many consumers.

from __future__ import annotations

import asyncio
import contextvars
import selectors
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, Final, TypeVar

from producer_pool.sturdy import SturdyLoop

__all__ = ["LendingLoop", "Turn"]

T = TypeVar("T")

_RAISERS: Final = tuple(
    int(signum)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (signum := getattr(signal, name, None)) is not None
)
"""Signals whose handlers programs write in Python, and which may raise: KeyboardInterrupt is the first."""

# Without their conversions to enums, which are dearer than the calls themselves.
try:
    _plain_signal: Any = import_module("_signal")
except ImportError:  # not CPython
    _plain_signal = signal

# Others than these do not notice what is registered while they sleep.
_Selector: Final[Any] = getattr(selectors, "EpollSelector", getattr(selectors, "KqueueSelector", None))


class Turn:
    """Who may touch what lives on the loop: the loop's own thread, or the one that it lends its turn to."""

    def __init__(self, insiders: set[int]) -> None:
        self.lock = threading.Lock()
        self._insiders = insiders
        """The threads that do the loop's work now."""
        self.touched = False
        """Whether something was scheduled, so that the loop has to be woken."""
        self.lent = False
        """Whether it was borrowed since the loop went to sleep."""
        self.context = contextvars.Context()
        """What steps are done in: a timer that is set in the borrower's own would keep all that is in it."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop whose turn it is."""

    def borrow(self, step: Callable[[], T]) -> T | None:
        """
        Do *step* on this thread if the loop sleeps, and return its answer; None: it does not. Never waits.

        On the main thread, a signal that comes in the middle is handled after the step: an exception out
        of its handler would leave things half done.
        """
        ident = threading.get_ident()
        if ident == threading.main_thread().ident:
            return _before_signals(self, step, ident)
        return self._borrow(step, ident)

    def _borrow(self, step: Callable[[], T], ident: int) -> T | None:
        if not self.lock.acquire(False):
            return None
        outer = asyncio._get_running_loop()
        self._insiders.add(ident)
        self.touched = False
        self.lent = True
        try:
            # The loop's callbacks may ask for the running loop. The thread may have one of its own.
            asyncio._set_running_loop(self.loop)
            return self.context.run(step)
        finally:
            asyncio._set_running_loop(outer)
            self._insiders.discard(ident)
            self.lock.release()


class LendingLoop(SturdyLoop):
    """A selector event loop whose turn can be borrowed while it sleeps. Not in asyncio's debug mode."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        turn.loop = self
        super().__init__(_lending(turn) if _Selector is not None else None)

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        """Schedule a call, and note that the loop must not sleep on."""
        self._turn.touched = True
        return super().call_soon(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """Schedule a call for later, and note that the loop may have to wake earlier."""
        self._turn.touched = True
        return super().call_at(*args, **kwargs)


def _lending(turn: Turn) -> selectors.BaseSelector:
    """Return a selector that lends *turn* while it waits."""

    class Lending(_Selector):  # type: ignore[misc]
        def select(self, timeout: float | None = None) -> Any:
            if timeout is not None and timeout <= 0:
                return super().select(timeout)
            turn.lent = False
            turn.lock.release()
            try:
                ready = super().select(timeout)
            finally:
                turn.lock.acquire()
            if turn.lent:
                # A borrower may have changed what is watched after this was found. What was dropped in
                # vain is found again; to asyncio, a reader that is gone would mean: forget the new one too.
                keys = self.get_map()
                ready = [(key, events) for key, events in ready if keys.get(key.fd) is key]
            return ready

    return Lending()


def _before_signals(turn: Turn, step: Callable[[], T], ident: int) -> T | None:
    """Do *step* as borrow(), and handle the signals that come meanwhile after it. On the main thread only."""
    came: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    put, ask = _plain_signal.signal, _plain_signal.getsignal
    handlers = [(number, found) for number in _RAISERS if callable(found := ask(number))]
    try:
        try:
            for number, _ in handlers:
                put(number, note)
        except ValueError as error:
            trace = error.__traceback__
            if trace is None or trace.tb_next is not None:
                raise  # That came out of a handler.
            # Python handles signals on another thread than the one that threading takes for the main one:
            # the one that imported it first, where a program in C has begun another.
            handlers = []
        return turn._borrow(step, ident)
    finally:
        raised = None
        while True:
            # A handler may raise as soon as it is back, and the others still have to come back.
            try:
                for number, handler in handlers:
                    put(number, handler)
                break
            except BaseException as error:
                raised = error
        if came or raised is not None:
            _handle(came, raised)


def _handle(came: list[tuple[int, FrameType | None]], raised: BaseException | None) -> None:
    """Have the handlers called of all signals that *came*, whatever they raise, then raise *raised*."""
    try:
        if came:
            number, frame = came.pop(0)
            handler = _plain_signal.getsignal(number)
            # Not raised again: an event loop of the program has been told of it, and would be told twice.
            if callable(handler):
                handler(number, frame)
            else:
                signal.raise_signal(number)
    finally:
        if came:
            _handle(came, raised)
        elif raised is not None:
            raise raised
