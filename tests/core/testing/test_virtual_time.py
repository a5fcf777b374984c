"""Virtual time: it jumps, it is the same each time, and it hides nothing."""

import asyncio
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, Outcome
from producer_pool.delivery.jitter import jitter
from producer_pool.testing import Standstill, VirtualTimeLoop, in_virtual_time, run_in_virtual_time
from support.fake_clients import FakeClient
from support.tree import ROOT

DAY = 24 * 3600.0


def draw() -> float:
    return jitter.get()()


async def three_draws() -> list[float]:
    return [draw() for _ in range(3)]


# -- the clock -------------------------------------------------------------------------------------


def test_time_jumps() -> None:
    """Years of sleep take none of the time of this machine, and all of it on the loop."""

    async def story() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(1000):
            await asyncio.sleep(DAY)
        return loop.time() - began

    assert run_in_virtual_time(story) == pytest.approx(1000 * DAY)


def test_timers_come_in_their_order() -> None:
    """What is due first is first, and each at exactly its time."""

    async def story() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []

        def see(what: str) -> None:
            seen.append((loop.time(), what))

        for seconds in (30.0, 0.001, 7.0):
            loop.call_later(seconds, see, str(seconds))
        await asyncio.sleep(31)
        return seen

    assert run_in_virtual_time(story) == [(1000.001, "0.001"), (1007.0, "7.0"), (1030.0, "30.0")]


def test_loop_alone() -> None:
    """The loop can be used with asyncio's own Runner, from any time on."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(5.0)) as runner:
        runner.run(asyncio.sleep(DAY))

        assert runner.get_loop().time() == pytest.approx(5.0 + DAY)


def test_sockets_come_before_time() -> None:
    """What lies in a socket is read before the time goes on."""

    async def story() -> bytes:
        reader, writer = await asyncio.open_unix_connection(sock=one)
        other.send(b"hello\n")
        async with asyncio.timeout(0.001):
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    one, other = socket.socketpair()
    with one, other:
        assert run_in_virtual_time(story) == b"hello\n"


# -- the end of a story ----------------------------------------------------------------------------


def test_result() -> None:
    """What the story returns is returned, and what it raises is raised."""

    async def returns() -> int:
        return 42

    async def raises() -> None:
        raise LookupError("mine")

    assert run_in_virtual_time(returns) == 42
    with pytest.raises(LookupError, match="mine"):
        run_in_virtual_time(raises)


def test_task_left_behind() -> None:
    """It is an error that names the task and where it waits; one that has ended is none."""
    tasks = []

    async def story(leaves: bool) -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(5), name="left over"))
        await asyncio.sleep(1 if leaves else 10)

    with pytest.raises(AssertionError, match="tasks left behind: left over at "):
        run_in_virtual_time(lambda: story(True))
    run_in_virtual_time(lambda: story(False))


def test_exception_that_nobody_saw() -> None:
    """An exception in a task that is forgotten is an error; one that was looked at is none."""

    async def fails() -> None:
        raise LookupError("nobody looks")

    async def story(looks: bool) -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(1)
        if looks:
            task.exception()

    with pytest.raises(AssertionError, match=r"exceptions that nobody saw: .*LookupError.*nobody looks"):
        run_in_virtual_time(lambda: story(False))
    run_in_virtual_time(lambda: story(True))


def test_exception_that_nobody_could_see() -> None:
    """It is found in a task that only the garbage collector would find, too."""

    async def fails() -> None:
        raise LookupError("nobody looks")

    async def story() -> None:
        circle: list[object] = [asyncio.create_task(fails())]
        circle.append(circle)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="LookupError"):
        run_in_virtual_time(story)


def test_exception_in_a_callback() -> None:
    """It is an error, too: nobody else could see it."""

    async def story() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_in_virtual_time(story)


def test_standstill() -> None:
    """A story that waits for what never comes ends, and the error says which line waits; not for ever."""

    async def waits() -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        await waits()

    line = inspect.getsourcelines(waits)[1] + 1
    with pytest.raises(Standstill, match=rf"no timer is set: Task-\d+ at test_virtual_time.py:{line}$"):
        run_in_virtual_time(story)


# -- the decorator ---------------------------------------------------------------------------------


def test_decorated() -> None:
    """A decorated story is a function that takes its arguments, and keeps its name."""
    seen = []

    @in_virtual_time
    async def story(number: int, *, word: str) -> None:
        await asyncio.sleep(number)
        seen.append((number, word, draw()))

    @in_virtual_time(seed=7)
    async def seeded() -> None:
        seen.append((0, "", draw()))

    story(5, word="five")
    seeded()

    assert seen == [(5, "five", Random(0).random()), (0, "", Random(7).random())]
    assert story.__name__ == "story"


# -- the same seed, the same run -------------------------------------------------------------------


def test_seed() -> None:
    """A seed decides what is drawn in the story, and in no other context."""
    assert run_in_virtual_time(three_draws, seed=3) == run_in_virtual_time(three_draws, seed=3)
    assert run_in_virtual_time(three_draws, seed=3) != run_in_virtual_time(three_draws, seed=4)
    assert draw() != draw()


async def outage() -> list[float]:
    """Send to a consumer that is away for a minute, and return when it was tried, and the result came."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    class Away(FakeClient):
        async def connect(self) -> None:
            times.append(loop.time())
            if loop.time() < 1060:
                raise ConnectionRefusedError
            await super().connect()

    async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
        for number in range(5):
            await pool.add_producer(f"p{number}", Away())
        results = await pool.forward_to_all("late")
    assert {result.outcome for result in results.values()} == {Outcome.DELIVERED}
    return times


def test_retries_are_the_same_again() -> None:
    """Five producers that retry for a minute do so at the same times with the same seed, and only then."""
    first, again, other = (run_in_virtual_time(outage, seed=seed) for seed in (1, 1, 2))

    assert len(first) > 5 * 8
    assert first == again
    assert first != other


def test_retries_are_the_same_in_another_process() -> None:
    """Nor does the order of sets, which differs from process to process, decide anything."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / 'tests')!r}]; "
        "from test_virtual_time import *; print(run_in_virtual_time(outage, seed=1))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(shown) == 1
