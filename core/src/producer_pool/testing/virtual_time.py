"""An event loop whose clock jumps: a story of a day runs in milliseconds, and the same way each time."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar, overload

from producer_pool.delivery.jitter import jitter

__all__ = ["Standstill", "VirtualTimeLoop", "in_virtual_time", "run_in_virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

_ASYNCIO: Final = Path(asyncio.__file__).parent
_RESOLUTION: Final = time.get_clock_info("monotonic").resolution


class Standstill(RuntimeError):
    """Everything waits, and nothing will ever happen. The text says what waits, and where."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    A loop that never sleeps: when nothing is left to do now, it is the time of the next timer.

    Sockets are looked at before each jump, but no time passes for them. What another thread does is
    waited for by nothing: such code belongs on a loop with a real clock.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            waiting = "; ".join(sorted(_whereabouts(task) for task in asyncio.all_tasks(self)))
            raise Standstill(f"everything waits, and no timer is set: {waiting or 'there is no task'}")
        self._now += seconds
        # asyncio takes what is due before now + resolution. After half a year, that is now itself.
        if self._now + _RESOLUTION == self._now:
            self._now = math.nextafter(self._now, math.inf)


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that calls *jump* with the seconds that it should have waited."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._jump(timeout)
        return ready


def run_in_virtual_time(story: Callable[[], Coroutine[Any, Any, T]], *, seed: int = 0) -> T:
    """
    Run the coroutine function *story* in virtual time, and return what it returns.

    ::

        async def a_long_day():
            await asyncio.sleep(24 * 3600)


        run_in_virtual_time(a_long_day)

    Pools that are made in it draw the jitter of their retries from *seed*: the same seed gives the same
    run, if the story does nothing else that differs from run to run.

    Raises:
        AssertionError: when it ended, a task was left, or an exception was raised where nobody saw it.
        Standstill: everything waits, and nothing will ever happen.
    """
    unseen: list[str] = []
    left: list[str] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(_described(what)))
        result = await story()
        left.extend(sorted(map(_whereabouts, asyncio.all_tasks() - {asyncio.current_task()})))
        return result

    context = contextvars.copy_context()
    context.run(jitter.set, Random(seed).random)
    # An exception that nobody saw is reported when its task is collected. Only what the story made can be
    # such a task, and to look through that alone takes a hundredth of the time.
    freezes = gc.get_freeze_count() == 0
    if freezes:
        gc.freeze()
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            result = runner.run(watched(), context=context)
            gc.collect()
    finally:
        if freezes:
            gc.unfreeze()
    if left:
        raise AssertionError(f"tasks left behind: {'; '.join(left)}")
    if unseen:
        raise AssertionError(f"exceptions that nobody saw: {'; '.join(unseen)}")
    return result


@overload
def in_virtual_time(story: Callable[P, Coroutine[Any, Any, None]], /) -> Callable[P, None]: ...
@overload
def in_virtual_time(
    *, seed: int
) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]: ...


def in_virtual_time(
    story: Callable[P, Coroutine[Any, Any, None]] | None = None, /, *, seed: int = 0
) -> Callable[P, None] | Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """
    Make a test out of a coroutine function: it runs as with run_in_virtual_time().

    ::

        @in_virtual_time
        async def test_a_long_day():
            await asyncio.sleep(24 * 3600)

    ``@in_virtual_time(seed=7)`` takes another seed than 0.
    """

    def wrap(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(story)
        def test(*args: P.args, **kwargs: P.kwargs) -> None:
            run_in_virtual_time(lambda: story(*args, **kwargs), seed=seed)

        return test

    return wrap if story is None else wrap(story)


def _described(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"


def _whereabouts(task: asyncio.Task[Any]) -> str:
    """Return the name of *task* and where it waits: the innermost line of it that is not asyncio's."""
    place = "not begun"
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame: FrameType | None = getattr(coroutine, "cr_frame", None)
        if frame is not None and Path(frame.f_code.co_filename).parent != _ASYNCIO:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None)
    return f"{task.get_name()} at {place}"
