"""Where somebody is, in words."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from producer_pool.model.whereabouts import of_coroutine, of_thread, where

HERE = "/".join(Path(__file__).parts[-2:])


def wait_for(over: threading.Event) -> None:
    over.wait()  # here, in a thread


def test_thread_that_waits() -> None:
    """The innermost function is named, and the innermost one that is nobody else's library."""
    over = threading.Event()
    thread = threading.Thread(target=wait_for, args=(over,))
    thread.start()
    assert thread.ident is not None
    stack = of_thread(sys._current_frames()[thread.ident])
    while "here, in a thread" not in str(stack.format()):
        stack = of_thread(sys._current_frames()[thread.ident])
    over.set()
    thread.join()

    assert where(stack).startswith("in ")
    assert f"wait_for() ({HERE}, line " in where(stack)


async def test_coroutine_that_waits() -> None:
    """All in which it waits are there, though no thread is in them."""

    async def outer() -> None:
        await inner()

    async def inner() -> None:
        await asyncio.sleep(60)

    waiting = outer()
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    stack = of_coroutine(waiting)
    task.cancel()

    assert [one.name for one in stack] == ["outer", "inner", "sleep"]
    assert where(stack).startswith("in sleep() (asyncio/tasks.py, line ")
    assert f", called by inner() ({HERE}, line " in where(stack)


def test_coroutine_that_is_over() -> None:
    """It is nowhere."""

    async def nothing() -> None:
        pass

    over = nothing()
    over.close()

    assert list(of_coroutine(over)) == []
