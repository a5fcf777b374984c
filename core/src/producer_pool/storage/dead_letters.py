"""Dead letters on a disk: what was given up, in one file of a folder, which several processes may share."""
# A rollback journal, and not SQLite's write-ahead log: people list, replay and drop letters while a daemon
# writes more, and with two connections the versions of SQLite below 3.51.3 may damage a log that is reset.
# Rule: nothing here has a thread, and whoever calls waits for the disk. One connection is for one thread.

from __future__ import annotations

import logging
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from producer_pool.model.errors import StorageError
from producer_pool.model.framing import LENGTH4
from producer_pool.model.text import format_count
from producer_pool.storage.dead_letters_damage import (
    FAULTS,
    HEAD,
    Newer,
    Unreadable,
    as_text,
    readable,
    why_unreadable,
)
from producer_pool.storage.dead_letters_values import COLUMNS, Choice, Letter, letter_in, seal
from producer_pool.storage.private import private_file, private_folder

__all__ = ["DEFAULT_SIZE", "FILE", "LetterFile"]

log = logging.getLogger(__name__)

FILE: Final = "dead-letters.sqlite3"
DEFAULT_SIZE: Final = 1024**3
"""Bytes that a folder of dead letters may take, about; beyond it, the oldest give way."""

_FORMAT: Final = 1
_MARK: Final = 0x50504C31
"""What tells a file of ours from others: the application id in its header."""
_BUSY: Final = 5.0
"""Seconds that one process waits for another one that writes."""
_SCHEMA: Final = """
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    producer TEXT NOT NULL,
    role TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    origin TEXT NOT NULL,
    count INTEGER NOT NULL,
    nbytes INTEGER NOT NULL,
    accepted REAL NOT NULL,
    given_up REAL NOT NULL,
    last REAL NOT NULL,
    crc INTEGER NOT NULL,
    payload BLOB NOT NULL
)
"""
# AUTOINCREMENT: a number that somebody has noted down never comes to mean another letter.
_ALL: Final = (*COLUMNS, "crc", "payload")
_FIELDS: Final = ", ".join(_ALL)
_SMALL: Final = 64 * 1024 * 1024
"""Bytes of a file that is looked through as a whole when it is opened: that takes 0.1 s at the most."""
_ALL_LENGTHS: Final = " + ".join(f"length({name})" for name in (*COLUMNS, "crc"))
_AT_ONCE: Final = 256
"""Letters that are read, or dropped to make room, in one go."""


class LetterFile:
    """
    The file of one folder, open in one thread.

    People list, replay and drop, and get StorageError. Who adds letters gets sqlite3.Error as it comes:
    nothing was added then, and the next attempt may succeed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, size: int = DEFAULT_SIZE, new: bool = True) -> None:
        """
        With *new*, it is made when it is needed and not there, and one that cannot be read is set aside.

        Raises:
            StorageError: without *new*, there are no letters, or they cannot be read.
        """
        self.path = Path(folder).absolute() / FILE
        self.dropped = 0
        """Messages that gave way because the folder was full."""
        self._size = size
        self._new = new
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        if not new:
            if not self.path.is_file():
                raise StorageError(
                    f"{folder}: no dead letters there, as there is no {FILE} in it; "
                    "name the folder that dead-letters= names"
                )
            with self._explained():
                self._open()

    def make(self) -> None:
        """
        Make the folder and an empty file, where they are not there.

        Raises:
            StorageError: the folder cannot be used.
        """
        private_folder(self.path.parent)
        private_file(self.path)

    def close(self) -> None:
        """Let go of the file. What comes next opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAULTS):
                connection.close()

    def __enter__(self) -> LetterFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------------

    def add(self, letters: Sequence[tuple[Letter, bytes]]) -> None:
        """
        Store letters, each with its messages in the framing LENGTH4: all or none, and safe when it returns.

        Where there is no room, as many of the oldest are dropped and counted.
        """
        rows = [(*letter.values, seal(letter, payload), payload) for letter, payload in letters]
        marks = ", ".join("?" * len(rows[0]))

        def insert(connection: sqlite3.Connection) -> int:
            connection.executemany(f"INSERT INTO letters ({_FIELDS}) VALUES ({marks})", rows)
            return self._make_room(connection)

        self.dropped += self._change(insert)

    def _make_room(self, connection: sqlite3.Connection) -> int:
        """Drop the oldest letters until the rest fits; return how many messages these were."""
        dropped = 0
        while _used(connection) > self._size:
            oldest = connection.execute(
                "SELECT number, count FROM letters ORDER BY number LIMIT ?", (_AT_ONCE,)
            ).fetchall()
            # The newest stays, however large it is.
            newest = connection.execute("SELECT max(number) FROM letters").fetchone()[0]
            for number, count in oldest:
                if number == newest or _used(connection) <= self._size:
                    return dropped
                connection.execute("DELETE FROM letters WHERE number = ?", (number,))
                dropped += count
        return dropped

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove letters; return how many there were."""

        def delete(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.executemany("DELETE FROM letters WHERE number = ?", [(number,) for number in numbers])
            return connection.total_changes - before

        with self._explained("changed"):
            return int(self._change(delete))

    def rewrite(self, letters: Sequence[tuple[Letter, Sequence[bytes]]]) -> None:
        """Put letters with their messages into the places of those with their numbers, where still there."""
        rows = []
        for letter, messages in letters:
            payload = LENGTH4.encode(messages)
            counted = replace(letter, count=len(messages), nbytes=sum(map(len, messages)))
            rows.append((*counted.values, seal(counted, payload), payload, letter.number))
        fields = ", ".join(f"{name} = ?" for name in _ALL)
        with self._explained("changed"):
            self._change(
                lambda connection: connection.executemany(
                    f"UPDATE letters SET {fields} WHERE number = ?", rows
                )
            )

    def _change(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        """Make one change, all of it or nothing. A file that cannot be read is set aside, for a new one."""
        try:
            return self._changed(change)
        except FAULTS as error:
            # Whatever failed: the next attempt may find another file, or a journal to be played back.
            self.close()
            if not self._mended(error):
                raise
            return self._changed(change)

    def _changed(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            made = change(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(*FAULTS):
                connection.execute("ROLLBACK")
            raise
        return made

    # -- reading -----------------------------------------------------------------------------------

    def letters(self, choice: Choice | None = None, *, latest: float = math.inf) -> Iterator[Letter]:
        """
        Yield the letters that are meant, the oldest first, without their messages.

        No writer waits while the caller is at work on one, and those stored meanwhile come, too: as far
        as number *latest*.
        """
        choice = choice or Choice()
        condition, values = choice.where()
        query = f"SELECT {HEAD} FROM letters WHERE {condition} ORDER BY number LIMIT ?"
        after = 0
        while after < latest:
            with self._explained():
                rows = self._open().execute(query, (after, *values, _AT_ONCE)).fetchall()
            before = after
            for row in rows:
                if row[0] <= after:
                    continue  # A damaged tree may lead to one place twice.
                after = row[0]
                if after <= latest and choice.names(after):
                    yield letter_in(row)
            if len(rows) < _AT_ONCE or after == before:
                return

    def latest(self) -> int:
        """Return the number of the newest letter; 0 if there is none."""
        with self._explained():
            found = self._open().execute("SELECT max(number) FROM letters").fetchone()[0]
        return int(found or 0)

    def messages(self, number: int) -> tuple[Letter, list[bytes] | None] | None:
        """Return a letter and its messages, or None for them if they are damaged; None: it is not there."""
        query = f"SELECT {HEAD}, {{}} FROM letters WHERE number = ?"
        with self._explained():
            connection = self._open()
            try:
                row = connection.execute(query.format("crc, payload"), (number,)).fetchone()
            except FAULTS as error:
                if why_unreadable(error) is None:
                    raise
                row = connection.execute(query.format("0, NULL"), (number,)).fetchone()
        if row is None:
            return None
        *head, crc, payload = row
        letter = letter_in(head)
        whole = isinstance(payload, bytes) and crc == seal(letter, payload)
        return letter, LENGTH4.split(payload) if whole else None

    # -- opening, and what cannot be read -----------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """Return the connection. It is made anew where somebody put another file in the place of ours."""
        connection = self._connection
        if connection is not None and self._inode == _inode(self.path):
            return connection
        self.close()
        try:
            self._connection = self._connected()
        except FAULTS as error:
            if not self._mended(error):
                raise
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        if self._new:
            self.make()
        self._inode = _inode(self.path)
        connection = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None)
        try:
            connection.text_factory = as_text
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            # With TRUNCATE, FULL syncs the end of the journal too: a letter is safe once it is stored.
            connection.execute("PRAGMA synchronous = FULL")
            self._check_format(connection)
            self._check_all(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> None:
        """Make the table in a file that is new; raise Unreadable if it is no file of this format."""
        if _is_empty(connection):
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _is_empty(connection):  # Nobody else was faster.
                    connection.execute(_SCHEMA)
                    connection.execute(f"PRAGMA application_id = {_MARK}")
                    connection.execute(f"PRAGMA user_version = {_FORMAT}")
                connection.execute("COMMIT")
            except BaseException:
                with suppress(*FAULTS):
                    connection.execute("ROLLBACK")
                raise
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if connection.execute("PRAGMA application_id").fetchone()[0] != _MARK:
            raise Unreadable("holds something else than dead letters")
        if version > _FORMAT:
            raise Newer("was written by a newer version of producer-pool")
        table = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'letters'").fetchone()
        if version < _FORMAT or table is None or table[0] != _SCHEMA.strip():
            raise Unreadable("is damaged")

    def _check_all(self, connection: sqlite3.Connection) -> None:
        """Look for damage: letters are added at the end, where none elsewhere is noticed."""
        if self.path.stat().st_size > _SMALL:
            connection.execute(f"SELECT max({_ALL_LENGTHS}) FROM letters").fetchone()  # all but the messages
        elif connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise Unreadable("is damaged")

    @contextmanager
    def _explained(self, verb: str = "read") -> Iterator[None]:
        """Raise for people what happens to people."""
        try:
            yield
        except FAULTS as error:
            if (why := why_unreadable(error)) is not None:
                raise StorageError(
                    f"{self.path} {why}; whoever next writes, replays or drops letters here sets it aside, "
                    "and saves what can be read of it"
                ) from error
            raise StorageError(f"{self.path} cannot be {verb} now: {error}") from error

    def _mended(self, error: Exception) -> bool:
        """
        Give a file that cannot be read another name, and take over what can still be read of it.

        False: it may be another fault, and pass; or whoever only reads changes nothing.
        """
        why = why_unreadable(error)
        if why is None or not self._new:
            return False
        if _inode(self.path) != self._inode:
            return True  # Another process was faster.
        aside = next(
            name
            for number in range(1, 10**6)
            if not (name := self.path.with_name(f"{FILE}.unreadable-{number}")).exists()
        )
        # The journal first: with it, a new file would be brought into the old one's state.
        for suffix in ("-journal", ""):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
        log.error("%s %s; it is kept as %s, and a new one is used", self.path, why, aside.name)
        if isinstance(error, Newer):
            return True  # All of it is there for that version.
        saved = 0
        try:
            for chunk in readable(aside):
                self.add(chunk)
                saved += sum(letter.count for letter, _ in chunk)
        except (*FAULTS, OSError) as fault:
            log.error("%s: what it still holds stays there: %s", aside, fault)
        if saved:
            log.warning("%s: %s could be read, now in the new file", aside, format_count(saved, "message"))
        return True


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that are in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
