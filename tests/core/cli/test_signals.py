"""A signal that ends a command: how soon it is noticed, and where."""

import asyncio
import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer_pool.cli.signals import Interrupts, Stop
from support.waiting import BOUND, eventually


@contextmanager
def a_signal_that_no_call_of_ours_notices() -> Iterator[None]:
    """
    Have another thread take SIGTERM while this one sleeps: no call of this thread returns for it.

    So it is with a signal that comes when a thread has looked for signals and is about to wait.
    """
    waits = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    over = threading.Event()

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        eventually(lambda: over.is_set() or waits.read_text().rpartition(")")[2].split()[0] == "S", "a sleep")
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    thread = threading.Thread(target=take)
    try:
        thread.start()
        yield
    finally:
        over.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what signals did before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def silent() -> Iterator[int]:
    """A descriptor that nothing comes from."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def test_what_comes_while_it_waits(silent: int) -> None:
    """It is raised, though the system call that waits was not interrupted, and not only when that ends."""
    since = time.monotonic()

    with (
        Interrupts() as interrupts,
        pytest.raises(KeyboardInterrupt),
        a_signal_that_no_call_of_ours_notices(),
    ):
        interrupts.wait(silent, seconds=BOUND)

    assert time.monotonic() - since < BOUND


def test_what_comes_before_it_waits(silent: int) -> None:
    """It is raised as soon as the command waits, and not before."""
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interrupts.wait(silent, seconds=BOUND)


def test_the_second_one() -> None:
    """It is raised at once, whatever the command does: somebody insists."""
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_one_that_comes_behind_the_first() -> None:
    """Where it says nothing new, the first one alone is raised, though it is on its way out yet."""

    def wait(interrupts: Interrupts) -> None:
        with interrupts.raised():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)

    with Interrupts(insists=False) as interrupts:
        with pytest.raises(KeyboardInterrupt) as raised:
            wait(interrupts)
        signal.raise_signal(signal.SIGTERM)

    assert raised.value.__context__ is None


def test_what_it_waits_for(silent: int) -> None:
    """A descriptor that can be read ends the wait, and so does the time."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    try:
        with Interrupts() as interrupts:
            interrupts.wait(silent, reader)
            interrupts.wait(silent, seconds=0.001)
    finally:
        os.close(reader)
        os.close(writer)


def test_handlers_are_put_back() -> None:
    """After it, signals do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    with Interrupts():
        signal.raise_signal(signal.SIGTERM)

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_loop_that_waits() -> None:
    """It is told at once, though the system call in which it waits was not interrupted."""

    async def live() -> None:
        stop = Stop()
        with a_signal_that_no_call_of_ours_notices():
            await asyncio.wait_for(stop.asked.wait(), BOUND)

    since = time.monotonic()

    asyncio.run(live())

    assert time.monotonic() - since < BOUND


def test_alarm_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes just before our timer takes the place of theirs is not the end of our patience."""
    theirs: list[int] = []
    left: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: theirs.append(number))
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: signal.raise_signal(signal.SIGALRM))
    monkeypatch.setattr(atexit, "register", lambda *call: None)
    monkeypatch.setattr(os, "_exit", left.append)

    async def live() -> None:
        stop = Stop(patience=BOUND, overdue=lambda: 0)
        signal.raise_signal(signal.SIGTERM)
        await stop.asked.wait()

    asyncio.run(live())

    assert theirs == [signal.SIGALRM]
    assert left == []
