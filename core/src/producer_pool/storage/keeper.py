"""The spool as its own thread sees it: a database, who is where in it, and what to do when the disk fails."""
# Rule: one thread calls this. Nothing of it raises because of a disk, once it is made: see upkeep.py.

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch
from producer_pool.storage.backlogs import Missing, backlog_of, passed, read_batches, shown_of, skipped
from producer_pool.storage.boot import boot_id, since_boot
from producer_pool.storage.database import PAGE, Database, Totals
from producer_pool.storage.folder import Folder
from producer_pool.storage.positions import NEVER, Position
from producer_pool.storage.record import Pending, Row, grouped, row_of
from producer_pool.storage.state import BLOCK, StateFile, read_state
from producer_pool.storage.upkeep import Upkeep

__all__ = ["Keeper"]

_log: Final = logging.getLogger(__name__)

_STATE: Final = 1.0
"""Seconds after which it is told what has changed."""
_SELDOM: Final = 20
"""How many times as long as it took it is not told again: to count a large backlog takes a while."""
_LISTS: Final = 100
"""Lists of targets that may have no batch any more, until it is looked which there are."""


class Keeper:
    """
    Stores, reads and forgets batches.

    Raises:
        StorageError: the folder cannot be used; the text says what to do.
    """

    def __init__(self, folder: Folder, spool: Spool) -> None:
        self.folder: Final = folder
        self._spool: Final = spool
        self.positions: Final[dict[str, Position]] = {}
        self.resend = False
        """Whether whoever comes gets all that is there, because who had got what was lost."""
        self._joined: set[str] = set()
        self._dirty: dict[str, Position | None] = {}
        self._totals: Totals = (0, 0)
        self._counted = False
        """Whether those have been read from a database, since when they are counted here."""
        self._expected: dict[str, tuple[int, Totals]] = {}
        """For each producer the number up to which was read last, and the totals there."""
        self._boot: Final = boot_id()
        self._opened: Final = since_boot()
        self._untold: float | None = None
        self._written = 0, 0
        """Bytes in the log, and bytes of batches, that were written by the last transaction."""
        self._state: Final = read_state(folder.state)
        self._state_file: Final = StateFile(folder.state)
        self._upkeep: Final = Upkeep(folder, spool, self._state, self.positions, self._renewed)
        self.last = self._state.ceiling
        """The highest number that is known to have been given."""
        self._pause = _STATE
        """Seconds from a change until it is told."""
        self._lists: set[str] | None = None
        """The lists of targets of batches that are not for all, and some of which there are none any more;
        None: nobody has looked."""
        self._most_lists = 0
        self._open()

    def _open(self) -> None:
        found = self._upkeep.open()
        if found is None:
            self.positions.update(self._state.positions)
        else:
            self.positions.update(found.positions)
            self.resend = found.resend
            known = max((position.number for position in self.positions.values()), default=0)
            self.last = max(self.last, found.database.last(), known)
            self._totals = found.database.totals()
            self._counted = True
        self._tell(durably=False)

    def _renewed(self, database: Database) -> None:
        """The database is another one, or was opened again: what is in memory is newer."""
        self.last = max(self.last, database.last())
        if not self._counted:
            # Else those in memory are right. In the database may be a batch whose commit failed.
            self._totals = database.totals()
            self._counted = True
        self._dirty.update(self.positions)
        self._lists = None
        self._state_file.close()  # It may have gone with the database.

    @property
    def trouble(self) -> str | None:
        """What keeps it from storing just now; None: nothing."""
        return self._upkeep.trouble

    @property
    def excess(self) -> int:
        """Bytes by which it is larger than it may be."""
        return self._upkeep.excess

    def fail(self, why: str) -> None:
        """Note that nothing can be stored; it is tried again."""
        self._upkeep.fail(why)

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
        found = self._upkeep.attempt(
            lambda database: backlog_of(database, producer_id, position, self._totals)
        )
        return found or Backlog(position.number, position.number, 0, 0)

    def backlog_of_all(self) -> Backlog:
        """Return what lies there for one who gets all of it."""
        found = self._upkeep.attempt(lambda database: backlog_of(database, "", Position(0), self._totals))
        return found or Backlog(0, 0, 0, 0)

    # -- writing -----------------------------------------------------------------------------------

    def store(self, batches: Sequence[Pending]) -> bool:
        """Write *batches*, and where producers are, in one transaction; return whether they are stored."""
        if batches and (self._upkeep.too_large() or self._upkeep.waits):
            return False
        if self.trouble is not None and not self._upkeep.recover():
            return False
        if batches:
            self._note_strangers(batches[0].number - 1)
        stored = self._upkeep.has_room(batches) and self._write(batches)
        if not stored and batches and self._upkeep.usable:
            # On a full disk, there is room for this in what was kept in reserve.
            self.move_on()
        return stored

    def move_on(self) -> None:
        """Write where producers are, if that is not written yet."""
        if self._dirty:
            self._write(())

    def _write(self, batches: Sequence[Pending]) -> bool:
        self._written = 0, 0
        stored = self._upkeep.attempt(lambda database: self._transaction(database, batches)) is not None
        if stored:
            self._upkeep.wrote(*self._written)
        return stored

    def _transaction(self, database: Database, batches: Sequence[Pending]) -> bool:
        rows, totals = self._rows(batches)
        if rows and rows[-1].number > self._state.ceiling:
            self._reserve_numbers(rows[-1].number)
        stored = sum([row.nbytes for row in rows])
        rows = database.put_payloads(rows)
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
        database.check_place()
        for name, position in dirty.items():
            if self._dirty.get(name) is position:
                del self._dirty[name]
        self._totals = totals
        self._untold = self._untold or time.monotonic()
        if rows:
            self.last = max(self.last, rows[-1].number)
            self.resend = False
            if self._lists is not None:
                self._lists.update([row.targets for row in rows if row.targets is not None])
        logged = sum([len(row.payload) + PAGE for row in rows if row.place is None]) + 3 * PAGE
        self._written = logged, stored
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
        if self._lists is None or len(self._lists) > self._most_lists:
            self._lists = set(database.target_lists())
            self._most_lists = 2 * len(self._lists) + _LISTS
        for targets in (None, *self._lists):
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

    # -- reading -----------------------------------------------------------------------------------

    def read(self, producer_id: str, after: int, most: int) -> tuple[list[StoredBatch], int, Missing] | None:
        """Return batches, how far was looked, and what turned out to be gone; None: it cannot be read now."""
        position = self.positions.get(producer_id)
        if position is None:
            return [], after, Missing(0, 0)

        def work(database: Database) -> tuple[list[StoredBatch], int, Missing]:
            known = self._expected.get(producer_id)
            expected = known[1] if known is not None and known[0] == after else database.totals_behind(after)
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

        return self._upkeep.attempt(work)

    def skip(self, producer_id: str, after: int, enough: int | None) -> tuple[int, int, int] | None:
        """
        Drop the oldest for *producer_id* behind *after*: *enough* bytes, or None: what is too old.

        Return how far, messages and bytes; None: it is not possible now.
        """
        position = self.positions.get(producer_id)
        if position is None:
            return after, 0, 0
        if enough is None and self._spool.age == math.inf:
            return after, 0, 0  # Nothing ever is.

        def stop(row: Row, dropped: int) -> bool:
            return dropped >= enough if enough is not None else self._age(row) < self._spool.age

        def work(database: Database) -> tuple[int, int, int]:
            with closing(database.heads(after, producer_id)) as heads:
                return skipped(heads, position, after, stop)

        found = self._upkeep.attempt(work)
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
        times = self._upkeep.due()
        if self._untold is not None:
            times.append(self._untold + self._pause)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._upkeep.tick(now)
        if self._untold is not None and now >= self._untold + self._pause:
            self._upkeep.measure()
            self._tell(durably=False)

    def _tell(self, *, durably: bool, closing: bool = False) -> None:
        """Write the state: for those who look from outside, and for whoever finds the database damaged."""
        self._untold = None
        began = time.monotonic()
        self._state.positions = dict(self.positions)
        shown = self._upkeep.attempt(
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
        self._pause = max(_STATE, _SELDOM * (time.monotonic() - began))

    def close(self) -> None:
        """Write where producers are, move what is in the log into the database, and let go."""
        self.move_on()
        self._state.ceiling = self.last  # It ended well: no number above was given.
        self._tell(durably=True, closing=True)
        self._state_file.close()
        self._upkeep.close()
