"""
The disk of a spool is full, broken or read-only for a while.

Nothing ends, what cannot be stored is said at once, and it goes on by itself when the disk does.
"""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.storage.folder import Folder
from support.faults import report, times
from support.small_disks import MiB, fill, small_disk
from support.spool_stories import failing, left_in, missing, writer
from support.spools import Desk, scribble
from support.streams import until

ROUNDS = times(1, 10)
COUNT = times(250, 1000)


async def test_full_disk(tmp_path: Path) -> None:
    """What does not fit is answered with None; who is done with what is still written; room is noticed."""
    slowest = 0.0
    refused = 0
    with small_disk(tmp_path / "disk", 40 * MiB) as disk:
        stored: list[int] = []
        async with Desk(disk / "spool") as desk:
            desk.join("a", "b")
            for _ in range(ROUNDS):
                stored += filter(None, [await desk.stored(os.urandom(200_000)) for _ in range(5)])
                filler = fill(disk)
                while (number := await desk.stored(os.urandom(200_000))) is not None:
                    stored.append(number)
                assert "full" in (desk.store.trouble or "")
                # Without a single byte left, producers go on, and what they are done with is removed.
                desk.store.move("b", stored[-1])
                desk.store.move("a", stored[-1] - 1)
                await until(lambda: not desk.store._moves)
                more = [desk.append(Batch.of([b"more"])) for _ in range(100)]
                await asyncio.wait_for(asyncio.gather(*more), 20)
                stored += [number for number in await asyncio.gather(*more) if number is not None]
                refused += sum(answer.result() is None for answer in more)
                room = time.monotonic()
                filler.unlink()
                await until(lambda: desk.store.trouble is None)
                slowest = max(slowest, time.monotonic() - room)
                number = await desk.stored(b"again")
                assert number is not None
                stored.append(number)
            position = stored[-1] - 1
            desk.store.move("a", position)
        async with Desk(disk / "spool") as desk:
            assert desk.join("a")[0].after == position
            assert await desk.messages("a", position) == [b"again"]
            assert desk.lost == []
    report("spool: full disk", rounds=ROUNDS, stored=len(stored), refused=refused, lost=0, healed_s=slowest)

    assert slowest < times(50, 5)


async def test_positions_are_written_on_a_full_disk(tmp_path: Path) -> None:
    """A daemon that is killed while its disk is full does not send again what was settled meanwhile."""
    with small_disk(tmp_path / "disk", 40 * MiB) as disk:
        async with Desk(disk / "spool") as desk:
            desk.join("a", "b")
            last = await desk.stored(b"first") or 0
            fill(disk)
            while (number := await desk.stored(os.urandom(200_000))) is not None:
                last = number
            desk.store.move("a", last)
            desk.store._hand_over_moves()
            # Whatever comes next is answered after that was tried.
            await desk.read("a", last)
            names = ["spool.db", "spool.db-wal", "state"]
            copy = tmp_path / "killed"
            copy.mkdir()
            for name in names:
                (copy / name).write_bytes((disk / "spool" / name).read_bytes())
        async with Desk(copy) as desk:
            (backlog,) = desk.join("a")

            assert backlog.after == last
            assert desk.join("b")[0].messages == last


async def damaged_on_a_full_disk(disk: Path) -> tuple[int, int]:
    """Damage a database on a disk without room, and return how many messages were in it, and are there."""
    async with Desk(disk / "spool") as desk:
        desk.join("a")
        stored = [await desk.stored(os.urandom(200_000)) for _ in range(15)]
    scribble(disk / "spool" / "spool.db")
    fill(disk)
    async with Desk(disk / "spool") as desk:
        return len(stored), desk.join("a")[0].messages


async def test_damaged_on_a_full_disk(tmp_path: Path) -> None:
    """What was kept in reserve is room enough for all that is in it."""
    with small_disk(tmp_path / "disk", 40 * MiB) as disk:
        stored, left = await damaged_on_a_full_disk(disk)
    report("spool: damaged on a full disk", stored=stored, lost=stored - left)

    assert left == stored


async def test_damaged_on_a_full_disk_without_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: one that lets go of nothing has no room for any of it."""
    monkeypatch.setattr(Folder, "use_reserve", lambda folder: None)
    with small_disk(tmp_path / "disk", 40 * MiB) as disk:
        stored, left = await damaged_on_a_full_disk(disk)
    report("spool: damaged on a full disk: without reserve", stored=stored, lost=stored - left)

    assert left == 0


class Careless:
    """The control: it writes lines to a file, and takes what write() says for granted."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.stored: list[bytes] = []

    def store(self, message: bytes) -> None:
        with suppress(OSError):
            os.write(self._fd, message + b"\n")
        self.stored.append(message)

    def close(self) -> None:
        os.close(self._fd)


def test_careless_one_on_a_full_disk(tmp_path: Path) -> None:
    """The control: one that does not look at what write() says loses messages that it says are stored."""
    with small_disk(tmp_path / "disk", MiB) as disk:
        careless = Careless(disk / "lines")
        for number in range(100):
            careless.store(b"%06d" % number * 5000)
        careless.close()
        left = (disk / "lines").read_bytes().split(b"\n")
    lost = len(set(careless.stored) - set(left))
    report("spool: full disk: careless", stored=len(careless.stored), lost=lost)

    assert lost > 0


FAULTS = [
    ("EIO", "pwrite64:error=EIO:when=60..61"),
    ("ENOSPC", "pwrite64:error=ENOSPC:when=60..61"),
    ("EROFS", "pwrite64:error=EROFS:when=60..61"),
    ("EDQUOT", "pwrite64:error=EDQUOT:when=60"),
    ("failed fsync", "fdatasync:error=EIO:when=10"),
    ("failed fsyncs", "fdatasync:error=EIO:when=10+15"),
    ("unreadable", "pread64:error=EIO:when=25"),
]


@pytest.mark.parametrize("name,inject", FAULTS, ids=[name.replace(" ", "-") for name, _ in FAULTS])
def test_disk_that_fails(tmp_path: Path, name: str, inject: str) -> None:
    """Calls to the system fail: the process goes on, and nothing is gone of what it said is stored."""
    folder = tmp_path / "spool"
    paths = [folder / name for name in ("spool.db", "spool.db-wal", "spool.new", "spool.new-wal")]
    said, failures = failing(inject, paths, writer(folder, count=COUNT), tmp_path / "log")
    gone = missing(said, left_in(folder))
    report(
        f"spool: {name}", injected=failures, stored=len(said.stored), refused=len(said.failed), lost=len(gone)
    )

    assert failures
    assert gone == set()
    assert len(said.stored) + len(said.failed) == COUNT
    if "fsync" in name:
        assert list(folder.glob("spool.db.damaged-*"))
    assert max(said.stored) > min(said.failed, default=0)
