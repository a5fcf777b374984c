"""Stories of a process that stores messages and is cut off: what it said, and what is left afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support import spool_writer
from support.faults import needs_strace
from support.processes import clean_environment
from support.spool_writer import message
from support.spools import Desk

__all__ = ["Said", "failing", "left_in", "missing", "writer", "writes"]


@dataclass
class Said:
    """What a writer said before it was cut off."""

    stored: dict[int, int] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    moved: int = -1

    @classmethod
    def of(cls, text: bytes) -> "Said":
        """Read what it printed. Its last line may be half a one."""
        said = cls()
        for line in text.split(b"\n")[:-1]:
            match line.split():
                case [b"stored", index, number]:
                    said.stored[int(index)] = int(number)
                case [b"failed", index]:
                    said.failed.append(int(index))
                case [b"moved", index, _]:
                    said.moved = int(index)
                case _:
                    raise AssertionError(f"the writer said {line!r}")
        return said

    @property
    def waiting(self) -> set[int]:
        """The messages that are stored, and that "a" still waits for."""
        return {index for index in self.stored if index > self.moved}


def writer(folder: Path, sync: object = 0, count: int = 60, kind: str = "spool") -> list[str]:
    """Return the command line of a writer."""
    return [sys.executable, spool_writer.__file__, str(folder), str(sync), str(count), kind]


def environment() -> dict[str, str]:
    """Return the environment of a writer."""
    tests = str(Path(spool_writer.__file__).parents[1])
    # Its bytecode would be calls to the system, too, and another number of them the first time.
    return clean_environment({"PYTHONPATH": tests, "PYTHONDONTWRITEBYTECODE": "1"})


def writes(command: Sequence[str], timeout: float = 50) -> tuple[int, Said, str]:
    """Run a writer to its end; return its code, what it said, and what it complained of."""
    ended = subprocess.run(command, env=environment(), capture_output=True, timeout=timeout)
    return ended.returncode, Said.of(ended.stdout), ended.stderr.decode(errors="replace")


def left_in(folder: Path) -> list[bytes]:
    """
    Open the spool, and return what lies there for "a", in order.

    It has to open as it is, take another message, and give it a number that was not there before.
    """

    async def look() -> list[bytes]:
        async with Desk(folder) as desk:
            desk.join("a", "b")
            batches, upto = await desk.read("a")
            assert desk.lost == []
            number = await desk.stored(b"another")
            assert number is not None
            assert number > max([upto, *(one.number for one in batches)])
            return [bytes(one) for stored in batches for one in stored.batch]

    return asyncio.run(look())


def missing(said: Said, left: Sequence[bytes]) -> set[int]:
    """
    Return the messages that were said to be stored, are waited for, and are gone.

    What is left has to be in order, each once, and not changed in a single byte.
    """
    found = [int(one[:8]) for one in left if one != b"another"]
    assert found == sorted(set(found))
    assert [one for one in left if one != b"another"] == [message(index) for index in found]
    return said.waiting - set(found)


def failing(inject: str, paths: Iterable[Path], command: Sequence[str], log: Path) -> tuple[Said, int]:
    """
    Run a writer whose system calls at *paths* fail as strace is told by *inject*; it has to end by itself.

    Returns what it said, and how many calls failed.
    """
    needs_strace()
    trace = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={inject.partition(':')[0]}"]
    trace += ["-e", f"inject={inject}"]
    for path in paths:
        trace += ["-P", str(path)]
    ended = subprocess.run([*trace, *command], env=environment(), capture_output=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    return Said.of(ended.stdout), log.read_text().count("(INJECTED)")
