"""Rows that are read out of files without SQLite."""

import os
import random
import time
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.stored import stored_size
from producer_pool.storage import rawpages
from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.rawpages import raw_rows
from producer_pool.storage.record import Pending, Row, row_of

SIZES = [0, 1, 100, 3000, PAGE - 200, PAGE - 100, PAGE - 50, PAGE, 3 * PAGE, 100_000, 300_000]


def row(number: int, size: int) -> Row:
    batch = Batch.of([random.Random(number).randbytes(size)], origin="tcp://127.0.0.1:1")
    return row_of([Pending(number, batch.form, 1, stored_size(batch), None, batch.origin, 0.0)], 0, 0, 1, 0.0)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path, dict[int, Row]]:
    """Return a database, its log, and what is in both: half in the one and half in the other."""
    path = tmp_path / "spool.db"
    rows = {number: row(number, size) for number, size in enumerate(SIZES * 3, 1)}
    database = Database(path)
    for number, one in rows.items():
        database.begin()
        database.insert([one])
        database.commit()
        if number == len(rows) // 2:
            database.checkpoint()
    database.abandon()
    return path, Path(f"{path}-wal"), rows


def found(path: Path, log: Path) -> dict[int, Row]:
    return {one.number: one for one in raw_rows(path, log)}


def test_all_of_both(made: tuple[Path, Path, dict[int, Row]]) -> None:
    """Rows of any size are found, on one page and on many, in the file and in its log."""
    path, log, rows = made

    assert found(path, log) == rows


def test_without_one_of_them(made: tuple[Path, Path, dict[int, Row]], tmp_path: Path) -> None:
    """What is in the other one is found."""
    path, log, rows = made
    from_file, from_log = found(path, tmp_path / "none"), found(tmp_path / "none", log)

    assert len(from_file) >= len(rows) // 2
    assert set(range(len(rows) // 2 + 2, len(rows) + 1)) <= from_log.keys()
    assert found(tmp_path / "none", tmp_path / "none") == {}


def test_without_its_head(made: tuple[Path, Path, dict[int, Row]]) -> None:
    """The first pages, which tell SQLite what this is, are not needed."""
    path, log, rows = made
    for file in (path, log):
        with file.open("r+b") as opened:
            opened.write(bytes(100))

    assert found(path, log) == rows


def test_damaged_page_costs_its_rows(made: tuple[Path, Path, dict[int, Row]]) -> None:
    """Whichever page is damaged, all that is on others is found, and nothing that is wrong."""
    path, log, rows = made
    data = path.read_bytes()
    log.unlink()
    whole = found(path, log)
    assert whole
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    most = max(len(rawpages._cells(page, 0)) for page in pages)
    for number, page in enumerate(pages):
        path.write_bytes(b"".join([*pages[:number], os.urandom(PAGE), *pages[number + 1 :]]))

        left = found(path, log)
        assert left.items() <= rows.items()
        # Those that begin on it, or the one that it is a part of.
        assert len(whole) - len(left) <= most, page[:1]


def test_bits_in_front_of_a_row(made: tuple[Path, Path, dict[int, Row]]) -> None:
    """Whatever a bit makes of the sizes of its columns, a row is found as it was, or not at all."""
    path, log, rows = made
    log.unlink()
    whole = found(path, log)
    data = bytearray(path.read_bytes())
    page = next(at for at in range(0, len(data), PAGE) if rawpages._cells(bytes(data[at : at + PAGE]), 0))
    cell = page + rawpages._cells(bytes(data[page : page + PAGE]), 0)[0]
    costs = 0
    for at in range(cell, cell + 30):  # two numbers, and the kinds of its columns
        for bit in range(8):
            data[at] ^= 1 << bit
            path.write_bytes(data)
            left = found(path, log)
            data[at] ^= 1 << bit
            assert left.items() <= rows.items()
            costs += len(whole) - len(left)

    assert costs > 0


def test_any_bytes(tmp_path: Path) -> None:
    """Whatever is in the files, it ends soon, and finds nothing."""
    draw = random.Random(3)
    path, log = tmp_path / "spool.db", tmp_path / "log"
    began = time.thread_time()
    for _ in range(8):
        for file in (path, log):
            file.write_bytes(
                bytes([draw.choice([0x0D, 0x0A, 0xFF, draw.randrange(256)])]) * draw.randrange(PAGE * 4)
            )
        assert found(path, log) == {}
    path.write_bytes(b"\x0d" + draw.randbytes(20 * PAGE))
    for _ in range(4):
        data = bytearray(draw.randbytes(4 * PAGE))
        for at in range(0, len(data), PAGE):
            data[at] = 0x0D
        path.write_bytes(data)
        assert found(path, log) == {}
    assert time.thread_time() - began < 30


def test_circles_of_pages(tmp_path: Path, made: tuple[Path, Path, dict[int, Row]]) -> None:
    """Overflow pages that lead back to themselves do not keep it for ever."""
    path, log, _ = made
    log.unlink()
    data = bytearray(path.read_bytes())
    for at in range(PAGE, len(data), PAGE):
        if data[at] not in (0x0A, 0x0D, 0x05, 0x02):
            data[at : at + 4] = (at // PAGE + 1).to_bytes(4, "big")
    path.write_bytes(data)

    assert all(len(one.payload) < 2 * PAGE for one in found(path, log).values())
