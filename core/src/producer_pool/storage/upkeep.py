"""Keeps a database open and well: when its disk fails, it is waited for, opened again, or replaced."""
# Rule: one thread calls this. Nothing of it raises because of a disk: `trouble` says what is wrong, and each
# attempt to go on is one of tick().

from __future__ import annotations

import errno
import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from producer_pool.model.policies import Spool
from producer_pool.model.text import format_size
from producer_pool.storage.database import Database
from producer_pool.storage.faults import SENSELESS, Fault, fault_of, words
from producer_pool.storage.folder import Folder
from producer_pool.storage.positions import Position
from producer_pool.storage.record import Pending
from producer_pool.storage.recovery import Recovered, open_database, replace_database
from producer_pool.storage.room import room_for
from producer_pool.storage.sparse import give_up_sparse
from producer_pool.storage.state import State

__all__ = ["AGAIN", "RETRY", "Upkeep"]

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)

MiB: Final = 1024 * 1024
RETRY: Final = 1.0
"""Seconds between two attempts to go on after the disk failed."""
AGAIN: Final = 3.0
"""Seconds in which a database is not replaced a second time: on a disk that damages all, it is waited."""
_IDLE: Final = 5.0
_LOG_BYTES: Final = 8 * MiB
"""After which what is in the log is moved into the database, if that has to grow by as much for it."""
_LOG_MOST: Final = 64 * MiB
"""After which it is moved in any case. Pages that are written again before that are never moved at all."""
_ROOM: Final = 256 * MiB
"""Bytes that have to be free on the disk. With less, a log is always moved after the smaller of the two."""
_RESERVE: Final = 12 * MiB
"""More than a database has to grow by where the disk is full: then the log begins anew, and positions fit."""
_ORDINARY: Final = 4 * MiB
"""Bytes at once for which the reserve is enough, whatever is in the log."""
_SLACK: Final = 16 * MiB
"""By how much a spool may be too large before it takes nothing more."""
_SHRINK: Final = 64 * MiB
_PAYLOADS: Final = 8 * MiB
"""The size of a file of payloads, or a 64th of the spool's. A spool of less than 64 MiB has none."""


class Upkeep:
    """
    The database of a spool, as long as there is one that can be used.

    *positions* are those in memory, which a new database gets; *renewed* is called when there is one,
    or another one, so that all of them are written.
    """

    def __init__(
        self,
        folder: Folder,
        spool: Spool,
        state: State,
        positions: dict[str, Position],
        renewed: Callable[[Database], None],
    ) -> None:
        self._folder: Final = folder
        self._spool: Final = spool
        self._state: Final = state
        self._positions: Final = positions
        self._renewed: Final = renewed
        self._database: Database | None = None
        self._used = False
        """Whether there was one."""
        self._distrust: str | None = None
        """Why the database must be replaced before anything else, if it must."""
        self._replaced = -math.inf
        self._files: dict[str, tuple[int, int]] = {}
        """The files of the database that was used last, until a new one is made."""
        self._retry = 0.0
        self._logged = 0
        """About the bytes in the log."""
        self._unmeasured = 0
        """And about those that were written since it was looked how large it all is."""
        self._unsynced: float | None = None
        self._busy: float | None = None
        self._reserve: Final = min(_RESERVE, spool.size // 4)
        self._reserved = False
        """Whether the reserve is there."""
        self._log_most: Final = max(_LOG_BYTES, min(_LOG_MOST, spool.size // 64))
        self._payloads: Final = size if (size := min(_PAYLOADS, spool.size // 64)) >= MiB else 0
        self.trouble: str | None = None
        self._fault: Fault | None = None
        """What kind of trouble it is, as far as the disk told."""
        self.excess = 0

    @property
    def usable(self) -> bool:
        """Whether there is a database, whatever state its disk is in."""
        return self._database is not None

    @property
    def waits(self) -> bool:
        """Whether there is trouble, and it is not yet time for another attempt."""
        return self.trouble is not None and time.monotonic() < self._retry

    # -- opening and failing -----------------------------------------------------------------------

    def open(self) -> Recovered | None:
        """
        Open what is there, the first time. A disk that is full is no reason not to begin: None.

        Raises:
            StorageError, sqlite3.Error, OSError: it cannot be used.
        """
        try:
            found = open_database(self._folder, self._spool.sync, self._state)
            self._use(found.database)
        except (sqlite3.Error, OSError) as error:
            if fault_of(error) is not Fault.FULL:
                raise
            self._is_full(error)
            return None
        return found

    def _reopen(self) -> None:
        self._folder.come_back()
        self._set_others_aside()
        # One that is ready to take its place has all that could be read of it: what is there now has less.
        if self._distrust is not None and not self._folder.is_installing:
            self._replace(self._distrust, None)
        else:
            found = open_database(self._folder, self._spool.sync, self._state, again=self._used)
            self._use(found.database)
            self._renewed(found.database)
        self._distrust = None

    def _set_others_aside(self) -> None:
        """See that there is nothing but what this one wrote, before any of it is read."""
        self._folder.set_others_aside(self._files)
        self._files = {}  # What comes now, this one makes.

    def _replace(self, why: str, old: Database | None) -> None:
        self._set_others_aside()
        found = replace_database(
            self._folder, self._spool.sync, self._state, why, positions=self._positions, old=old
        )
        self._replaced = time.monotonic()
        self._use(found.database)
        self._renewed(found.database)

    def _use(self, database: Database) -> None:
        try:
            database.payloads.keep(self._payloads)
            database.give_back()
            self._logged = database.log_nbytes()
        except BaseException:
            database.abandon()
            raise
        self._database = database
        self._used = True
        self._files = database.files
        self._state.identity = database.payloads.identity
        self._keep_reserve()  # What had to be done may have needed it.

    def _mended(self, error: Exception) -> bool:
        """Do what *error* asks for, and return whether the same may be tried again now."""
        if not isinstance(error, sqlite3.Error | OSError):
            error = sqlite3.DatabaseError(f"what is in it makes no sense: {error}")
        fault = fault_of(error)
        if self._database is not None:
            self._database.rollback()
        if fault is Fault.FULL:
            if self._makes_room():
                return True
            self._is_full(error)
            return False
        old, self._database = self._database, None
        if fault is Fault.UNUSABLE or time.monotonic() < self._replaced + AGAIN:
            if old is not None:
                old.abandon()
            if fault is not Fault.UNUSABLE:
                self._distrust = str(error)
            self._fail(fault, error)
            return False
        try:
            self._replace(str(error), old)
        except (sqlite3.Error, OSError) as another:
            if old is not None:
                old.abandon()
            self._distrust = str(error)
            self._fail(fault, another)
            return False
        return True

    def _is_full(self, error: sqlite3.Error | OSError) -> None:
        self._use_reserve()
        self._fail(Fault.FULL, error)

    def _keep_reserve(self) -> bool:
        self._reserved = self._folder.keep_reserve(self._reserve)
        return self._reserved

    def _use_reserve(self) -> None:
        self._folder.use_reserve()
        self._reserved = False

    def _fail(self, fault: Fault, error: sqlite3.Error | OSError) -> None:
        """Note that the disk failed. It is told in the same words until it is well, or fails otherwise."""
        known = self.trouble if fault is self._fault else None
        self.fail(known or words(fault, error, self._folder.path))
        self._fault = fault

    def _makes_room(self) -> bool:
        """
        On a full disk, do without what can be done without; return whether there was anything.

        That is a log that is larger than it has to be, which begins anew, and free files of payloads.
        """
        database = self._database
        if database is None or not (self._logged >= 2 * _LOG_BYTES or database.payloads.uses.idle):
            return False
        try:
            database.give_back()
            if self._logged >= 2 * _LOG_BYTES:
                self._logged = 0
                database.checkpoint()
        except (sqlite3.Error, OSError) as error:
            return fault_of(error) is not Fault.FULL and self._mended(error)
        return True

    def fail(self, why: str) -> None:
        """Note that nothing can be stored."""
        now = time.monotonic()
        if self.trouble is None or now >= self._retry:
            # Else what is tried meanwhile, such as writing where producers are, would put it off for ever.
            self._retry = now + RETRY
        self.trouble, self._fault = why, None

    def attempt(self, work: Callable[[Database], T]) -> T | None:
        """Do *work*, once more if what failed could be mended; None: it is not possible now."""
        for _ in range(2):
            try:
                if self._database is None:
                    return None
                return work(self._database)
            except (sqlite3.Error, OSError, *SENSELESS) as error:
                if not self._mended(error):
                    return None
        self.fail(f"{self._folder} fails again and again; see the disk, it is tried again")
        return None

    def recover(self) -> bool:
        """Try to go on; return whether that is possible."""
        now = time.monotonic()
        self._retry = now + RETRY
        if self._distrust is not None and now < self._replaced + AGAIN:
            return False
        try:
            if self._database is None:
                self._reopen()
            assert self._database is not None
            full = not self._keep_reserve()
            self.measure()
            if self.too_large():
                return False
            if full:
                self._database.give_back()
                self._database.checkpoint()
                self._logged = 0
                full = not self._keep_reserve()
            # Room for more than one page, if there is none in reserve.
            self._database.try_to_grow(MiB if full else 1)
            if full and not self.has_room(()):
                return False
        except (sqlite3.Error, OSError, *SENSELESS) as error:
            self._mended(error)
            return False
        self.trouble = self._fault = None
        return True

    def too_large(self) -> bool:
        """Return whether it is far beyond its size, and note it."""
        size = self._spool.size
        slack = max(_SLACK, size // 8) if size > 4 * _SLACK else size // 4
        if self.excess <= slack:
            return False
        self.fail(
            f"{self._folder} has its size ({format_size(size)}); raise spool-size, or see who is behind"
        )
        return True

    def has_room(self, batches: Sequence[Pending]) -> bool:
        """
        Return whether *batches* leave room for moving the log, and for where producers are; else it is full.

        Without that, nothing could be removed any more, and nothing that is settled would make room.
        """
        database = self._database
        if database is None:
            return False
        nbytes = sum([one.nbytes for one in batches])
        if not self._reserved and self._folder.room() >= self._reserve + 2 * nbytes:
            self._keep_reserve()
        database.payloads.frugal = not self._reserved
        if self._reserved and nbytes <= _ORDINARY:
            return True
        needed = self.attempt(lambda database: room_for(database, batches, self._logged))
        if needed is None:
            return False
        needed -= self._reserve if self._reserved else 0
        if self._folder.room() < needed and not (self._makes_room() and self._folder.room() >= needed):
            self._is_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            return False
        return True

    # -- from time to time -------------------------------------------------------------------------

    def wrote(self, logged: int, stored: int) -> None:
        """Note that about so many bytes of the log and of batches were committed, and do what follows."""
        now = time.monotonic()
        self._busy = now
        if self._unsynced is None and 0 < self._spool.sync < math.inf:
            self._unsynced = now
        self._logged += logged
        self._unmeasured += max(logged, stored)
        if self._unmeasured > self._spool.size // 16:
            self.measure()

    def due(self) -> list[float]:
        """Return when tick() is to be called, on the monotonic clock."""
        times = [
            self._retry if self.trouble is not None else None,
            None if self._unsynced is None else self._unsynced + self._spool.sync,
            None if self._busy is None else self._busy + _IDLE,
        ]
        return [time for time in times if time is not None]

    def tick(self, now: float) -> None:
        """Do what is due. It may take as long as the disk likes: tell before what was written."""
        if self._log_is_full():
            self._checkpoint()
        if self.trouble is not None and now >= self._retry:
            self.recover()
        if self._unsynced is not None and now >= self._unsynced + self._spool.sync:
            self._sync()
        if self._busy is not None and now >= self._busy + _IDLE:
            self._rest()

    def _sync(self) -> None:
        self._unsynced = None
        self.attempt(lambda database: database.sync_log())

    def _log_is_full(self) -> bool:
        # Without a reserve, moving it must never need much.
        if self._logged < (_LOG_BYTES if self._reserved else MiB) or self._database is None:
            return False
        if self._logged >= self._log_most or self._folder.room() < _ROOM:
            return True
        growth = self.attempt(lambda database: database.growth())
        return growth is not None and growth >= _LOG_BYTES

    def _checkpoint(self) -> None:
        self._logged = 0
        if self._database is None:
            return
        try:
            self._database.checkpoint()
        except (sqlite3.Error, OSError) as error:
            if fault_of(error) is not Fault.FULL:
                self._mended(error)
                return
            # It has to grow before the log can begin anew: this is what the reserve is for.
            self._use_reserve()
            self.attempt(lambda database: database.checkpoint())
        self.measure()

    def measure(self) -> None:
        """Look how large it is."""
        self._unmeasured = 0
        nbytes = self.attempt(lambda database: database.nbytes())
        if nbytes is not None:
            self.excess = max(0, nbytes - self._spool.size)
            if self.excess and self.attempt(give_up_sparse):
                self.excess = max(0, self.excess - self._payloads)

    def _rest(self) -> None:
        """Tidy up while nobody wants anything."""
        self._busy = None

        def work(database: Database) -> None:
            database.give_back()
            if database.log_nbytes() > _LOG_BYTES:
                database.empty_log()
            else:
                database.checkpoint()
            if database.file_nbytes() > _SHRINK and database.used_nbytes() < database.file_nbytes() // 8:
                database.shrink()

        self._logged = 0
        if self.trouble is None:
            self.attempt(work)

    def close(self) -> None:
        """Move what is in the log into the database, and let go."""
        database, self._database = self._database, None
        if database is not None:
            try:
                self._set_others_aside()  # SQLite removes what is called as its log was.
                database.close()
            except (sqlite3.Error, OSError) as error:  # What is in the log stays there, for the next time.
                _log.warning("spool %s: it was not closed well: %s", self._folder, error)
                database.abandon()
