"""What SQLite leaves out of a damaged log without a word is seen before."""

import os
import struct
from pathlib import Path

import pytest

from producer_pool.storage import log as log_module
from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.log import lost_commits
from support.spools import flip

FRAME = 24 + PAGE


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log with ten transactions in it, and perhaps the one that made the tables."""
    database = Database(tmp_path / "spool.db")
    database.empty_log()
    for number in range(10):
        database.begin()
        database.set_meta("total", number)
        database.commit()
    database.abandon()
    return tmp_path / "spool.db-wal"


@pytest.fixture(params=[1, 4, 256])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have so many frames looked at together."""
    monkeypatch.setattr(log_module, "_AT_ONCE", request.param)


def in_big_endian(log: Path) -> None:
    """Make the checksums of *log* those that a machine with the other order of bytes would write."""
    data = bytearray(log.read_bytes())
    data[3] |= 1
    sums = (0, 0)
    for start, size in [(0, 24), *((offset, 8) for offset in range(32, len(data), FRAME))]:
        words = bytes(data[start : start + size]) + (
            bytes(data[start + 24 : start + FRAME]) if start else b""
        )
        for left, right in struct.iter_unpack(">II", words):
            one = (sums[0] + left + sums[1]) % 2**32
            sums = one, (sums[1] + right + one) % 2**32
        struct.pack_into(">II", data, start + 24 if not start else start + 16, *sums)
    log.write_bytes(data)


@pytest.mark.usefixtures("at_once")
def test_whole(log: Path) -> None:
    """Nothing is lost of one that is whole, empty or not there."""
    assert lost_commits(log) == 0
    os.truncate(log, 0)
    assert lost_commits(log) == 0
    log.unlink()
    assert lost_commits(log) == 0


def test_torn_at_its_end(log: Path) -> None:
    """That is where a power cut found it: the last transaction did not count yet."""
    size = log.stat().st_size
    for end in (size - 1, size - PAGE, size - FRAME - 1, 31, 5):
        os.truncate(log, end)

        assert lost_commits(log) == 0


@pytest.mark.parametrize("at", [0, 3, 12, 16, 24])
def test_damaged_head(log: Path, at: int) -> None:
    """All of it would be left out."""
    flip(log, at)

    assert lost_commits(log) == 9


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("frame,lost", [(0, 9), (4, 5), (8, 1), (9, 0)])
@pytest.mark.parametrize("at", [0, 5, 9, 20, 100, 24 + PAGE - 1])
def test_damaged_in_the_middle(log: Path, frame: int, lost: int, at: int) -> None:
    """All that follows is counted; only of the last one nobody can say that it was ever whole."""
    flip(log, 32 + frame * FRAME + at)

    if at != 9 or frame == 0:  # A frame whose salt is damaged does not say itself that it is one.
        lost_now = lost_commits(log)
        assert lost - 1 <= lost_now <= lost


@pytest.mark.usefixtures("at_once")
def test_of_a_machine_with_another_order_of_bytes(log: Path) -> None:
    """Its checksums are those of other numbers, and it is read all the same."""
    in_big_endian(log)
    assert lost_commits(log) == 0

    flip(log, 32 + 4 * FRAME + 100)

    assert lost_commits(log) == 5


def test_left_from_an_earlier_round(log: Path) -> None:
    """Behind the end lies what was there before the log began anew. That is no damage."""
    database = Database(log.parent / "spool.db")
    database.checkpoint()
    database.begin()
    database.set_meta("total", 99)
    database.commit()
    size = log.stat().st_size
    database.abandon()

    assert size > 3 * FRAME
    assert lost_commits(log) == 0
