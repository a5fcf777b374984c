"""The large payloads of an open spool: in files that are written one after the other, and begun anew."""
# Rule: what is written here is no row yet. It is safe, where that is asked for, before its row is written.

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from typing import Final

from producer_pool.storage.faults import SyncFailed
from producer_pool.storage.folder import sync_folder
from producer_pool.storage.payload_files import PayloadFiles, PayloadReader
from producer_pool.storage.portable import allocate, sync_data
from producer_pool.storage.record import Row
from producer_pool.storage.segments import Place, head_of, padding
from producer_pool.storage.uses import Uses

__all__ = ["LARGE", "Payloads"]

LARGE: Final = 16 * 1024
"""Bytes of a payload that is worth a place of its own, if enough others come with it."""

WORTH_IT: Final = 512 * 1024
"""Bytes of large payloads that are worth a sync of their own. Fewer cost less within the database."""

_PIECES: Final = 1000
"""Pieces of memory that are written at once: systems take 1,024."""
_SPARE: Final = 4
"""Free files that are kept. To begin one anew costs less than to make one, and syncing it, too."""
_UNSYNCED: Final = 8
"""Files that may be written and not synced, where it is left to the system when they are."""
_PATIENCE: Final = 1.0
"""Seconds until another file is asked for where the disk had no room for one."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


class Payloads:
    """The files of an open database. Every method may raise OSError."""

    def __init__(self, files: PayloadFiles, identity: bytes, uses: Uses) -> None:
        self.files: Final = files
        self.identity: Final = identity
        self.uses: Final = uses
        self._reader: Final = PayloadReader(files, identity)
        self.size = 0
        """Of a file. 0: none is written."""
        self._fd: int | None = None
        """The file that is written to."""
        self._segment = 0
        self._generation = 0
        self._offset = 0
        self._path = ""
        self._known = (0, 0)
        """Where it lies, and which it is, by device and inode."""
        self._unsynced: Final[dict[int, int]] = {}
        """Files that were written and not synced, and by which descriptor."""
        self.distrusted: Final[set[int]] = set()
        """Files that could not be synced: what of them is on the disk is not known."""
        self._not_before = 0.0
        self.frugal = False
        """Whether no file is made, because the disk has too little room."""

    def keep(self, size: int) -> None:
        """
        Write files of *size* bytes from now on, or none; see which are there.

        Those without a row are not free yet: whose process was killed may not have synced that all are
        done with them.
        """
        self.size = size
        self.files.set_others_aside(self.identity)
        for segment in self.files.numbers():
            if segment not in self.uses.known():
                self.uses.found(segment)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row]) -> list[Row]:
        """Write the large payloads among *rows*, and return those rows with places instead."""
        placed = list(rows)
        large = [size for row in rows if LARGE <= (size := len(row.payload)) <= self.size // 2]
        if sum(large) < WORTH_IT:
            return placed
        pieces: list[bytes] = []
        begin = self._offset
        for index, row in enumerate(rows):
            if not LARGE <= len(row.payload) <= self.size // 2:
                continue
            head = head_of(row, self.identity, self._segment, self._generation)
            size = len(head) + len(row.payload)
            if self._fd is None or self._offset + size > self.size:
                self._write(pieces, begin)
                pieces = []
                if not self._next(row.number):
                    break  # The database may have room for the rest.
                begin = 0
                head = head_of(row, self.identity, self._segment, self._generation)
            place = Place(self._segment, self._generation, self._offset, size)
            pieces += (head, row.payload, padding(size))
            self._offset += place.room
            placed[index] = row._replace(payload=b"", place=place.pack())
        self._write(pieces, begin)
        self.sync(_UNSYNCED)
        return placed

    def _write(self, pieces: list[bytes], offset: int) -> None:
        if not pieces or self._fd is None:
            return
        if self._unsynced.get(self._segment) != self._fd:
            self._synced(self._segment)  # It was written before it was begun anew: nobody needs that.
            self._unsynced[self._segment] = self._fd
        for first in range(0, len(pieces), _PIECES):
            some = pieces[first : first + _PIECES]
            size = sum(map(len, some))
            written = os.pwritev(self._fd, some, offset)
            if written < size:
                rest = b"".join(some)
                while written < size:  # What kept it from all is what the next attempt raises.
                    written += os.pwrite(self._fd, rest[written:], offset + written)
            offset += size

    def _next(self, generation: int) -> bool:
        """Go on in another file, begun with the batch *generation*; False: there is no room for one."""
        self.seal()
        if (self.frugal and not self.uses.spare) or time.monotonic() < self._not_before:
            return False
        segment = self.uses.take()
        try:
            self._open(segment)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._not_before = time.monotonic() + _PATIENCE
            return False
        self._segment, self._generation, self._offset = segment, generation, 0
        self.uses.begin(segment, generation)
        return True

    def _open(self, segment: int) -> None:
        path = self.files.path(segment)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            if found.st_size != self.size:
                os.ftruncate(fd, 0)
                allocate(fd, self.size)
                sync_folder(path.parent)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self._fd, self._path, self._known = fd, str(path), (found.st_dev, found.st_ino)

    def rest(self) -> None:
        """Write no more to a file without a row."""
        if self._fd is not None and not self.uses.of(self._segment).rows:
            self.seal()
            self.uses.settle()

    def seal(self) -> None:
        """Write no more to the file that is written to now."""
        fd, self._fd = self._fd, None
        if fd is not None:
            if self._segment not in self._unsynced:
                os.close(fd)
            self.uses.end()

    def sync(self, most: int = 0) -> None:
        """
        Have what was written safe from a power cut, but for the newest *most* files.

        Raises:
            SyncFailed: that failed.
        """
        if self.distrusted:
            raise SyncFailed(errno.EIO, "it could not be synced")
        while len(self._unsynced) > most:
            segment, fd = next(iter(self._unsynced.items()))
            try:
                sync_data(fd)
            except OSError as error:
                self.distrusted.update(self._unsynced)
                raise SyncFailed(error.errno, error.strerror, str(self.files.path(segment))) from error
            self._synced(segment)

    def _synced(self, segment: int) -> None:
        fd = self._unsynced.pop(segment, None)
        if fd is not None and fd != self._fd:
            os.close(fd)

    def newer_files(self) -> dict[int, int]:
        """Return the files that were begun anew since what is known of them, with their generations."""
        found = {}
        for segment in self.uses.known():
            record = self.files.first(segment)
            known = self.identity, segment, self.uses.of(segment).generation
            if record and (record.identity, record.place.segment) == known[:2]:
                if record.place.generation > known[2]:
                    found[segment] = record.place.generation
        return found

    def check_place(self) -> None:
        """
        See that what is written can be found again.

        Raises:
            OSError: the file that is written to was removed, moved or replaced.
        """
        if self._fd is not None:
            found = os.stat(self._path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) != self._known:
                raise FileNotFoundError(errno.ENOENT, "another file is in its place", self._path)

    # -- reading, and letting go -------------------------------------------------------------------

    def read(self, data: object, number: int) -> bytes | None:
        """Do as PayloadReader.read()."""
        return self._reader.read(data, number)

    def tidy(self, keep: int = _SPARE) -> None:
        """Remove free files, but for *keep* of them."""
        for segment in self.uses.give(keep):
            self._reader.forget(segment)
            self._synced(segment)
            self.files.path(segment).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all files."""
        self._reader.close()
        fds = {self._fd, *self._unsynced.values()} - {None}
        self._fd = None
        self._unsynced.clear()
        for fd in fds:
            os.close(fd)  # type: ignore[arg-type]
