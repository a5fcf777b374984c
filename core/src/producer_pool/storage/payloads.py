"""The files of a spool in which large payloads are: written one behind the other, and begun anew when nobody needs them."""
# Rule: what is written here is no row yet. A file is begun anew, or removed, only when it is safe from a power
# cut that no row is in it any more: until then a row may come back.

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from producer_pool.storage.portable import allocate, sync_data
from producer_pool.storage.record import Row
from producer_pool.storage.segments import Place, head_of, padding, payload_at

__all__ = ["LARGE", "Payloads", "Use"]

LARGE: Final = int(os.environ.get("PP_LARGE", 16 * 1024))
"""Bytes of a payload that is worth a place of its own."""

_PIECES: Final = 1000
"""Pieces of memory that are written at once: systems take 1,024."""
_OPEN: Final = 4
"""Files that are kept open for reading."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_PATIENCE: Final = 1.0
"""Seconds until a file is asked for again where the disk had no room for one."""


@dataclass
class Use:
    """What is in one file."""

    generation: int
    rows: int = 0
    nbytes: int = 0
    """Of these rows, as far as they take room."""

    def as_text(self) -> str:
        """Write it as from_text() reads it."""
        return f"{self.generation} {self.rows} {self.nbytes}"

    @classmethod
    def from_text(cls, text: object) -> Use:
        """
        Read what as_text() wrote.

        Raises:
            ValueError: it is nothing of the kind.
        """
        generation, rows, nbytes = map(int, str(text).split())
        return cls(generation, rows, nbytes)


class Payloads:
    """Writes and reads them. Every method may raise OSError."""

    def __init__(self, folder: Path, identity: bytes, uses: dict[int, Use]) -> None:
        self._folder: Final = folder
        self._identity: Final = identity
        self._uses: Final = uses
        self._changed: dict[int, Use] = {}
        """As they are within this transaction."""
        self._size = 0
        """Of a file; 0: none is written."""
        self._current: int | None = None
        self._fd = -1
        self._offset = 0
        self._known: tuple[int, int] = (0, 0)
        self._generation = 0
        self._dirty: set[int] = set()
        """Files that were written and not synced."""
        self._resting: list[int] = []
        """Those without rows, which is not safe from a power cut yet."""
        self._free: list[int] = []
        """And those where it is."""
        self._readers: dict[int, int] = {}
        self._later = 0.0

    def path(self, segment: int) -> Path:
        """Return the path of a file."""
        return self._folder / f"payload-{segment}"

    @property
    def nbytes(self) -> int:
        """Return the bytes of disk that all take, each as a whole."""
        return (len(self._uses) + len(self._resting) + len(self._free)) * self._size

    # -- writing -----------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row], *, sync: bool) -> list[Row]:
        """Return *rows* without the payloads that are in a file of their own now; *sync*: safe from a power cut."""
        if not self._size or all(len(row.payload) < LARGE for row in rows):
            return list(rows)
        placed = []
        pieces: list[bytes] = []
        begin = 0
        for row in rows:
            size = len(row.payload)
            if not LARGE <= size <= self._size // 2:
                placed.append(row)
                continue
            if self._current is None or self._offset + size + size // 8 + 4096 > self._size:
                self._put(pieces, begin)
                pieces = []
                if not self._next(row.number):
                    placed.append(row)
                    continue
            if not pieces:
                begin = self._offset
            assert self._current is not None
            head = head_of(row, self._identity, self._current, self._generation)
            place = Place(self._current, self._generation, self._offset, len(head) + size)
            pieces += (head, row.payload, padding(place.size))
            self._offset += place.room
            placed.append(row._replace(payload=b"", place=place.pack()))
        self._put(pieces, begin)
        if sync:
            self.sync()
        self.check_place()
        return placed

    def _put(self, pieces: list[bytes], offset: int) -> None:
        if not pieces:
            return
        assert self._current is not None
        self._dirty.add(self._current)
        for first in range(0, len(pieces), _PIECES):
            some = pieces[first : first + _PIECES]
            size = sum(map(len, some))
            written = os.pwritev(self._fd, some, offset)
            if written < size:
                rest = b"".join(some)
                while written < size:
                    written += os.pwrite(self._fd, rest[written:], offset + written)
            offset += size

    def _next(self, number: int) -> bool:
        """Go on in another file, begun with batch *number*; False: there is no room for one."""
        self._seal()
        if time.monotonic() < self._later:
            return False
        if self._free:
            segment = self._free.pop()
        else:
            taken = {*self._uses, *self._resting, *self._free}
            segment = next(one for one in range(len(taken) + 1) if one not in taken)
        try:
            self._begin(segment)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._later = time.monotonic() + _PATIENCE
            return False
        self._generation = number
        self._offset = 0
        self._uses[segment] = Use(number)
        self._changed.pop(segment, None)
        return True

    def _begin(self, segment: int) -> None:
        path = self.path(segment)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            if os.fstat(fd).st_size < self._size:
                allocate(fd, self._size)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        found = os.fstat(fd)
        self._current, self._fd, self._known = segment, fd, (found.st_dev, found.st_ino)

    def _seal(self) -> None:
        """Write no more to the file that is written to now."""
        segment, self._current = self._current, None
        if segment is not None:
            if segment in self._dirty:
                self._dirty.discard(segment)
                sync_data(self._fd)
            os.close(self._fd)
            if segment not in self._changed and not self._uses[segment].rows:
                del self._uses[segment]
                self._resting.append(segment)

    def sync(self) -> None:
        """Have what was written safe from a power cut."""
        if self._current in self._dirty:
            self._dirty.clear()
            sync_data(self._fd)

    def check_place(self) -> None:
        """See that what is written can be found again."""
        if self._current is not None:
            path = self.path(self._current)
            found = os.stat(path)
            if (found.st_dev, found.st_ino) != self._known:
                raise FileNotFoundError(errno.ENOENT, "another file is in its place", str(path))

    # -- reading -----------------------------------------------------------------------------------

    def read(self, data: object, number: int) -> bytes | None:
        """Return the payload of batch *number*, whose place is *data*; None: it is not there."""
        place = Place.unpack(data)
        if place is None:
            return None
        fd = self._reader(place.segment)
        return payload_at(fd, place, number, self._identity)

    def _reader(self, segment: int) -> int:
        if segment == self._current:
            return self._fd
        fd = self._readers.pop(segment, None)
        if fd is None:
            fd = os.open(self.path(segment), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            while len(self._readers) >= _OPEN:
                os.close(self._readers.pop(next(iter(self._readers))))
        self._readers[segment] = fd
        return fd

    # -- transactions ------------------------------------------------------------------------------

    def added(self, rows: Iterable[Row]) -> None:
        """Note that *rows* are in the database now, unless it is rolled back."""
        for row in rows:
            if place := Place.unpack(row.place):
                self._count(place, 1)

    def removed(self, places: Iterable[object]) -> None:
        """Note that rows with these *places* are not in the database any more."""
        for data in places:
            if place := Place.unpack(data):
                self._count(place, -1)

    def _count(self, place: Place, sign: int) -> None:
        use = self._changed.get(place.segment)
        if use is None:
            known = self._uses.get(place.segment)
            use = Use(place.generation) if known is None else replace(known)
            self._changed[place.segment] = use
        use.rows += sign
        use.nbytes += sign * place.room

    def changes(self) -> dict[int, Use | None]:
        """Return what is to be kept with the transaction; None: of a file without rows."""
        return {segment: use if use.rows else None for segment, use in self._changed.items()}

    def committed(self, *, safe: bool) -> None:
        """Note that the transaction is committed; *safe*: from a power cut, too."""
        if self._changed:
            for segment, use in self._changed.items():
                if use.rows or segment == self._current:
                    self._uses[segment] = use
                else:
                    self._uses.pop(segment, None)
                    self._resting.append(segment)
            self._changed = {}
        if safe:
            self.safe()

    def safe(self) -> None:
        """Note that all that was committed is safe from a power cut."""
        self._free += self._resting
        self._resting = []

    def rolled_back(self) -> None:
        """Note that the transaction never was."""
        self._changed = {}

    # -- the life of it ----------------------------------------------------------------------------

    def keep(self, size: int) -> None:
        """Write files of *size* bytes from now on."""
        self._size = size

    def close(self) -> None:
        """Let go of all."""
        for fd in self._readers.values():
            os.close(fd)
        self._readers.clear()
        if self._current is not None:
            self._current = None
            with suppress(OSError):
                os.close(self._fd)
