"""The files of payloads in a folder: their names, whose they are, and what their heads say."""
# Rule: nothing here writes into one. What is another spool's is renamed, and never read as one's own.

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from producer_pool.storage.portable import sync_data
from producer_pool.storage.segments import Place, Record, payload_at, records

__all__ = ["ASIDE", "PayloadFiles", "payload_names"]

ASIDE: Final = "spool.db.damaged-"
"""Before the number of a database that was set aside, and of what belongs to it."""

_log: Final = logging.getLogger(__name__)

_NAME: Final = "payload-"
_MOST_OPEN: Final = 4
"""Files that one reader keeps open."""
_GONE: Final = (errno.ENOENT, errno.ELOOP, errno.EIO, errno.ENXIO, errno.EISDIR)
"""What it means that a file, or a part of it, is lost. Else it may be there the next time."""


def payload_names(folder: Path) -> dict[int, Path]:
    """Return the files of payloads in *folder*, by their numbers."""
    return _numbered(folder, _NAME)


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    ends = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return {int(end): folder / name for name, end in ends.items() if end.isdecimal() and end.isascii()}


class PayloadFiles:
    """Those that belong to the database at *database*."""

    def __init__(self, database: Path) -> None:
        self._folder: Final = database.parent
        self._own: Final = f"{database.name}.{_NAME}" if database.name.startswith(ASIDE) else _NAME
        """Those of a database that was set aside may have been, too; or another one goes on with them."""

    def path(self, segment: int) -> Path:
        """Return the path of a file."""
        own = self._folder / f"{self._own}{segment}"
        return own if self._own == _NAME or own.exists() else self._folder / f"{_NAME}{segment}"

    def numbers(self) -> list[int]:
        """Return which there are."""
        return sorted({*payload_names(self._folder), *_numbered(self._folder, self._own)})

    def nbytes(self) -> int:
        """Return the bytes of disk that they take."""
        return sum(_size(self.path(segment)) for segment in self.numbers())

    def open(self, segment: int) -> int:
        """
        Open a file for reading.

        Raises:
            FileNotFoundError: it is not there, is no file, or cannot be read for good.
            OSError: it cannot be read now.
        """
        path = self.path(segment)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _GONE:
                raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "no file is in its place", str(path))
        return fd

    def records(self, segment: int, identity: bytes | None) -> Iterator[Record]:
        """
        Yield what the heads of a file say, as far as it can be read; *identity*: None for any spool's.

        Raises:
            OSError: it cannot be read now.
        """
        try:
            fd = self.open(segment)
        except FileNotFoundError:
            return
        try:
            yield from records(fd, identity)
        except OSError as error:
            _log.error("%s cannot be read: %s", self.path(segment), error)
        finally:
            os.close(fd)

    def sync(self, segments: Iterable[int]) -> None:
        """
        Have what is in these files, as far as they are there, safe from a power cut.

        Raises:
            OSError: that failed.
        """
        for segment in segments:
            try:
                fd = self.open(segment)
            except FileNotFoundError:
                continue
            try:
                sync_data(fd)
            finally:
                os.close(fd)

    def first(self, segment: int) -> Record | None:
        """Return what the first head of a file says that can be read."""
        return next(self.records(segment, None), None)

    def identity(self) -> bytes | None:
        """Return whose they are, if all of them are of one spool."""
        found = Counter(record.identity for segment in self.numbers() if (record := self.first(segment)))
        return next(iter(found)) if len(found) == 1 else None

    def set_others_aside(self, identity: bytes) -> None:
        """Rename what is not of the spool *identity*."""
        for segment in self.numbers():
            record = self.first(segment)
            if record is not None and record.identity != identity:
                path = self.path(segment)
                number = 1
                while (aside := path.with_name(f"{path.name}.other-{number}")).exists():
                    number += 1
                path.rename(aside)
                _log.error(
                    "spool %s: %s is of another spool; it is kept as %s, and not used",
                    self._folder,
                    path.name,
                    aside,
                )


class PayloadReader:
    """Reads payloads out of files, and keeps some open."""

    def __init__(self, files: PayloadFiles, identity: bytes) -> None:
        self.files: Final = files
        self.identity: Final = identity
        self._open: Final[dict[int, int]] = {}

    def read(self, data: object, number: int) -> bytes | None:
        """
        Return the payload of batch *number*, whose place is *data*; None: it is lost.

        Raises:
            FileNotFoundError: its file is not there.
            OSError: it cannot be read now.
        """
        place = Place.unpack(data)
        if place is None:
            return None
        try:
            return payload_at(self._fd(place.segment), place, number, self.identity)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def _fd(self, segment: int) -> int:
        fd = self._open.pop(segment, None)
        if fd is None:
            while len(self._open) >= _MOST_OPEN:
                self.forget(next(iter(self._open)))
            fd = self.files.open(segment)
        self._open[segment] = fd
        return fd

    def forget(self, segment: int) -> None:
        """Close a file, if it is open."""
        fd = self._open.pop(segment, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all."""
        for segment in list(self._open):
            self.forget(segment)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
