"""What every test gets: skips by name, a place for its figures, and a guard against processes left behind."""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support import faults
from support.unhurried import take_time
from support.waiting import BOUND

# No absolute time in a test: a machine that is busy with others makes any example slow.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# multiprocessing keeps these until the interpreter ends.
LASTING = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a test waits a good part of its time, for processes and disks."""
    return (os.cpu_count() or 1) + 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    faults.collect_in(item.user_properties)
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program) is None:
                faults.lacks(f"needs the program {program}, see requirements/apt.txt")


# Here and not beside the fault stories: the process that shows the summary of parallel workers collects no
# tests, so it never sees a conftest.py further down.
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ended = (report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome))
    if stories := faults.figures_of(ended):
        terminalreporter.section("faults")
        for line in faults.table(stories):
            terminalreporter.line(line)
        if not os.environ.get("PYTEST_XDIST_WORKER"):  # They write a summary, too, that nobody sees.
            faults.keep(stories)
    skipped = terminalreporter.getreports("skipped")
    if skipped:
        terminalreporter.section("skipped")
    for report in sorted(skipped, key=lambda report: report.nodeid):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")


@pytest.fixture(autouse=True)
def ends_its_processes() -> Iterator[None]:
    """Fail a test that leaves a child process running, and end that process for the tests after it."""
    before = _children()
    yield
    left = {pid: name for pid in _children() - before if (name := _running(pid))}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"left running: {'; '.join(left.values())}", pytrace=False)


def _children() -> set[int]:
    """Return the direct children of this process; none where /proc does not tell."""
    return {int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in _read(task).split()}


def _running(pid: int) -> str:
    """Return what *pid* is; empty for one that has ended, waited for or not."""
    folder = Path(f"/proc/{pid}")
    state = _read(folder / "stat").rpartition(b")")[2].split()[:1]
    if state in ([], [b"Z"], [b"X"]):
        return ""
    # One that has just begun may have no command line yet.
    command = _read(folder / "cmdline") or _read(folder / "comm")
    if any(name in command for name in LASTING):
        return ""
    return command.replace(b"\0", b" ").strip().decode(errors="replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended between two looks
        return b""


@pytest.fixture
def no_log() -> Iterator[None]:
    """Have nothing logged: in stories by chance, lines of the log are most of the work."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def python_handles_interrupts() -> Iterator[None]:
    """Have SIGINT handled as in a program that says nothing about it: a command of ours may have run here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def unreminded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody reminded of an interrupt before a test is over: it might be the test that bears it."""
    monkeypatch.setattr("producer_pool.deferral._AGAIN", 2 * BOUND)


@pytest.fixture
async def unhurried() -> None:
    """Have the loop of the test count only the time that it had something of; see take_time()."""
    take_time(asyncio.get_running_loop())
