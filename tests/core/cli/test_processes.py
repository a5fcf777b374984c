"""Processes of our own: whatever signal comes, and whenever, none of them is left."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from producer_pool.cli import processes as module
from producer_pool.cli.benching.relay import next_line
from producer_pool.cli.processes import Process, ProcessError, Processes
from producer_pool.cli.signals import Interrupts
from support.interrupts import interrupted_at, points, raise_interrupted
from support.processes import clean_environment, marked
from support.waiting import BOUND, eventually

SLEEPER = ("-n1", "-r1", "__import__('time').sleep(600)")
"""What has the module timeit sleep."""


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts(signal.SIGUSR1, insists=False) as interrupts:
        yield interrupts


@pytest.fixture
def processes(interrupts: Interrupts) -> Iterator[Processes]:
    with Processes(interrupts) as processes:
        yield processes


def test_left_is_ended(interrupts: Interrupts) -> None:
    """Whatever leaves the block: none of them runs on, stopped or not."""
    started: list[Process] = []

    def leave() -> None:
        with Processes(interrupts) as processes:
            started.extend(processes.start(*SLEEPER, module="timeit") for _ in range(3))
            started[1].signal(signal.SIGSTOP)
            raise LookupError

    with pytest.raises(LookupError):
        leave()

    assert not any(process.runs for process in started)


def test_signal_while_one_is_started(processes: Processes) -> None:
    """It is raised later, where somebody waits: so that process is known."""
    signal.raise_signal(signal.SIGUSR1)
    process = processes.start(*SLEEPER, module="timeit")

    assert process.runs

    with pytest.raises(KeyboardInterrupt):
        process.ended()


def struck_everywhere(process: Process, handler: Callable[..., object]) -> list[str]:
    """Have *handler* called at each point of the look at a process; return where that left its lock taken."""
    taken = []
    folder = Path(subprocess.__file__)
    for number in range(1, points(lambda: process.runs, folder, before=lambda: None) + 1):
        lock = process._process._waitpid_lock  # type: ignore[attr-defined]
        where = interrupted_at(number, lambda: process.runs, folder, handler)
        if lock.locked():
            taken.append(where)
            lock.release()
    return taken


def test_signal_in_the_middle_of_a_look(processes: Processes) -> None:
    """Nobody keeps the lock without which a process cannot be ended."""
    process = processes.start(*SLEEPER, module="timeit")

    assert struck_everywhere(process, processes.interrupts._on_signal) == []


def test_signal_that_is_raised_at_once(processes: Processes) -> None:
    """Control: there is a point at which the lock would be kept, and the end never come."""
    process = processes.start(*SLEEPER, module="timeit")

    assert struck_everywhere(process, raise_interrupted)


def test_writing_to_one_that_does_not_read(processes: Processes) -> None:
    """Who waits for room in a pipe is interrupted there."""
    process = processes.start(*SLEEPER, module="timeit", stdin=subprocess.PIPE)
    over = threading.Event()

    def signals() -> None:
        while not over.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    thread = threading.Thread(target=signals)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            process.write(b"x" * 10_000_000)
    finally:
        over.set()
        thread.join()


def test_one_that_does_not_end(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for its end is told at last, with what it said."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    process = processes.start(*SLEEPER, module="timeit")

    with pytest.raises(ProcessError, match=r"did not end within 0\.01 s; it said:"):
        process.ended()


class Late(Process):
    """A process that is heard only after it was seen to have ended."""

    def __init__(self, *arguments: str, interrupts: Interrupts) -> None:
        self.seen = threading.Event()
        super().__init__(*arguments, interrupts=interrupts, module="timeit")

    def _hear(self, stream: IO[bytes] | None, lines: list[str]) -> threading.Thread:
        def hear() -> None:
            self.seen.wait(BOUND)
            super(Late, self)._hear(stream, lines).join()

        reader = threading.Thread(target=hear, daemon=True)
        reader.start()
        return reader

    @property
    def runs(self) -> bool:
        if super().runs:
            return True
        self.seen.set()
        return False


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_last_words(interrupts: Interrupts, stream: str) -> None:
    """What a process says just before it ends is heard, also by who sees that it has ended."""
    code = f"import sys; print('said this', file=sys.{stream}); sys.exit()"
    process = Late("-n1", "-r1", code, interrupts=interrupts)
    try:
        found = process.said("said ") if stream == "stderr" else next_line(process)
    finally:
        process.kill()

    assert found.endswith("this")


def test_no_words(interrupts: Interrupts) -> None:
    """One that ends without them is not waited for."""
    process = Late("-n1", "-r1", "raise SystemExit", interrupts=interrupts)
    with pytest.raises(ProcessError, match="ended too early"):
        process.said("said ")
    with pytest.raises(ProcessError, match="ended too early"):
        next_line(process)
    process.kill()


PROGRAM = """
    import signal
    from producer_pool.cli.processes import Processes
    from producer_pool.cli.signals import Interrupts

    # What comes when all of them are ended is for nobody.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts(signal.SIGHUP, insists=False) as interrupts, Processes(interrupts) as processes:
            print("begun", flush=True)
            for _ in range(8):
                process = processes.start(*{sleeper}, module="timeit")
            process.wait_until(lambda: False, "anything", more=600)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_at_random_moments(number: int) -> None:
    """Each process is ended, however often and whenever somebody asks for the end."""
    mark = uuid.uuid4().hex
    program = textwrap.dedent(PROGRAM.format(sleeper=SLEEPER))
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        env=clean_environment({"MARK": mark}),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        moment = random.Random()
        for _ in range(3):
            # No condition: the moment has to be any.
            running.send_signal(number)
            try:
                running.wait(moment.uniform(0.0, 0.05))
            except subprocess.TimeoutExpired:
                continue
        text, _ = running.communicate(timeout=BOUND)

        assert (text, running.returncode) == ("interrupted\n", 0)
        eventually(lambda: marked(mark) == [], "the end of all processes")
    finally:
        running.kill()
        running.communicate()
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
