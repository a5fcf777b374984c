"""Cancellation at every point where a coroutine waits, counted 1 to N, without any timing."""
# A task can be cancelled in two ways that differ: while it waits, which cancels what it waits for, and when
# that is done already and the task has not run yet. There results are lost, and cancellations swallowed.

import asyncio
import enum
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["MOST", "Moment", "Struck", "cancelled_at", "each_point", "striking"]

T = TypeVar("T")

MOST = 500
"""Points that a call may have: more would mean that it never ends."""


class Moment(enum.Enum):
    """When at such a point the task is cancelled."""

    WAITING = "as it waits"
    WAKING = "as it wakes"


@dataclass(frozen=True)
class Struck(Generic[T]):
    """What became of a call that was to be cancelled at one point."""

    reached: bool
    """Whether it came to that point; else it was over before, and is not cancelled."""
    result: T | None = None
    error: BaseException | None = None

    @property
    def swallowed(self) -> bool:
        """Whether it was cancelled and went on as if it had not been."""
        return self.reached and not isinstance(self.error, asyncio.CancelledError)


class _EachTime(Awaitable[T]):
    """Awaits a coroutine, and calls *note* with what it waits for each time that it begins to wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], note: Callable[[Any], None]) -> None:
        self._coroutine = coroutine
        self._note = note

    def __await__(self) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._note(waits_for)
            try:
                yield waits_for
                error = None
            except BaseException as thrown:
                error = thrown


def _cancel(moment: Moment, waits_for: Any) -> None:
    """Cancel the running task, which is about to wait."""
    task = asyncio.current_task()
    assert task is not None
    if moment is Moment.WAITING:
        task.cancel()
    elif waits_for is None:  # It only lets others have the loop.
        asyncio.get_running_loop().call_soon(task.cancel)
    else:
        # Before the task itself is told, which is added when it begins to wait.
        waits_for.add_done_callback(lambda _: task.cancel())


async def cancelled_at(
    number: int, moment: Moment, call: Callable[[], Coroutine[Any, Any, T]], *, within: float = 60.0
) -> Struck[T]:
    """Make *call* in a task of its own, which is cancelled at that point; return what became of it."""
    count = itertools.count(1)
    reached = False

    def note(waits_for: Any) -> None:
        nonlocal reached
        if next(count) == number:
            reached = True
            _cancel(moment, waits_for)

    async def run() -> T:
        return await _EachTime(call(), note)

    task = asyncio.create_task(run())
    done, _ = await asyncio.wait([task], timeout=within)
    if not done:
        task.cancel()
        raise AssertionError(f"the call did not end within {within:g} s of being cancelled at point {number}")
    if task.cancelled():
        return Struck(reached, error=asyncio.CancelledError())
    return Struck(reached, *((None, task.exception()) if task.exception() else (task.result(), None)))


async def each_point(moment: Moment, story: Callable[[int], Coroutine[Any, Any, Struck[Any]]]) -> int:
    """Run *story* with 1, 2, 3 ... until its call is over before that point; return how many there are."""
    for number in range(1, MOST):
        struck = await story(number)
        if not struck.reached:
            if struck.error is not None:
                raise struck.error
            return number - 1
        assert not struck.swallowed, f"point {number}: cancelled {moment.value}, and it went on: {struck}"
    raise AssertionError(f"more than {MOST} points")


@contextmanager
def striking(name: str, number: int, strike: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """
    Call *strike* when a task that runs the coroutine *name* begins to wait for the number-th time.

    In the block that counts for all such tasks that are made in it, together. What it yields says whether
    it came to that.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    left = number
    struck = False

    def count(_: object) -> None:
        nonlocal left, struck
        left -= 1
        if not left:
            struck = True
            strike()

    async def counted(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await _EachTime(coroutine, count)

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **context: Any) -> asyncio.Task[Any]:
        if getattr(coroutine, "__qualname__", "") == name:
            coroutine = counted(coroutine)
        return asyncio.Task(coroutine, loop=loop, **context)

    loop.set_task_factory(factory)
    try:
        yield lambda: struck
    finally:
        loop.set_task_factory(before)
