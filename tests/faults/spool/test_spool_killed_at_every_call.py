"""
A process with a spool is killed at each single call that changes something on the disk.

After each kill, the next one begins without anybody doing something, and has all that was said to be stored.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.faults import needs_strace, report, times
from support.spool_stories import Said, environment, left_in, missing, writer
from support.spools import scribble

CALLS = ("pwrite64", "pwritev2", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "fallocate", "mkdir")
STEP = times(47, 1)
"""Each so-manieth call of a kind is a place to be killed at; the first and the last always are."""
COUNT = times(30, 60)


@pytest.fixture(autouse=True)
def strace() -> None:
    needs_strace()


def traced(folder: Path, log: Path, kind: str, *options: str) -> tuple[bool, Said]:
    """Run a writer under strace, and return whether it was killed, and what it said."""
    command = [
        *("strace", "-f", "-qq", "-o", str(log), *options),
        *writer(folder, count=COUNT, kind=kind),
    ]
    ended = subprocess.run(command, env=environment(), capture_output=True, timeout=50)
    return ended.returncode == -9, Said.of(ended.stdout)


def places(folder: Path, log: Path, kind: str, step: int) -> list[tuple[str, int]]:
    """Return the calls that a whole run makes, each with its number among those of its kind and thread."""
    traced(folder, log, kind, "-e", f"trace={','.join(CALLS)}")
    found: dict[tuple[str, str], int] = {}
    for line in log.read_text().splitlines():
        if call := re.match(r"(\d+) +(\w+)\(", line):
            found[call[1], call[2]] = found.get((call[1], call[2]), 0) + 1
    most: dict[str, int] = {}
    for (_, name), count in found.items():
        most[name] = max(most.get(name, 0), count)
    return [
        (name, number)
        for name, count in most.items()
        for number in sorted({1, count, *range(1, count + 1, step)})
    ]


def kills(
    start: Path | None, tmp_path: Path, kind: str = "spool", step: int = STEP
) -> Iterator[tuple[str, Said, Path]]:
    """Run a writer on copies of *start*, kill it at one place after the other, and yield what it had said."""

    def fresh(name: str) -> Path:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, folder)
        return folder

    log = tmp_path / "log"
    for name, number in places(fresh("whole"), log, kind, step):
        folder = fresh("killed")
        inject = f"inject={name}:signal=KILL:when={number}"
        killed, said = traced(folder, log, kind, "-e", f"trace={name}", "-e", inject)
        # Two runs do not make the very same calls: the last of them may not come.
        if killed:
            yield f"{name} {number}", said, folder


def lost_in(found: Iterator[tuple[str, Said, Path]]) -> tuple[int, int, dict[str, int]]:
    """Return kills, the messages that were said to be stored, and those of them that are gone, by place."""
    count, stored = 0, 0
    lost: dict[str, int] = {}
    for place, said, folder in found:
        count += 1
        stored += len(said.stored)
        if gone := missing(said, left_in(folder)):
            lost[place] = len(gone)
    return count, stored, lost


def test_at_every_call(tmp_path: Path) -> None:
    """None of what was stored is gone."""
    count, stored, lost = lost_in(kills(None, tmp_path))
    report("spool, killed at every call", kills=count, stored=stored, lost=sum(lost.values()))

    assert lost == {}
    assert count >= len(CALLS)
    assert stored > 0


def test_with_payloads_apart(tmp_path: Path) -> None:
    """The same where each payload is in a file of its own, and these files are begun anew all the time."""
    count, stored, lost = lost_in(kills(None, tmp_path, "apart", step=times(31, 1)))
    report("spool, killed at every call, payloads apart", kills=count, stored=stored, lost=sum(lost.values()))

    assert lost == {}
    assert stored > 0


def test_naive_one_at_every_call(tmp_path: Path) -> None:
    """The control: one that says "stored" before it is written loses messages."""
    found = (kill for kill in kills(None, tmp_path, "eager", step=times(25, 3)) if "pwrite64" in kill[0])
    count, stored, lost = lost_in(found)
    report("spool, killed at every call: naive", kills=count, stored=stored, lost=sum(lost.values()))

    assert sum(lost.values()) > 0


def damaged(tmp_path: Path) -> tuple[Path, Sequence[bytes]]:
    """Return a spool whose database is damaged, and what can be read out of it."""
    start = tmp_path / "start"
    said = Said.of(
        subprocess.run(writer(start, count=COUNT), env=environment(), capture_output=True, timeout=50).stdout
    )
    assert said.waiting
    whole = tmp_path / "looked-at"
    shutil.copytree(start, whole)
    left = left_in(whole)
    scribble(start / "spool.db")
    return start, left


def test_while_it_replaces_a_damaged_one(tmp_path: Path) -> None:
    """Killed anywhere between a damaged database and the new one, nothing of what can be read is gone."""
    start, before = damaged(tmp_path)
    count = 0
    lost: dict[str, int] = {}
    for place, said, folder in kills(start, tmp_path):
        count += 1
        left = left_in(folder)
        if "moved" not in place and said.moved < 0 and (gone := set(before) - set(left) - {b"another"}):
            lost[place] = len(gone)
    report("spool, killed while it is repaired", kills=count, lost=sum(lost.values()))

    assert lost == {}
    assert count >= len(CALLS) - 1
