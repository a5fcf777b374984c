"""Reads rows out of a database that SQLite cannot read: page by page, from the file and from its log."""
# Rule: whatever the bytes are, this ends, in bounded memory, and raises nothing but OSError. What is found is
# a guess until the checksum of the row says that it is right. https://sqlite.org/fileformat2.html

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

from producer_pool.storage.database import PAGE
from producer_pool.storage.record import Row, checked

__all__ = ["raw_rows"]

_LEAF: Final = 0x0D
_LOG_HEAD: Final = 32
_FRAME_HEAD: Final = 24
_MOST_BYTES: Final = 1 << 30
"""Of a row. SQLite takes no larger ones."""
_COLUMNS: Final = len(Row._fields)
_SMALL: Final = 64
"""Bytes by which a row is known whose payload is elsewhere: its number is within them."""

Fetch = Callable[[object, int], bytes | None]
"""Returns the payload at a place, of the batch of this number; None: there is none."""


def _nothing(place: object, number: int) -> None:
    return None


class _Pages:
    """The pages of a database file and of its log. A page may be in both, and several times in the log."""

    def __init__(self, database: Path, log: Path) -> None:
        self._files: Final = [_open(database), _open(log)]
        self._sizes: Final = [_size(fd) for fd in self._files]
        self._newest: Final[dict[int, int]] = {}
        """Where in the log the newest form of a page is."""
        step = _FRAME_HEAD + PAGE
        self._frames: Final = range(_LOG_HEAD, max(self._sizes[1] - step + 1, _LOG_HEAD), step)
        for offset in self._frames:
            number = int.from_bytes(self._read(1, offset, 4), "big")
            self._newest[number] = offset + _FRAME_HEAD

    def close(self) -> None:
        for fd in self._files:
            if fd is not None:
                os.close(fd)

    def _read(self, file: int, offset: int, size: int) -> bytes:
        fd = self._files[file]
        if fd is None:
            return b""
        try:
            return os.pread(fd, size, offset)
        except OSError:
            return b""  # A part of the disk that cannot be read.

    def all(self) -> Iterator[tuple[int, bytes]]:
        """Yield each page in each of its forms, with where its contents begin."""
        for offset in range(0, self._sizes[0], PAGE):
            yield 100 if offset == 0 else 0, self._read(0, offset, PAGE)
        for offset in self._frames:
            yield 0, self._read(1, offset + _FRAME_HEAD, PAGE)

    def page(self, number: int, *, from_log: bool) -> bytes:
        """Return a page in its newest form, or without *from_log* the one in the file."""
        if from_log and number in self._newest:
            return self._read(1, self._newest[number], PAGE)
        return self._read(0, (number - 1) * PAGE, PAGE)


def raw_rows(database: Path, log: Path, fetch: Fetch = _nothing) -> Generator[Row, None, None]:
    """
    Yield the rows with a right checksum in *database* and in *log*, its -wal file, in no order.

    One may come twice, or be one that was removed; files that are not there are taken for empty ones.
    *fetch* gets payloads that lie elsewhere.
    """
    pages = _Pages(database, log)
    seen: set[int] = set()
    try:
        for start, page in pages.all():
            for cell in _cells(page, start):
                # Pages with many small rows are in the log many times.
                if (known := hash(page[cell : cell + _SMALL])) in seen:
                    continue
                for from_log in (True, False):
                    if row := _row(pages, page, cell, from_log, fetch):
                        if row.place is not None:
                            seen.add(known)
                        yield row
                        break
    finally:
        pages.close()


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _size(fd: int | None) -> int:
    return 0 if fd is None else os.fstat(fd).st_size


def _cells(page: bytes, start: int) -> list[int]:
    """Return where the cells of a leaf of a table are; none of another kind of page."""
    if len(page) < PAGE or page[start] != _LEAF:
        return []
    count = min(int.from_bytes(page[start + 3 : start + 5], "big"), (PAGE - start - 8) // 2)
    return list(struct.unpack_from(f">{count}H", page, start + 8))


def _row(pages: _Pages, page: bytes, cell: int, from_log: bool, fetch: Fetch) -> Row | None:
    """Return the row whose cell begins there, if it is one, with its overflow pages."""
    try:
        size, at = _varint(page, cell)
        number, at = _varint(page, at)
        if not 0 < size <= _MOST_BYTES:
            return None
        local = _local(size)
        if at + local > PAGE:
            return None
        pieces = [page[at : at + local]]
        missing = size - local
        if missing:
            # The small columns are here, so what is no row of ours is seen before anything else is read.
            if not _plausible(pieces[0], size):
                return None
            following = int.from_bytes(page[at + local : at + local + 4], "big")
            while missing > 0:
                more = pages.page(following, from_log=from_log) if following else b""
                if len(more) < PAGE:
                    return None
                following = int.from_bytes(more[:4], "big")
                pieces.append(more[4 : 4 + missing])
                missing -= PAGE - 4
        *columns, payload, place = _record(b"".join(pieces))
        if place is not None:
            payload = fetch(place, number)
    except (IndexError, ValueError, struct.error, UnicodeDecodeError):
        return None
    return checked((number, *columns[1:], payload, place)) if len(columns) == _COLUMNS - 2 else None


def _local(size: int) -> int:
    """Return how many bytes of a cell of *size* are on its own page."""
    most = PAGE - 35
    if size <= most:
        return size
    least = (PAGE - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE - 4)
    return local if local <= most else least


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at*, and where it ends."""
    number = 0
    for index in range(8):
        byte = data[at + index]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + index + 1
    return number << 8 | data[at + 8], at + 9


def _types(record: bytes) -> tuple[list[int], int]:
    """Return the types of the columns of a record, and where the first of them begins."""
    end, at = _varint(record, 0)
    types: list[int] = []
    while at < end and len(types) <= _COLUMNS:
        kind, at = _varint(record, at)
        types.append(kind)
    return types, end


def _plausible(beginning: bytes, size: int) -> bool:
    """Return whether a record of *size* bytes may begin so; a wrong size would have much read in vain."""
    types, end = _types(beginning)
    return len(types) == _COLUMNS and end + sum(map(_width, types)) == size


def _width(kind: int) -> int:
    """Return the bytes of a value of this type."""
    return _SIZES[kind] if kind < 12 else (kind - 12) // 2


def _record(record: bytes) -> list[object]:
    """Return the values of a record."""
    types, at = _types(record)
    values: list[object] = []
    for kind in types:
        size = _width(kind)
        data = record[at : at + size]
        at += size
        if kind >= 12:
            values.append(data.decode() if kind % 2 else data)
        elif kind == 7:
            values.append(struct.unpack(">d", data)[0])
        elif kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        else:
            values.append(int.from_bytes(data, "big", signed=True))
    if at != len(record):
        raise ValueError("its columns are not as long as it is")
    return values


_SIZES: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)
