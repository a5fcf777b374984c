"""What blocks an event loop is found and named, and nothing else is."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from producer_pool.testing import watchdog
from producer_pool.testing.watchdog import BLOCKED, Watchdog
from support.waiting import BOUND, eventually

wait_here = time.sleep  # under a name that nobody looks for

Scheduled = tuple[bool, float, float]


def compute(seconds: float) -> None:
    """Keep a processor busy for so long, in one call, which lets other threads run."""
    few = 10_000
    since = time.thread_time()
    hashlib.pbkdf2_hmac("sha256", b"", b"", few)
    took = time.thread_time() - since
    hashlib.pbkdf2_hmac("sha256", b"", b"", max(1, int(few * seconds / took)))


async def test_call_that_blocks() -> None:
    """It is found while it lasts, and named with its file and line."""
    gate = threading.Lock()
    gate.acquire()
    with Watchdog() as watch:
        watch.when_found.append(gate.release)
        assert gate.acquire(timeout=BOUND)

    told = re.match(
        r"nothing else ran for ([\d.]+) s and more, "
        r"in test_call_that_blocks\(\) \(testing/test_watchdog\.py, line \d+\)",
        watch.found,
    )
    assert told, watch.found
    assert float(told[1]) >= BLOCKED


async def test_call_that_computes() -> None:
    """Who computes for too long blocks the loop as well."""
    give_up = time.monotonic() + BOUND
    with Watchdog() as watch:
        # Once is enough where the one who watches gets its turns, too.
        while not watch.found and time.monotonic() < give_up:
            compute(4 * BLOCKED)

        assert "in compute() (testing/test_watchdog.py" in watch.found


@pytest.mark.parametrize(
    "call,name",
    [
        (lambda: time.sleep(0.0001), "time.sleep"),
        (lambda: socket.getaddrinfo("localhost", 1), "socket.getaddrinfo"),
        (lambda: socket.gethostbyname("localhost"), "socket.gethostbyname"),
    ],
)
async def test_call_that_would_block(call: Callable[[], object], name: str) -> None:
    """Calls that wait for something are found however short they are."""
    with Watchdog() as watch:
        call()

        assert watch.found.startswith(f"{name}() is called on the event loop, in <lambda>()")


async def test_caller_of_the_library_is_named() -> None:
    """Who is meant is not Python's own function in between, but the one that called it."""
    with Watchdog() as watch, pytest.raises(OSError, match="refused"):
        socket.create_connection(("localhost", 1))

    assert watch.found.startswith("socket.getaddrinfo() is called on the event loop, in create_connection() ")
    assert ", called by test_caller_of_the_library_is_named() (testing/test_watchdog.py" in watch.found


@pytest.mark.parametrize(
    "call",
    [
        lambda: time.sleep(0),
        lambda: socket.getaddrinfo("127.0.0.1", 1),
        lambda: socket.getaddrinfo("::1", 1),
        lambda: socket.getaddrinfo(None, 1),
        lambda: socket.gethostbyname("127.0.0.1"),
        lambda: compute(0.001),
    ],
)
async def test_call_that_waits_for_nothing(call: Callable[[], object]) -> None:
    """Numbers need not be looked up, and a little work is no crime."""
    with Watchdog() as watch:
        call()
        await asyncio.sleep(0.02)

    assert watch.found == ""


async def test_calls_on_other_threads_are_theirs() -> None:
    """A thread may wait as long as it likes."""
    with Watchdog() as watch:
        await asyncio.to_thread(time.sleep, 1.5 * BLOCKED)
        await asyncio.to_thread(socket.getaddrinfo, "localhost", 1)

    assert watch.found == ""


async def test_loop_that_waits_in_order() -> None:
    """A loop that has nothing to do is not blocked."""
    with Watchdog() as watch:
        await asyncio.sleep(1.5 * BLOCKED)

    assert watch.found == ""


@pytest.mark.parametrize(
    "scheduled",
    [lambda: (True, 0.0, 0.0), lambda: (False, 0.0, time.monotonic())],
    ids=["it waits for its turn", "it had to wait"],
)
async def test_time_without_a_processor_does_not_count(
    scheduled: Callable[[], Scheduled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that was ready and did not get its turn blocks nobody."""
    monkeypatch.setattr(Watchdog, "_scheduled", lambda watch: scheduled())
    with Watchdog() as watch:
        wait_here(2 * BLOCKED)

    assert watch.found == ""


@pytest.mark.parametrize(
    "scheduled",
    [lambda: (True, time.monotonic(), 0.0), lambda: (False, 0.0, 0.0)],
    ids=["it runs", "it sleeps"],
)
async def test_time_with_a_processor_counts(
    scheduled: Callable[[], Scheduled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it did get its turn, or needed none."""
    monkeypatch.setattr(Watchdog, "_scheduled", lambda watch: scheduled())
    gate = threading.Lock()
    gate.acquire()
    with Watchdog() as watch:
        watch.when_found.append(gate.release)

        assert gate.acquire(timeout=BOUND)


async def test_loop_whose_timers_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nobody but the machine."""
    loop = asyncio.get_running_loop()
    with Watchdog() as watch:
        # The loop's heart: what it is told is far behind what it was promised.
        monkeypatch.setattr(watchdog, "_BEAT", 2 * BLOCKED)
        await asyncio.sleep(0.05)
        late = loop.time()
        await asyncio.sleep(1.5 * BLOCKED)

        assert loop.time() - late > BLOCKED
    assert watch.found == ""


async def test_busy_machine_raises_no_alarm() -> None:
    """Others that take all processors make this loop late, which is not its fault."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        with Watchdog() as watch:
            await asyncio.sleep(4 * BLOCKED)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()

    assert watch.found == ""


async def test_what_it_replaced_is_put_back() -> None:
    """After the block, the functions are Python's own, and its thread has ended."""
    before = time.sleep, socket.getaddrinfo, socket.gethostbyname
    with Watchdog() as watch:
        assert time.sleep is not before[0]

    assert (time.sleep, socket.getaddrinfo, socket.gethostbyname) == before
    eventually(lambda: not watch._thread.is_alive(), "its thread has ended")


async def test_who_can_set_the_loop_free_is_told() -> None:
    """What blocks for ever would else be found, and never reported."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Watchdog() as watch:
        watch.when_found.append(theirs.close)

        assert ours.recv(1) == b""
        assert "test_who_can_set_the_loop_free_is_told()" in watch.found
