"""An event loop that outlives what is raised on it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from producer_pool.sturdy import SturdyLoop


def raises(error: BaseException) -> Callable[[], None]:
    def callback() -> None:
        raise error

    return callback


async def raise_in_a_task(error: BaseException) -> None:
    raise error


def run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=SturdyLoop) as runner:
        return runner.run(work)


def test_callback_that_exits(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with where it came from, and what else there is to do is done."""

    async def work() -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(raises(SystemExit(3)))
        done = asyncio.Event()
        loop.call_soon(done.set)
        await done.wait()
        return "done"

    with caplog.at_level(logging.ERROR):
        assert run(work()) == "done"

    assert "SystemExit out of a task or a callback on the loop, which stops nothing" in caplog.text
    assert "test_sturdy.py" in caplog.text


def test_task_that_exits(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever awaits it gets what it raised."""

    async def work() -> str:
        task = asyncio.create_task(raise_in_a_task(SystemExit(3)))
        await asyncio.wait([task])
        return repr(task.exception())

    assert run(work()) == "SystemExit(3)"
    assert "which stops nothing" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("odd")])
def test_work_that_raises(error: BaseException) -> None:
    """What the loop runs for may end it, by whatever it likes."""
    with pytest.raises(type(error)):
        run(raise_in_a_task(error))


def test_interrupt_on_the_main_thread() -> None:
    """It is meant for the program, wherever it strikes."""

    async def work() -> None:
        asyncio.get_running_loop().call_soon(raises(KeyboardInterrupt()))
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run(work())


async def test_interrupt_on_another_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Python has none there: it is an exception as any other."""

    async def work() -> str:
        asyncio.get_running_loop().call_soon(raises(KeyboardInterrupt()))
        await asyncio.sleep(0)
        return "done"

    assert await asyncio.to_thread(run, work()) == "done"
    assert "KeyboardInterrupt out of" in caplog.text
