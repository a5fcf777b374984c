"""The spool as its own thread sees it: a database, who is where in it, and what to do when the disk fails."""
# Rule: one thread calls this. Nothing of it raises because of a disk: `trouble` says what is wrong.

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, TypeVar

from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch
from producer_pool.model.text import format_size
from producer_pool.storage.backlogs import Lost, backlog_of, passed, read_batches, shown_of, skipped
from producer_pool.storage.boot import boot_id, since_boot
from producer_pool.storage.database import PAGE, Database, Totals
from producer_pool.storage.faults import Fault, fault_of, words
from producer_pool.storage.folder import Folder
from producer_pool.storage.positions import NEVER, Position
from producer_pool.storage.record import Pending, Row, grouped, row_of
from producer_pool.storage.recovery import open_database, replace_database
from producer_pool.storage.state import BLOCK, State, StateFile, read_state

__all__ = ["RETRY", "Keeper"]

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)

MiB: Final = 1024 * 1024
RETRY: Final = 1.0
"""Seconds between two attempts to go on after the disk failed."""
_STATE: Final = 1.0
_IDLE: Final = 5.0
_LOG_BYTES: Final = 8 * MiB
"""After which what is in the log is moved into the database."""
_RESERVE: Final = 12 * MiB
"""More than a log that has to be moved into the database where the disk is full: then positions still fit."""
_SLACK: Final = 16 * MiB
"""By how much a spool may be too large before it takes nothing more."""
_SHRINK: Final = 64 * MiB


class Keeper:
    """
    Stores, reads and forgets batches.

    Raises:
        StorageError: the folder cannot be used; the text says what to do.
    """

    def __init__(self, folder: Folder, spool: Spool) -> None:
        self.folder: Final = folder
        self._spool: Final = spool
        self.trouble: str | None = None
        self.excess = 0
        self.positions: dict[str, Position] = {}
        self.resend = False
        """Whether whoever comes gets all that is there, because who had got what was lost."""
        self._known = False
        """Whether positions have been read, so that those in memory are newer than any on the disk."""
        self._joined: set[str] = set()
        self._dirty: dict[str, Position | None] = {}
        self._database: Database | None = None
        self._distrust: str | None = None
        """Why the database must be replaced before anything else, if it must."""
        self._totals: Totals = (0, 0)
        self._expected: dict[str, tuple[int, Totals]] = {}
        """For each producer the number up to which was read last, and the totals there."""
        self._targeted = False
        self.last = 0
        """The highest number that is known to have been given."""
        self._state: State = read_state(folder.state)
        self._state_file: Final = StateFile(folder.state)
        self._boot: Final = boot_id()
        self._opened: Final = since_boot()
        self._logged = 0
        """About the bytes in the log."""
        self._unmeasured = 0
        """And about those that were written since it was looked how large it all is."""
        self._retry = 0.0
        self._unsynced: float | None = None
        self._untold: float | None = None
        self._busy: float | None = None
        self._reserve: Final = min(_RESERVE, spool.size // 4)
        self._open()

    # -- opening and failing -----------------------------------------------------------------------

    def _open(self) -> None:
        """Open what is there, the first time. A disk that is full is no reason not to begin."""
        self.last = self._state.ceiling
        try:
            self._reopen()
        except (sqlite3.Error, OSError) as error:
            if fault_of(error) is not Fault.FULL:
                raise
            self.positions = dict(self._state.positions)
            self._known = True
            self._folder_is_full(error)
        self.folder.keep_reserve(self._reserve)
        self._tell(durably=False)

    def _reopen(self) -> None:
        """
        Open the database, or go on with another.

        Raises:
            StorageError, sqlite3.Error, OSError: it was not possible.
        """
        if self._distrust is not None:
            found = replace_database(
                self.folder, self._spool.sync, self._state, self._distrust, positions=self.positions
            )
            self._distrust = None
        else:
            found = open_database(self.folder, self._spool.sync, self._state)
        self._use(found.database)
        if not self._known:
            self.positions = found.positions
            self.resend = found.resend
        else:  # What is in memory is newer.
            self._dirty.update(self.positions)
        self._known = True
        known = max((position.number for position in self.positions.values()), default=0)
        self.last = max(self.last, found.database.last(), known)
        self._totals = max(self._totals, found.database.totals())

    def _use(self, database: Database) -> None:
        self._database = database
        self._targeted = bool(database.target_lists())
        self._logged = _LOG_BYTES  # Nobody knows what is in it.

    def _mended(self, error: sqlite3.Error | OSError, *, syncing: bool = False) -> bool:
        """Do what *error* asks for, and return whether the same may be tried again now."""
        fault = fault_of(error, syncing=syncing)
        if self._database is not None:
            self._database.rollback()
        if fault is Fault.FULL:
            self._folder_is_full(error)
            return False
        old, self._database = self._database, None
        if fault is Fault.UNUSABLE:
            if old is not None:
                old.abandon()
            self._fail(words(fault, error, self.folder.path))
            return False
        try:
            found = replace_database(
                self.folder, self._spool.sync, self._state, str(error), positions=self.positions, old=old
            )
        except (sqlite3.Error, OSError) as another:
            if old is not None:
                old.abandon()
            self._distrust = str(error)
            self._fail(words(fault, another, self.folder.path))
            return False
        self._use(found.database)
        self._dirty.update(self.positions)
        return True

    def _folder_is_full(self, error: sqlite3.Error | OSError) -> None:
        self.folder.use_reserve()
        self._fail(words(Fault.FULL, error, self.folder.path))

    def _fail(self, why: str) -> None:
        now = time.monotonic()
        if self.trouble is None or now >= self._retry:
            # Else what is tried meanwhile, such as writing where producers are, would put it off for ever.
            self._retry = now + RETRY
        self.trouble = why

    def _attempt(self, work: Callable[[Database], T]) -> T | None:
        """Do *work*, once more if what failed could be mended; None: it is not possible now."""
        for _ in range(2):
            try:
                if self._database is None:
                    return None
                return work(self._database)
            except (sqlite3.Error, OSError) as error:
                if not self._mended(error):
                    return None
        self._fail(f"{self.folder} fails again and again; see the disk, it is tried again")
        return None

    # -- who is where ------------------------------------------------------------------------------

    def join(self, producer_id: str, last: int) -> None:
        """Keep what is stored behind *last* for *producer_id*, too, and what lies there for it."""
        position = self.positions.get(producer_id)
        if position is None:
            position = self.positions[producer_id] = Position(0 if self.resend else last)
        position.come(last)
        self._joined.add(producer_id)
        self._dirty[producer_id] = position

    def leave(self, producer_id: str) -> None:
        """Keep nothing for *producer_id*."""
        self._joined.discard(producer_id)
        self.positions.pop(producer_id, None)
        self._expected.pop(producer_id, None)
        self._dirty[producer_id] = None

    def move(self, producer_id: str, number: int) -> None:
        """Note that all up to *number* is settled."""
        position = self.positions.get(producer_id)
        if position is not None and number > position.number:
            position.move(number)
            self._dirty[producer_id] = position

    def backlog(self, producer_id: str) -> Backlog:
        """Return what lies there for a producer of `positions`."""
        position = self.positions[producer_id]
        found = self._attempt(lambda database: backlog_of(database, producer_id, position, self._totals))
        return found or Backlog(position.number, position.number, 0, 0)

    def backlog_of_all(self) -> Backlog:
        """Return what lies there for one who gets all of it."""
        found = self._attempt(lambda database: backlog_of(database, "", Position(0), self._totals))
        return found or Backlog(0, 0, 0, 0)

    # -- writing -----------------------------------------------------------------------------------

    def store(self, batches: Sequence[Pending]) -> bool:
        """Write *batches*, and where producers are, in one transaction; return whether they are stored."""
        if batches and (self._too_large() or (self.trouble is not None and time.monotonic() < self._retry)):
            return False
        if self.trouble is not None and not self._recover():
            return False
        if batches:
            self._note_strangers(batches[0].number - 1)
        stored = self._attempt(lambda database: self._transaction(database, batches)) is not None
        if not stored and batches and self._database is not None:
            # On a full disk, there is room for this in what was kept in reserve.
            self.move_on()
        self._checkpoint()
        if self._unmeasured > self._spool.size // 16:
            self._measure()
        return stored

    def move_on(self) -> None:
        """Write where producers are, if that is not written yet."""
        if self._dirty:
            self._attempt(lambda database: self._transaction(database, ()))

    def _transaction(self, database: Database, batches: Sequence[Pending]) -> bool:
        rows, totals = self._rows(batches)
        if rows and rows[-1].number > self._state.ceiling:
            self._reserve_numbers(rows[-1].number)
        database.begin()
        dirty = dict(self._dirty)
        if dirty:
            database.set_positions(dirty)
            if not self.resend:
                self._delete(database, dirty)
            # Where no row is left, nothing else tells.
            database.set_meta("total", totals[0])
            database.set_meta("total_nbytes", totals[1])
        if rows:
            if self.resend:
                database.set_meta("resend", 0)
            database.insert(rows)
        database.commit()
        now = time.monotonic()
        for name, position in dirty.items():
            if self._dirty.get(name) is position:
                del self._dirty[name]
        self._totals = totals
        nbytes = sum([len(row.payload) + PAGE for row in rows]) + 3 * PAGE
        self._logged += nbytes
        self._unmeasured += nbytes
        self._untold = self._untold or now
        self._busy = now
        if rows:
            self.last = max(self.last, rows[-1].number)
            self.resend = False
            self._targeted = self._targeted or any(row.targets is not None for row in rows)
        if self._unsynced is None and 0 < self._spool.sync < math.inf:
            self._unsynced = now
        return True

    def _rows(self, batches: Sequence[Pending]) -> tuple[list[Row], Totals]:
        """Make rows of *batches*, small ones together, and return them with the totals behind them."""
        rows = []
        messages, nbytes = self._totals
        now = since_boot()
        for group in grouped(batches):
            row = row_of(group, messages, nbytes, self._boot, now)
            rows.append(row)
            if row.targets is None:
                messages += row.messages
                nbytes += row.nbytes
        return rows, (messages, nbytes)

    def _delete(self, database: Database, dirty: dict[str, Position | None]) -> None:
        """Remove what nobody waits for any more."""
        lists: list[str | None] = [None, *(database.target_lists() if self._targeted else ())]
        for targets in lists:
            spans = passed(self.positions, targets)
            if not self.positions and any(position is None for position in dirty.values()):
                spans = [(-1, NEVER)]  # The last one has left.
            database.delete(spans, targets)

    def _reserve_numbers(self, number: int) -> None:
        before, self._state.ceiling = self._state.ceiling, number + BLOCK
        self._state.positions = dict(self.positions)
        try:
            self._state_file.write(self._state, durably=True)
        except OSError:
            self._state.ceiling = before
            raise

    def _note_strangers(self, last: int) -> None:
        """What is stored behind *last* is not for those who have not joined."""
        for name, position in self.positions.items():
            if position.until is None and name not in self._joined:
                position.until = last
                self._dirty[name] = position

    def _too_large(self) -> bool:
        slack = max(_SLACK, self._spool.size // 8) if self._spool.size > 4 * _SLACK else self._spool.size // 4
        if self.excess <= slack:
            return False
        size = format_size(self._spool.size)
        self._fail(f"{self.folder} has its size ({size}); raise spool-size, or see who is behind")
        return True

    # -- reading -----------------------------------------------------------------------------------

    def read(self, producer_id: str, after: int, most: int) -> tuple[list[StoredBatch], int, Lost] | None:
        """Return batches, how far was looked, and what turned out to be gone; None: it cannot be read now."""
        position = self.positions.get(producer_id)
        if position is None:
            return [], after, Lost(0, 0)

        def work(database: Database) -> tuple[list[StoredBatch], int, Lost]:
            known = self._expected.get(producer_id)
            expected = known[1] if known is not None and known[0] == after else database.totals_before(after)
            with closing(database.rows(after, producer_id)) as rows:
                found = read_batches(rows, position, after, most, expected, self._age)
            batches, upto, lost, totals = found
            if upto is None:
                upto = max(after, self.last)
                lost = lost.up_to(totals, self._totals)
                totals = self._totals
            if totals is not None:
                self._expected[producer_id] = (upto, totals)
            return batches, upto, lost

        return self._attempt(work)

    def skip(self, producer_id: str, after: int, enough: int | None) -> tuple[int, int, int] | None:
        """
        Drop the oldest for *producer_id* behind *after*: *enough* bytes, or None: what is too old.

        Return how far, messages and bytes; None: it is not possible now.
        """
        position = self.positions.get(producer_id)
        if position is None:
            return after, 0, 0

        def stop(row: Row, dropped: int) -> bool:
            return dropped >= enough if enough is not None else self._age(row) < self._spool.age

        def work(database: Database) -> tuple[int, int, int]:
            with closing(database.heads(after)) as heads:
                return skipped(heads, producer_id, position, after, stop)

        found = self._attempt(work)
        if found is not None and found[0] > after:
            position.skip((after, found[0]))
            self._dirty[producer_id] = position
        return found

    def _age(self, row: Row) -> float:
        since = row.clock if row.boot == self._boot else self._opened
        return max(0.0, since_boot() - since)

    # -- from time to time -------------------------------------------------------------------------

    def due(self) -> float | None:
        """Return when tick() is to be called next, on the monotonic clock; None: there is no need."""
        times = [
            self._retry if self.trouble is not None else None,
            None if self._unsynced is None else self._unsynced + self._spool.sync,
            None if self._untold is None else self._untold + _STATE,
            None if self._busy is None else self._busy + _IDLE,
        ]
        return min([time for time in times if time is not None], default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.trouble is not None and now >= self._retry:
            self._recover()
        if self._unsynced is not None and now >= self._unsynced + self._spool.sync:
            self._sync()
        if self._untold is not None and now >= self._untold + _STATE:
            self._measure()
            self._tell(durably=False)
        if self._busy is not None and now >= self._busy + _IDLE:
            self._rest()

    def _recover(self) -> bool:
        """Try to go on; return whether that is possible."""
        self._retry = time.monotonic() + RETRY
        full = not self.folder.keep_reserve(self._reserve)
        try:
            if self._database is None:
                self._reopen()
            assert self._database is not None
            self._measure()
            if self._too_large():
                return False
            if full:
                self._database.checkpoint()
            self._database.try_to_grow(_RESERVE // 12 if full else 1)
        except (sqlite3.Error, OSError) as error:
            self._mended(error)
            return False
        self.trouble = None
        return True

    def _sync(self) -> None:
        self._unsynced = None
        if self._database is not None:
            try:
                self._database.sync_log()
            except OSError as error:
                self._mended(error, syncing=True)

    def _checkpoint(self) -> None:
        if self._logged < _LOG_BYTES or self._database is None:
            return
        self._logged = 0
        try:
            self._database.checkpoint()
        except (sqlite3.Error, OSError) as error:
            if fault_of(error) is not Fault.FULL:
                self._mended(error)
                return
            # It has to grow before the log can begin anew: this is what the reserve is for.
            self.folder.use_reserve()
            self._attempt(lambda database: database.checkpoint())
        self._measure()

    def _measure(self) -> None:
        self._unmeasured = 0
        nbytes = self._attempt(lambda database: database.nbytes())
        if nbytes is not None:
            self.excess = max(0, nbytes - self._spool.size)

    def _rest(self) -> None:
        """Tidy up while nobody wants anything."""
        self._busy = None

        def work(database: Database) -> None:
            database.checkpoint()
            if database.file_nbytes() > _SHRINK and database.nbytes() < database.file_nbytes() // 8:
                database.shrink()

        self._logged = 0
        if self.trouble is None:
            self._attempt(work)

    def _tell(self, *, durably: bool, closing: bool = False) -> None:
        """Write the state: for those who look from outside, and for whoever finds the database damaged."""
        self._untold = None
        self._state.positions = dict(self.positions)
        shown = self._attempt(
            lambda database: shown_of(
                database, self._spool, self.positions, self._joined, self._totals, self._age
            )
        )
        if shown is not None:
            self._state.shown = shown
        self._state.shown.update(trouble=self.trouble, open=not closing, time=time.time())
        try:
            self._state_file.write(self._state, durably=durably)
        except OSError as error:
            _log.debug("spool %s: its state could not be written: %s", self.folder, error)

    def close(self) -> None:
        """Write where producers are, move what is in the log into the database, and let go."""
        self.move_on()
        self._state.ceiling = self.last  # It ended well: no number above was given.
        self._tell(durably=True, closing=True)
        self._state_file.close()
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error as error:  # What is in the log stays there, for the next time.
                _log.warning("spool %s: it was not closed well: %s", self.folder, error)
                database.abandon()
