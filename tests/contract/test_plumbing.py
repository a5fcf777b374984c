"""What `conftest.py` does to a test, shown on tests in a folder of their own."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.unhurried import take_time

SAMPLE = """
import subprocess, sys
import pytest

@pytest.mark.needs("no-such-program")
def test_needs():
    pass

@pytest.mark.needs("sh")
def test_has():
    pass

def test_leaves():
    global process
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

def test_after_it():
    assert process.wait(5) == -9

def test_ends():
    subprocess.Popen([sys.executable, "-c", ""]).wait()
"""


FIGURES = """
import pytest
from support.faults import report, times

@pytest.mark.parametrize("turn", [1, 2])
def test_story(turn):
    report("kills", turn=turn, cycles=times(3, 50), detected_s=1.23456)
    assert turn == 1

def test_silent():
    pass
"""


def run(folder: Path, *options: str) -> str:
    """Run the tests in *folder* with our conftest.py, and return what pytest printed."""
    tests = Path(__file__).parents[1]
    shutil.copy(tests / "conftest.py", folder)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {tests}\nmarkers =\n    needs: here, too\n")
    plain = ["-p", "no:randomly", "-p", "no:cacheprovider", "-W", "ignore", "-q", *options]
    command = [sys.executable, "-m", "pytest", *plain, "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.parametrize("required", [False, True])
def test_plumbing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: bool) -> None:
    """A missing program is a skip by name, or an error where CI asks for it; so is a process left behind."""
    monkeypatch.setenv("PRODUCER_POOL_REQUIRE_SYSTEM", str(int(required)))
    (tmp_path / "test_sample.py").write_text(SAMPLE)

    said = run(tmp_path, "-p", "no:xdist")

    reason = "needs the program no-such-program, see requirements/apt.txt"
    assert ("4 passed, 2 errors" if required else "4 passed, 1 skipped, 1 error") in said
    assert (f"test_sample.py::test_needs: {reason}" in said) is not required
    assert reason in said
    assert "ERROR test_sample.py::test_leaves - Failed: left running: " in said


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("mode", ["", "full"])
def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, mode: str) -> None:
    """Each story has one line in the summary, whoever ran it; the numbers of a full run are kept, once."""
    kept = tmp_path / "figures.jsonl"
    monkeypatch.setenv("PRODUCER_POOL_FAULTS", mode)
    monkeypatch.setenv("PRODUCER_POOL_FAULTS_REPORT", str(kept))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    (tmp_path / "test_sample.py").write_text(FIGURES)
    cycles = 50 if mode == "full" else 3

    said = run(tmp_path, "-n", workers).splitlines()

    assert said.count(f"kills: turn=1 cycles={cycles} detected_s=1.2346") == 1
    assert said.count(f"kills (FAILED): turn=2 cycles={cycles} detected_s=1.2346") == 1
    assert kept.exists() is (mode == "full")
    if mode == "full":
        stories = [json.loads(line) for line in kept.read_text().splitlines()]

        assert [(story["turn"], story["outcome"]) for story in stories] == [(1, "passed"), (2, "failed")]


@pytest.mark.usefixtures("unhurried")
async def test_unhurried() -> None:
    """Time in which the loop stands still, or sleeps too long, does not count; all other time does."""
    loop = asyncio.get_running_loop()
    began, really = loop.time(), time.monotonic()
    time.sleep(0.3)
    stood = loop.time() - began
    await asyncio.sleep(0.1)
    slept = loop.time() - began - stood

    assert stood < 0.011
    assert 0.099 < slept < time.monotonic() - really - 0.29


def test_unhurried_loop_that_is_late_for_what_came() -> None:
    """What comes at once is before a timer, though the machine lets nobody see it until that is due."""
    ours, theirs = socket.socketpair()
    loop = asyncio.new_event_loop()
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def late(timeout: float | None = None) -> Any:
        ready = select(timeout)
        time.sleep(0.3 if ready else 0.0)
        return ready

    selector.select = late
    take_time(loop)
    seen: list[str] = []

    def end(what: str) -> None:
        seen.append(what)
        loop.stop()

    loop.add_reader(ours, end, "came")
    loop.call_later(0.2, end, "due")
    theirs.send(b"x")
    loop.run_forever()
    loop.remove_reader(ours)
    loop.close()
    with ours, theirs:
        assert seen == ["came"]
