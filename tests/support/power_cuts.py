"""
Power cuts: a writer whose disk is taken away.

The writer has a file system of its own, in a file. It is stopped at a random moment, and a copy of that file
is what a disk would hold: the pages that the system had not written yet are not in it.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from support.spool_stories import Said, environment, left_in, missing, writer
from support.waiting import eventually

__all__ = ["Cut", "cuts"]

SIZE = 48 * 1024 * 1024


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """Mount the file system that is in *image*."""
    where.mkdir(exist_ok=True)
    # No other journal commits than those that somebody asks for, so that what nobody synced is not there.
    subprocess.run(["mount", "-o", "loop,commit=300", image, where], check=True, timeout=20)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True, timeout=20)


@dataclass
class Cut:
    """What was found behind one cut."""

    stored: int
    lost: int
    oldest: float
    """How long before the cut the oldest lost message was said to be stored, at the most."""


class Victim:
    """A writer on a file system of its own, and when it said what."""

    def __init__(self, process: subprocess.Popen[bytes], image: Path) -> None:
        self._process = process
        self._image = image
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._pipe: IO[bytes] = process.stdout
        self.text = b""
        self.times: dict[int, float] = {}

    def listen(self) -> None:
        """Read what it said since the last time."""
        now = time.monotonic()
        while data := self._pipe.read(1 << 20):
            self.text += data
        for index in Said.of(self.text).stored:
            self.times.setdefault(index, now)

    def stop(self) -> float:
        """Stop all of its threads, and return when that was."""
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        eventually(lambda: all(map(_is_stopped, tasks.glob("*/stat"))), "it is stopped")
        return time.monotonic()

    def cut(self, folder: Path) -> Cut:
        """Stop it, take the disk as it is, let it go on, and return what is on that disk."""
        stopped = self.stop()
        self.listen()
        said = Said.of(self.text)
        copy = folder / "cut.img"
        shutil.copyfile(self._image, copy)
        self._process.send_signal(signal.SIGCONT)
        with mounted(copy, folder / "after") as after:
            lost = missing(said, left_in(after / "spool"))
        copy.unlink()
        return Cut(len(said.stored), len(lost), max((stopped - self.times[one] for one in lost), default=0.0))


def _is_stopped(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # the thread ended between two looks
        return False


@contextmanager
def victim(folder: Path, sync: object, kind: str) -> Iterator[Victim]:
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=20)
    with mounted(image, folder / "before") as before:
        process = subprocess.Popen(
            writer(before / "spool", sync, 10**9, kind), env=environment(), stdout=subprocess.PIPE
        )
        try:
            yield Victim(process, image)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def cuts(folder: Path, sync: object, cycles: int, kind: str = "spool") -> list[Cut]:
    """Cut the power so many times, at moments that differ from run to run."""
    draw = random.Random()
    found = []
    with victim(folder, sync, kind) as target:
        for _ in range(cycles):
            before = len(target.times)
            enough = before + draw.randrange(20, 200)

            def heard(enough: int = enough) -> bool:
                target.listen()
                return len(target.times) >= enough

            eventually(heard, "it stores messages")
            found.append(target.cut(folder))
    return found
