"""The database of a spool: one connection, used by one thread, and all that is asked of it."""
# Rule: there is only ever one connection to a file. SQLite up to 3.51.2 can damage a database whose log is
# reset by two at once (https://sqlite.org/wal.html#walresetbug).

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from producer_pool.storage.faults import SyncFailed, sensible
from producer_pool.storage.meta import AT, PAYLOADS, Meta
from producer_pool.storage.payload_files import PayloadFiles
from producer_pool.storage.payloads import Payloads
from producer_pool.storage.portable import sync_data
from producer_pool.storage.positions import Position, Span
from producer_pool.storage.record import Row, part_nbytes, parts_in, quoted
from producer_pool.storage.schema import APPLICATION, FORMAT, SCHEMA, is_alien, refuse_others
from producer_pool.storage.segments import IDENTITY
from producer_pool.storage.uses import Use, Uses

__all__ = ["FORMAT", "PAGE", "Database", "Totals"]

PAGE: Final = 32 * 1024
"""Bytes of a page. Larger ones make small commits larger; smaller ones make large batches slower."""

_CACHE: Final = 32 * 1024 * 1024
"""Bytes of pages in memory, at the most. What is removed soon after it was stored need not be read again."""

_COLUMNS: Final = ", ".join(Row._fields)
_INSERT: Final = f"INSERT OR IGNORE INTO batch ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"

Totals = tuple[int, int]
"""Messages and bytes that were stored for all producers, ever."""


class Database:
    """
    An open database. Every method may raise sqlite3.Error.

    Raises:
        StorageError: a newer Producer Pool made it.
        sqlite3.Error: it cannot be read, or is another program's; that one is not changed.
    """

    def __init__(
        self, path: Path, sync: float = 0.0, *, new: bool = True, identity: bytes | None = None
    ) -> None:
        """Open *path*; *new*: make it one if it is empty, with this *identity* or one of its own."""
        self.path = path
        self._sync: Final = sync
        self._identity: Final = identity or os.urandom(IDENTITY)
        self._wal: int | None = None
        files = PayloadFiles(path)
        self.payloads = Payloads(files, b"", Uses({}))  # until it is known whose they are
        self.files: Final[dict[str, tuple[int, int]]] = {}
        """Which files, by device and inode, lay at their paths when it was opened."""
        if is_alien(path):  # Before SQLite sees it: to open it as below would change it.
            raise sqlite3.DatabaseError("it is no spool")
        # Statements of our own only: no transaction is begun behind our back.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=True)
        self._meta: Final = Meta(self._connection)
        try:
            with sensible():
                self._set_up(sync, new)
        except BaseException:
            self.abandon()
            raise

    def _set_up(self, sync: float, new: bool) -> None:
        for pragma in (
            f"page_size = {PAGE}",
            # No other process, and no index of the log in shared memory, where a full disk means SIGBUS.
            "locking_mode = EXCLUSIVE",
            f"synchronous = {'FULL' if sync == 0 else 'NORMAL'}",
            "wal_autocheckpoint = 0",
            "secure_delete = OFF",
            f"cache_size = -{_CACHE // 1024}",
            "mmap_size = 0",
            "trusted_schema = OFF",
            "journal_mode = WAL",
        ):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        if not self._one("SELECT count(*) FROM sqlite_master"):
            if not new:
                raise sqlite3.DatabaseError("its tables are gone")
            self._create()
        if self._one("PRAGMA application_id") != APPLICATION:
            raise sqlite3.DatabaseError("it is no spool")
        versions = self._one("PRAGMA user_version"), self.meta("format")
        refuse_others(self.path, *versions)
        if versions != (FORMAT, FORMAT):
            raise sqlite3.DatabaseError(f"it is no spool of any version: {versions}")
        self._meta.check()
        for path in (str(self.path), f"{self.path}-wal"):
            found = os.stat(path)
            self.files[path] = found.st_dev, found.st_ino

        identity = self.meta("identity")
        if not isinstance(identity, bytes) or len(identity) != IDENTITY:
            raise sqlite3.DatabaseError("it does not say which payloads are its own")
        uses = self._meta.behind(PAYLOADS)
        known = {int(name): Use.from_text(text) for name, text in uses.items()}
        self.payloads = Payloads(self.payloads.files, identity, Uses(known))

    def _create(self) -> None:
        self._connection.executescript(
            f"BEGIN; {SCHEMA}PRAGMA user_version = {FORMAT}; PRAGMA application_id = {APPLICATION};"
        )
        self._meta.set("format", FORMAT)
        self._meta.set("identity", self._identity)
        self._connection.execute("COMMIT")

    def _one(self, statement: str, *values: object) -> object:
        row = self._connection.execute(statement, values).fetchone()
        return row[0] if row else None

    def _number(self, statement: str, *values: object) -> int:
        found = self._one(statement, *values)
        return found if isinstance(found, int) else 0

    # -- the life of it ----------------------------------------------------------------------------

    def close(self) -> None:
        """Move all that is in the log into the database, close both, and remove files that nobody needs."""
        self.payloads.rest()
        self.payloads.sync()
        if self.payloads.uses.unsafe:
            self.sync_log()
        self._close_log()
        self._connection.close()
        self.payloads.tidy(0)
        self.payloads.close()

    def abandon(self) -> None:
        """Close it and change nothing, neither the database nor its log: neither can be trusted."""
        self._close_log()
        self.payloads.close()
        # Closing moves the log into the database, unless it is interrupted.
        with suppress(sqlite3.Error):
            self._connection.interrupt()
        with suppress(sqlite3.Error):
            self._connection.close()

    def quick_check(self, seconds: float) -> bool:
        """Return whether its pages fit together, as far as that can be found out in so many seconds."""
        until = time.monotonic() + seconds
        self._connection.set_progress_handler(lambda: time.monotonic() > until, 1000)
        try:
            return self._one("PRAGMA quick_check(1)") == "ok"
        except sqlite3.OperationalError as error:
            return error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
        finally:
            self._connection.set_progress_handler(None, 0)

    # -- transactions ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to write."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Finish writing: as safe as asked for, with ``sync=0`` from a power cut, too."""
        uses = self.payloads.uses
        for segment, use in uses.changes().items():
            if use.rows > 0:
                self._meta.set(f"{PAYLOADS}{segment}", use.as_text())
            else:
                self._meta.remove(f"{PAYLOADS}{segment}")
        self._connection.execute("COMMIT")
        uses.committed()
        if self._sync == 0:
            uses.safe()
        self.payloads.tidy()

    def rollback(self) -> None:
        """Forget what was written since begin()."""
        self.payloads.uses.rolled_back()
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def put_payloads(self, rows: Sequence[Row]) -> list[Row]:
        """Write large payloads of *rows* into their files, before begin(), and return what insert() takes."""
        if self.payloads.uses.wants_safety:
            self.sync_log()
        rows = self.payloads.write(rows)
        if self._sync == 0:
            self.payloads.sync()
        self.payloads.check_place()
        return rows

    def insert(self, rows: Iterable[Row]) -> None:
        """Add *rows*; those whose numbers are there already are left out."""
        inside = []
        for row in rows:
            if row.place is None:
                inside.append(row)
            elif self._connection.execute(_INSERT, row).rowcount:
                self.payloads.uses.added(row.place)
        self._connection.executemany(_INSERT, inside)

    def delete(self, spans: Iterable[Span], targets: str | None = None) -> None:
        """Remove what is in *spans*, of the batches for *targets*; None: of those for all."""
        chosen = "targets IS NULL" if targets is None else "targets = ?"
        named = () if targets is None else (targets,)
        for span in spans:
            rows, values = f"FROM batch WHERE {chosen} AND number > ? AND number <= ?", (*named, *span)
            # Not RETURNING, which SQLite 3.34 does not know; Python 3.11 may come with that.
            if self.payloads.uses.known():
                for (place,) in self._connection.execute(f"SELECT place {rows} AND place NOTNULL", values):
                    self.payloads.uses.removed(place)
            self._connection.execute(f"DELETE {rows}", values)

    def move_in(self, places: Iterable[tuple[int, object]]) -> None:
        """Keep the payloads of rows, by number and place, here from now on."""
        for number, place in places:
            self._connection.execute(
                "UPDATE batch SET payload = ?, place = NULL WHERE number = ?",
                (self._payload(place, number), number),
            )

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove rows that are in no file of payloads any more."""
        self._connection.executemany("DELETE FROM batch WHERE number = ?", [(one,) for one in numbers])

    def checkpoint(self) -> int:
        """Move what is in the log into the database, and return how many pages of it there were."""
        self.payloads.sync()  # Or a row may be safe from a power cut, and its payload is not.
        row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(row[1]) if row else 0

    def empty_log(self) -> None:
        """Move what is in the log into the database, and make it an empty file."""
        self.payloads.sync()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_back(self) -> None:
        """Remove the files of payloads that nobody needs, once that is safe."""
        self.payloads.rest()
        if self.payloads.uses.unsafe:
            self.sync_log()
        self.payloads.tidy(0)

    def shrink(self) -> None:
        """Give free pages back to the system. It copies the rest: for a database that is nearly empty."""
        self._connection.execute("VACUUM")
        self.empty_log()

    def sync_log(self) -> None:
        """
        Have what was committed safe from a power cut.

        Raises:
            SyncFailed: that failed.
            OSError: the log cannot be opened.
        """
        self.payloads.sync()
        if self._wal is None:
            # SQLite keeps this file as long as it is open, and has no lock on it that closing would lose.
            self._wal = os.open(f"{self.path}-wal", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            sync_data(self._wal)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror, f"{self.path}-wal") from error
        self.payloads.uses.safe()
        self.payloads.tidy()

    def check_place(self) -> None:
        """
        See that what is written can be found again: whoever has a file open writes to it, wherever it is.

        Raises:
            OSError: the database, or its log, was removed, moved or replaced.
        """
        for path, known in self.files.items():
            found = os.stat(path)
            if (found.st_dev, found.st_ino) != known:
                raise FileNotFoundError(errno.ENOENT, "another file is in its place", path)

    def _close_log(self) -> None:
        wal, self._wal = self._wal, None
        if wal is not None:
            os.close(wal)

    # -- what is in it -----------------------------------------------------------------------------

    def rows(self, after: int, producer_id: str | None = None) -> Generator[tuple[object, ...], None, None]:
        """Yield the columns of rows behind *after*, in their order; those for one producer, or all."""
        with closing(self._rows(_COLUMNS, after, producer_id)) as found:
            for columns in found:
                *others, _, place = columns
                yield columns if place is None else (*others, self._payload(place, columns[0]), place)

    def places(self, after: int) -> Generator[tuple[int, int, bytes], None, None]:
        """Yield the first and the last number, and the place, of rows behind *after* that have one."""
        found = self._connection.execute(
            "SELECT first, number, place FROM batch WHERE place IS NOT NULL AND number > ? ORDER BY number",
            (after,),
        )
        try:
            yield from found
        finally:
            found.close()

    def heads(self, after: int, producer_id: str) -> Generator[tuple[object, ...], None, None]:
        """Yield the columns of rows for one producer behind *after*, without payloads, which are not read."""
        yield from self._rows(_COLUMNS.replace("payload", "NULL"), after, producer_id)

    def _rows(
        self, columns: str, after: int, producer_id: str | None
    ) -> Generator[tuple[object, ...], None, None]:
        chosen, values = "", [after]
        if producer_id is not None:
            chosen = "AND (targets IS NULL OR instr(targets, ?))"
            values.append(quoted(producer_id))  # type: ignore[arg-type]
        found = self._connection.execute(
            f"SELECT {columns} FROM batch WHERE number > ? {chosen} ORDER BY number", values
        )
        try:
            yield from found
        finally:
            found.close()  # Or it would keep the log from being reset.

    def totals(self) -> Totals:
        """Return the totals of all that was stored for all, ever."""
        row = self._connection.execute(
            "SELECT total + messages, total_nbytes + nbytes FROM batch WHERE targets IS NULL "
            "ORDER BY number DESC LIMIT 1"
        ).fetchone()
        found = (int(row[0]), int(row[1])) if row else (0, 0)
        kept = self.meta("total"), self.meta("total_nbytes")
        return (
            max(found[0], kept[0] if isinstance(kept[0], int) else 0),
            max(found[1], kept[1] if isinstance(kept[1], int) else 0),
        )

    def totals_at(self, number: int) -> Totals:
        """Return the totals of all up to *number*, as far as what is stored behind it tells."""
        row = self._connection.execute(
            "SELECT number, first, messages, total, total_nbytes, framing, parts FROM batch "
            "WHERE number > ? AND targets IS NULL ORDER BY number LIMIT 1",
            (number,),
        ).fetchone()
        if row is None:
            return self.totals()
        last, first, own, messages, nbytes, framing, parts = row
        if first <= number and parts is not None:
            for at, some, size in parts_in(parts, last, own, 0):
                if at <= number:
                    messages += some
                    nbytes += part_nbytes(framing, some, size)
        return int(messages), int(nbytes)

    def totals_before(self, number: int) -> Totals | None:
        """Return the totals behind the last row for all that ends at *number* or before, if there is one."""
        row = self._connection.execute(
            "SELECT total + messages, total_nbytes + nbytes FROM batch "
            "WHERE number <= ? AND targets IS NULL ORDER BY number DESC LIMIT 1",
            (number,),
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else None

    def totals_behind(self, number: int) -> Totals | None:
        """Return the totals behind the row for all that ends at *number*, if there is one."""
        # One in front of that tells nothing: what lay in between may have been skipped by all, and removed.
        row = self._connection.execute(
            "SELECT total + messages, total_nbytes + nbytes FROM batch WHERE number = ? AND targets IS NULL",
            (number,),
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else None

    def totals_up_to(self, number: int) -> Totals | None:
        """Return the totals of all up to *number*, as far as what is stored up to there tells."""
        first = self._one(
            "SELECT first FROM batch WHERE targets IS NULL AND number > ? ORDER BY number LIMIT 1", number
        )
        if isinstance(first, int) and first <= number:
            return self.totals_at(number)  # It lies within a row.
        return self.totals_before(number)

    def targeted(self, producer_id: str, span: Span) -> tuple[int, int, int]:
        """Return messages, bytes and the last number of what is for *producer_id* and not for all."""
        row = self._connection.execute(
            "SELECT sum(messages), sum(nbytes), max(number) FROM batch "
            "WHERE targets IS NOT NULL AND instr(targets, ?) AND number > ? AND number <= ?",
            (quoted(producer_id), *span),
        ).fetchone()
        return int(row[0] or 0), int(row[1] or 0), int(row[2] or 0)

    def last_for_all(self, span: Span) -> int:
        """Return the last number in *span* of what is for all; 0: there is none."""
        behind = self._one(
            "SELECT first FROM batch WHERE targets IS NULL AND number > ? ORDER BY number LIMIT 1", span[1]
        )
        if isinstance(behind, int) and behind <= span[1]:
            return span[1]  # It ends within a row.
        return self._number(
            "SELECT number FROM batch WHERE targets IS NULL AND number > ? AND number <= ? "
            "ORDER BY number DESC LIMIT 1",
            *span,
        )

    def target_lists(self) -> list[str]:
        """Return the different lists of targets that there are."""
        return [
            str(row[0])
            for row in self._connection.execute(
                "SELECT DISTINCT targets FROM batch WHERE targets IS NOT NULL"
            )
        ]

    def last(self) -> int:
        """Return the highest number; 0: there is no batch."""
        return self._number("SELECT max(number) FROM batch")

    def count(self) -> int:
        """Return the number of rows."""
        return self._number("SELECT count(*) FROM batch")

    def messages(self) -> int:
        """Return the number of messages in all rows."""
        return self._number("SELECT sum(messages) FROM batch")

    def _payload(self, place: object, number: Any) -> bytes | None:
        try:
            return self.payloads.read(place, number)
        except FileNotFoundError:
            self.check_place()  # If all of them are gone, they may come back.
            return None

    def nbytes(self) -> int:
        """Return the bytes of disk that are in use: of the database without pages for the next rows."""
        return self.used_nbytes() + self.payloads.files.nbytes()

    def used_nbytes(self) -> int:
        """Return the bytes of pages that are in use."""
        used = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return used * PAGE

    def file_nbytes(self) -> int:
        """Return the bytes of the file, free pages included."""
        return self._number("PRAGMA page_count") * PAGE

    def growth(self) -> int:
        """Return by how many bytes the file has to grow until what is in the log can be moved into it."""
        return self.file_nbytes() - os.stat(self.path).st_size

    def log_nbytes(self) -> int:
        """Return the bytes of the file of the log, whether what is in it was moved or not."""
        return os.stat(f"{self.path}-wal").st_size

    def try_to_grow(self, nbytes: int) -> None:
        """Write *nbytes*, safe from a power cut, and take them back: only that tells that a disk is well."""
        self.begin()
        self._meta.try_to_write(nbytes)
        self.commit()
        self.sync_log()
        self.begin()
        self._meta.end_trial()
        self.commit()

    # -- small things ------------------------------------------------------------------------------

    def meta(self, name: str) -> object:
        """Return a value that was kept under *name*."""
        return self._meta.get(name)

    def set_meta(self, name: str, value: int | str) -> None:
        """Keep a value under *name*."""
        self._meta.set(name, value)

    def positions(self) -> dict[str, Position]:
        """Return where each producer is."""
        with sensible():
            return {name: Position.from_text(text) for name, text in self._meta.behind(AT).items()}

    def set_positions(self, positions: Mapping[str, Position | None]) -> None:
        """Keep where these producers are; None: one that left for good."""
        for name, position in positions.items():
            if position is None:
                self._meta.remove(AT + name)
            else:
                self._meta.set(AT + name, position.as_text())
