"""The folder of a spool: what lies in it, who may use it, and how a file of it is set aside."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from producer_pool.model.errors import StorageError
from producer_pool.storage.payload_files import ASIDE, payload_names
from producer_pool.storage.portable import allocate
from producer_pool.storage.private import private_file, private_folder

__all__ = ["STATE", "Folder", "sync_folder"]

_log: Final = logging.getLogger(__name__)

DATABASE: Final = "spool.db"
LOCK: Final = "lock"
STATE: Final = "state"
RESERVE: Final = "reserve"
_NEW: Final = "spool.new"
_READY: Final = "spool.ready"
_MOST_ASIDE: Final = 8
"""Damaged databases that are kept. A disk that damages all must not become full with them."""
_PATIENCE: Final = 0.3
_BESIDES: Final = ("-wal", "-journal", "-shm")


class Folder:
    """Paths, and the lock that keeps a second process out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path).absolute()
        self.database: Final = self.path / DATABASE
        self.wal: Final = self.path / f"{DATABASE}-wal"
        self.state: Final = self.path / STATE
        self.reserve: Final = self.path / RESERVE
        self.new: Final = self.path / _NEW
        """A database that is being made."""
        self._ready: Final = self.path / _READY
        self._lock: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return what may lie in it, and is written to: the lock comes first."""
        payloads = payload_names(self.path).values()
        return (self.path / LOCK, self.database, self.wal, self.state, self.reserve, self.new, *payloads)

    # -- the lock ----------------------------------------------------------------------------------

    def make(self) -> None:
        """
        Make the folder if it is not there.

        Raises:
            StorageError: it cannot be made, or is none.
        """
        private_folder(self.path)

    def lock(self) -> None:
        """
        Keep other processes out until unlock(), or the end of this one.

        Raises:
            StorageError: another process is in, or there is no right to; a file of it is none or a link.
        """
        path = self.path / LOCK
        for file in self.files:
            if file == path or file.is_symlink() or file.exists():
                private_file(file)
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _flock(fd)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise StorageError(
                    f"{self.path} is in use by process {self.holder() or 'unknown'}; "
                    "stop that first, or name another folder",
                    passing=True,
                ) from None
            raise StorageError(f"{self.path} cannot be locked: {error.strerror}") from error
        self._lock = fd
        with suppress(OSError):  # On a full disk it stays empty: the lock counts, and not what is in it.
            os.pwrite(fd, b"%-20d\n" % os.getpid(), 0)

    def unlock(self) -> None:
        """Let other processes in."""
        fd, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)

    def come_back(self) -> None:
        """
        Make and lock the folder again, if it was removed or moved while it was locked.

        Raises:
            StorageError: that is not possible.
        """
        old = self._lock
        if old is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.stat(self.path / LOCK), os.fstat(old)):
                return
        _log.error("spool %s: the folder was removed, moved or replaced; it is made anew", self)
        self.make()
        self.lock()
        os.close(old)

    def forget_lock(self) -> None:
        """In a forked child: close what came from the parent, whose lock it is, and stays."""
        self.unlock()

    def holder(self) -> int | None:
        """Return the process that has the lock, or had it last."""
        try:
            return int((self.path / LOCK).read_bytes()[:20])
        except (OSError, ValueError):
            return None

    @property
    def in_use(self) -> bool:
        """Whether a process has the lock now."""
        try:
            fd = os.open(self.path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    # -- databases come and go ---------------------------------------------------------------------

    def clear_new(self) -> Path:
        """Return where a new database is made; what an earlier attempt left there is removed."""
        self.remove_new()
        private_file(self.new)
        return self.new

    def remove_new(self) -> None:
        """Remove what an attempt to make a new database left behind: it may be as large as the old one."""
        for suffix in ("", *_BESIDES):
            Path(f"{self.new}{suffix}").unlink(missing_ok=True)

    def install(self, *, payloads: bool = False) -> Path | None:
        """
        Put the new database, complete and closed, into its place; return where what was there is now.

        Killed in the middle of it, finish_installing() goes on. *payloads*: see set_aside().
        """
        with self.new.open("rb") as file:
            os.fsync(file.fileno())
        self.new.rename(self._ready)
        sync_folder(self.path)
        return self.finish_installing(payloads=payloads)

    @property
    def is_installing(self) -> bool:
        """Whether an install() was interrupted: all that could be read is in the new one."""
        return self._ready.exists()

    def finish_installing(self, *, payloads: bool = False) -> Path | None:
        """Go on with an install() that was interrupted, if one was."""
        if not self._ready.exists():
            return None
        aside = self.set_aside(payloads=payloads)
        self._ready.rename(self.database)
        sync_folder(self.path)
        return aside

    def set_aside(self, keep: Collection[str] = (), *, payloads: bool = False) -> Path | None:
        """
        Rename the database, and what belongs to it, and return where it is now; None: there was none.

        What ends in one of *keep* stays; files of *payloads* do, where another database goes on with them.
        """
        paths = {suffix: Path(f"{self.database}{suffix}") for suffix in ("", *_BESIDES) if suffix not in keep}
        files = [suffix for suffix, path in paths.items() if path.exists()]
        apart = payload_names(self.path) if payloads else {}
        if not files and not apart:
            return None
        aside = self._free_name()
        # The database goes last: as long as it is there, an interrupted move is seen, and taken up again.
        for suffix in reversed(files):
            Path(f"{self.database}{suffix}").rename(f"{aside}{suffix}")
        for number, path in apart.items():
            path.rename(f"{aside}.payload-{number}")
        sync_folder(self.path)
        return aside

    def set_others_aside(self, known: Mapping[str, tuple[int, int]]) -> None:
        """Set aside what was put into the place of files *known* by device and inode: another spool's."""
        # The log of one spool beside the database of another would be written into that.
        ours, others = set(), False
        for path, identity in known.items():
            with suppress(FileNotFoundError):
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == identity:
                    ours.add(path.removeprefix(str(self.database)))
                else:
                    others = True
        if others:
            aside = self.set_aside(keep=ours)
            _log.error(
                "spool %s: files of another one were put into the place of its own; they are kept as %s, "
                "and not used",
                self,
                aside,
            )

    def _free_name(self) -> Path:
        """Return a name that sorts behind those that are there; so many are kept, and the oldest removed."""
        numbers = sorted({_number_of(name) for name in self._names(ASIDE)})
        for number in numbers[: max(0, len(numbers) - _MOST_ASIDE + 1)]:
            for suffix in ("", *_BESIDES):
                Path(self.path / f"{ASIDE}{number}{suffix}").unlink(missing_ok=True)
            for name in self._names(f"{ASIDE}{number}.payload-"):
                Path(self.path / name).unlink(missing_ok=True)
        return self.path / f"{ASIDE}{numbers[-1] + 1 if numbers else 1}"

    def set_aside_before(self) -> list[Path]:
        """Return the damaged databases that were set aside, and are still there, the oldest first."""
        numbers = sorted({_number_of(name) for name in self._names(ASIDE)})
        return [self.path / f"{ASIDE}{number}" for number in numbers]

    def _names(self, prefix: str) -> list[str]:
        try:
            return [name for name in os.listdir(self.path) if name.startswith(prefix)]
        except OSError:
            return []

    def room(self) -> int:
        """Return the bytes that are free on its disk; 0: that is not known."""
        try:
            found = os.statvfs(self.path)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize

    # -- the reserve -------------------------------------------------------------------------------

    def keep_reserve(self, nbytes: int) -> bool:
        """Take *nbytes* of the disk, to be let go of when it is full; return whether they could be had."""
        try:
            fd = os.open(self.reserve, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            if os.fstat(fd).st_blocks * 512 < nbytes:
                allocate(fd, nbytes)
            return True
        except OSError:
            self.use_reserve()
            return False
        finally:
            os.close(fd)

    def use_reserve(self) -> None:
        """Let go of the reserve, so that there is room for what is needed most."""
        with suppress(OSError):
            self.reserve.unlink()


def _number_of(name: str) -> int:
    """Return the number of a database that was set aside; 0 of what only looks like one."""
    number = name.removeprefix(ASIDE).partition("-")[0].partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _flock(fd: int) -> None:
    """
    Lock *fd*, or raise OSError.

    Not fcntl's lock: that would be let go of as soon as anything closes another fd of this file. A child
    that somebody forked has this one for a moment, until it runs another program, or our hook.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def sync_folder(path: Path) -> None:
    """Have the names in *path* on the disk, so that a power cut does not bring back older ones."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
