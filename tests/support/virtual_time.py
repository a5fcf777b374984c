"""An event loop whose clock jumps: a story of a day runs in milliseconds, the same way each time."""

import asyncio
import functools
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

__all__ = ["Standstill", "VirtualTimeLoop", "in_virtual_time"]

P = ParamSpec("P")


class Standstill(RuntimeError):
    """Everything waits, and nothing will ever happen."""


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
            raise Standstill("everything waits, and no timer is set")
        self._now += seconds


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


def in_virtual_time(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """
    Make a test out of *story*, a coroutine function: it runs in virtual time, and leaves nothing behind.

    Fails if, when it ends, a task is left, or an exception was raised where nobody could see it.
    """

    @functools.wraps(story)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        unseen: list[str] = []
        left: list[str] = []

        async def tell() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unseen.append(_described(context)))
            await story(*args, **kwargs)
            left.extend(repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()})

        # An exception that nobody saw is reported when its task is collected. Only what the story made can
        # be such a task, and to look through that alone takes a hundredth of the time.
        gc.freeze()
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                runner.run(tell())
                gc.collect()
        finally:
            gc.unfreeze()

        assert left == [], "tasks left behind"
        assert unseen == [], "exceptions that nobody saw"

    return test


def _described(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"
