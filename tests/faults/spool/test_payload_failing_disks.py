"""Calls to the system fail that write payloads: the process goes on, and nothing that was stored is gone."""

import os
import time
from pathlib import Path

import pytest

from support.faults import report, times
from support.small_disks import MiB, fill, small_disk
from support.spool_stories import failing, left_in, missing, writer
from support.spools import Desk
from support.streams import until

COUNT = times(250, 1000)

FAULTS = [
    ("EIO", "/^pwritev:error=EIO:when=20..21"),
    ("ENOSPC", "/^pwritev:error=ENOSPC:when=20..21"),
    ("EROFS", "/^pwritev:error=EROFS:when=20..21"),
    ("failed fsync", "fdatasync:error=EIO:when=10"),
    ("failed fsyncs", "fdatasync:error=EIO:when=10+15"),
    ("no room for a file", "fallocate:error=ENOSPC:when=2+"),
    ("no descriptor", "openat:error=EMFILE:when=2"),
]


@pytest.mark.parametrize("name,inject", FAULTS, ids=[name.replace(" ", "-") for name, _ in FAULTS])
def test_disk_that_fails(tmp_path: Path, name: str, inject: str) -> None:
    """See above."""
    folder = tmp_path / "spool"
    paths = [folder / f"payload-{number}" for number in range(8)]
    command = writer(folder, count=COUNT, kind="apart")
    said, failures = failing(inject, paths, command, tmp_path / "log")
    gone = missing(said, left_in(folder))
    report(
        f"payloads: {name}",
        injected=failures, stored=len(said.stored), refused=len(said.failed), lost=len(gone),
    )  # fmt: skip

    assert failures
    assert gone == set()
    assert len(said.stored) + len(said.failed) == COUNT
    if "fsync" in name:
        assert list(folder.glob("spool.db.damaged-*"))
    if "room" in name:
        assert not said.failed  # The database had some.


async def test_full_disk(tmp_path: Path) -> None:
    """What fits goes into files, then into the database; what does not is answered so; room is noticed."""
    slowest, last, again = 0.0, 0, 0
    with small_disk(tmp_path / "disk", 64 * MiB) as disk:
        async with Desk(disk / "spool") as desk:
            desk.join("a", "b")
            assert await desk.stored(os.urandom(2 * MiB))
            assert list((disk / "spool").glob("payload-*"))
            for _ in range(times(2, 10)):
                last = await desk.stored(os.urandom(2 * MiB)) or 0
                filler = fill(disk)
                while (number := await desk.stored(os.urandom(2 * MiB))) is not None:
                    last = number
                assert "full" in (desk.store.trouble or "")
                desk.store.move("b", last)
                desk.store.move("a", last)
                room = time.monotonic()
                filler.unlink()
                await until(lambda: desk.store.trouble is None)
                slowest = max(slowest, time.monotonic() - room)
                again = await desk.stored(b"again") or 0
                assert again
            data = os.urandom(2 * MiB)
            assert await desk.stored(data)
            assert (await desk.messages("a", again)) == [data]
            assert desk.lost == []
    report("payloads: full disk", healed_s=slowest)

    assert slowest < times(50, 5)
