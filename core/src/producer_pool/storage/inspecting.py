"""Looks into a spool from outside: what lies there, whether it is whole, and what it holds."""
# Rule: a spool that is looked into is not changed, whatever state it is in. Only forget() writes into it, and
# salvage() into another folder.

from __future__ import annotations

import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from producer_pool.model.errors import StorageError
from producer_pool.model.policies import Spool
from producer_pool.model.stored import StoredBatch
from producer_pool.storage.backlogs import shown_of
from producer_pool.storage.boot import boot_id, since_boot
from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.faults import Fault, fault_of, sensible
from producer_pool.storage.folder import STATE, Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.log import lost_commits
from producer_pool.storage.positions import Position
from producer_pool.storage.record import Row, checked, stored
from producer_pool.storage.recovery import fill
from producer_pool.storage.remains import remaining_rows
from producer_pool.storage.schema import is_alien
from producer_pool.storage.state import read_state

__all__ = ["Found", "forget", "salvage", "status", "stored_in", "verify"]

_MOST: Final = 100
"""Damaged batches that are named."""


def status(path: Path) -> dict[str, Any]:
    """
    Return what lies in the spool at *path*, also while a process uses it: then as it was told lately.

    Raises:
        StorageError: there is no spool.
    """
    folder = _folder(path)
    state = read_state(folder.state)
    shown = {**_NOTHING, **state.shown}
    in_use = folder.in_use
    shown["damaged"] = None
    if not in_use:
        with _locked(folder):
            database, why = _opened(folder.database)
            if database is None:
                shown["damaged"] = why
            else:
                try:
                    shown.update(_shown(database, path, shown["size"]), time=time.time(), trouble=None)
                except sqlite3.Error as error:
                    shown["damaged"] = str(error)
                finally:
                    database.abandon()
    shown["pid"] = folder.holder() if in_use else None
    shown["folder"] = str(folder)
    shown["set_aside"] = [str(one) for one in folder.set_aside_before()]
    shown.pop("open", None)
    for producer in shown["producers"].values():
        if not in_use:
            producer["joined"] = None
    return shown


def _shown(database: Database, path: Path, size: int | None) -> dict[str, Any]:
    now, boot = since_boot(), boot_id()

    def age(row: Row) -> float | None:
        return max(0.0, now - row.clock) if row.boot == boot else None

    with sensible():
        spool = Spool(path, size=size or Spool(path).size)
        shown = shown_of(database, spool, database.positions(), (), database.totals(), age)
    del shown["sync"], shown["size"]  # which are of who used it
    return shown


_NOTHING: Final[Mapping[str, Any]] = {
    "sync": None,
    "size": None,
    "bytes": None,
    "messages": None,
    "producers": {},
    "trouble": None,
    "time": None,
}


class _Closed(StorageError):
    """A database that may be whole does not open."""


class _Abandoned:
    """Closes a database without a change to it."""

    def __init__(self, database: Database) -> None:
        self.close = database.abandon


@dataclass
class Found:
    """What verify() found."""

    rows: int = 0
    messages: int = 0
    damaged: list[int] = field(default_factory=list)
    """Numbers of the first batches that are damaged."""
    damaged_rows: int = 0
    missing: int = 0
    """Messages that somebody waits for and that are neither there nor damaged: they are gone."""
    structure: str | None = None
    """What is wrong with the database as such; None: nothing."""

    @property
    def lost(self) -> bool:
        """Whether something is not there that was stored."""
        return bool(self.damaged_rows or self.missing)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.structure)


def verify(path: Path) -> Found:
    """
    Read all of the spool at *path*, and say whether it is what was stored there.

    Raises:
        StorageError: there is no spool, or a process uses it.
    """
    folder = _folder(path)
    with _locked(folder):
        found = Found()
        database, found.structure = _opened(folder.database)
        if database is None:
            _count_raw(folder.database, found)
            return found
        with closing(_Abandoned(database)):
            try:
                with sensible():
                    whole = database.quick_check(math.inf)
                    found.structure = None if whole else "its pages do not fit together"
                    _count(database, found)
            except sqlite3.Error as error:
                found.structure = str(error)
                found.rows = found.messages = found.missing = found.damaged_rows = 0
                found.damaged.clear()
                _count_raw(folder.database, found)
        return found


def _count(database: Database, found: Found) -> None:
    with closing(database.rows(-1)) as rows:
        for _ in _counted(rows, database.positions().values(), found):
            pass


def _counted(
    rows: Iterable[tuple[object, ...]], positions: Collection[Position], found: Found
) -> Iterator[Row]:
    """Yield the rows that are whole, and note in *found* what is not, and what one of *positions* misses."""
    expected: int | None = None
    after = 0
    for columns in rows:
        row = checked(columns)
        if row is None:
            found.damaged_rows += 1
            if len(found.damaged) < _MOST and isinstance(columns[0], int):
                found.damaged.append(columns[0])
            continue
        found.rows += 1
        found.messages += row.messages
        if row.targets is None:
            awaited = any(position.wants(after + 1) for position in positions)
            if expected is not None and row.total > expected and awaited:
                found.missing += row.total - expected
            expected = row.total + row.messages
            after = row.number
        yield row


def _count_raw(database: Path, found: Found) -> None:
    """Count what is left of a database that cannot be read. It may count one that was removed."""
    numbers = set()
    for row in _remaining(database):
        if row.number not in numbers:
            numbers.add(row.number)
            found.rows += 1
            found.messages += row.messages


def stored_in(
    path: Path, producer_id: str | None = None, found: Found | None = None
) -> Iterator[tuple[Row, StoredBatch]]:
    """
    Yield the batches in *path* in their order: a folder, or a database that was set aside.

    All that are there, or those that *producer_id* waits for. One that is damaged is left out; *found* is
    what is wrong, once all are yielded.

    Raises:
        StorageError: there is no spool, a process uses it, it knows no such producer, or nothing of a spool
            can be recognised in it.
    """
    found = Found() if found is None else found
    if path.is_dir():
        folder = _folder(path)
        with _locked(folder):
            yield from _batches(folder.database, producer_id, found)
    else:
        yield from _batches(_file(path), producer_id, found)


def _batches(path: Path, producer_id: str | None, found: Found) -> Iterator[tuple[Row, StoredBatch]]:
    database, found.structure = _examined(path)
    if database is not None:
        with closing(_Abandoned(database)):
            yield from _batches_of(database, producer_id, found)
        return
    # Rows in the order of pages are in no order; a new database has them in theirs, in little memory.
    with tempfile.TemporaryDirectory(prefix="producer-pool-") as scratch:
        rescued = Database(Path(scratch) / "spool.db", math.inf)
        with closing(rescued):
            fill(rescued, _remaining(path), _positions_in(path))
            yield from _batches_of(rescued, producer_id, found)


def _examined(path: Path) -> tuple[Database | None, str | None]:
    """
    Return the database at *path* if its pages fit together, or else what is wrong with it.

    Raises:
        StorageError: it is damaged, and not one batch can be read of it; or it is no spool at all.
    """
    try:
        database, why = _opened(path)
    except _Closed as error:
        database, why = None, str(error)
    if database is not None:
        try:
            with sensible():
                if database.quick_check(math.inf):
                    return database, None
            why = "its pages do not fit together"
        except sqlite3.Error as error:
            why = str(error)
        database.abandon()
    if not _has_rows(path):
        raise StorageError(f"{path} is no spool, or is damaged: {why}; not one batch can be recognised in it")
    return None, why


def _batches_of(
    database: Database, producer_id: str | None, found: Found
) -> Iterator[tuple[Row, StoredBatch]]:
    positions = database.positions()
    position = None
    if producer_id is not None:
        position = positions.get(producer_id)
        if position is None:
            known = ", ".join(sorted(positions)) or "none"
            raise StorageError(f"nothing is kept there for {producer_id!r}; known: {known}")
    waiting = positions.values() if position is None else [position]
    with closing(database.rows(0, producer_id)) as rows:
        for row in _counted(rows, waiting, found):
            for batch in stored(row, 0, 0.0):
                if position is None or position.wants(batch.number):
                    yield row, batch


def salvage(source: Path, destination: Path) -> Found:
    """
    Read what can be read of *source*, a folder or a database set aside, into a new spool at *destination*.

    Return what is in that one, and what was wrong with *source*.

    Raises:
        StorageError: *source* is in use or none, nothing of a spool can be recognised in it, or
            *destination* has something in it. Nothing is made then.
        sqlite3.Error, OSError: *destination* cannot be written.
    """
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise StorageError(f"{destination} is not empty; name a folder that can be made")
    if source.is_dir():
        folder = _folder(source)
        with _locked(folder):
            return _salvage(folder.database, Folder(destination))
    return _salvage(_file(source), Folder(destination))


def _salvage(path: Path, target: Folder) -> Found:
    found = Found()
    database, found.structure = _examined(path)
    if database is not None:
        with closing(_Abandoned(database)):
            _count(database, found)
    target.make()
    target.lock()
    try:
        database = Database(target.clear_new(), math.inf)
        try:
            fill(database, _remaining(path), _positions_in(path))
            if found.structure is not None:
                _count(database, found)
            found.rows, found.messages = database.count(), database.messages()
            database.close()
        except BaseException:
            database.abandon()
            raise
        target.install()
        return found
    finally:
        target.unlock()


def forget(path: Path, producer_id: str, agreed: Callable[[int], bool] = lambda messages: True) -> int | None:
    """
    Drop what is kept at *path* for *producer_id*, and return how many messages that were.

    *agreed* is asked first, with their number, while nobody else can use the spool. If it says no, nothing
    is dropped, and None returned.

    Raises:
        StorageError: there is no spool, a process uses it, or it knows no such producer.
    """
    folder = _folder(path)
    with _locked(folder):
        keeper = Keeper(folder, Spool(path))
        try:
            if producer_id not in keeper.positions:
                known = ", ".join(sorted(keeper.positions)) or "none"
                raise StorageError(f"nothing is kept in {path} for {producer_id!r}; known: {known}")
            messages = keeper.backlog(producer_id).messages
            if not agreed(messages):
                return None
            keeper.leave(producer_id)
            keeper.move_on()
            if keeper.trouble is not None:
                raise StorageError(keeper.trouble)
            return messages
        finally:
            keeper.close()


# -- files ---------------------------------------------------------------------------------------------


def _folder(path: Path) -> Folder:
    folder = Folder(path)
    if not (folder.database.exists() or folder.state.exists()):
        raise StorageError(f"{path} holds no spool; name the folder that spool= names")
    return folder


def _file(path: Path) -> Path:
    if not path.is_file():
        raise StorageError(f"{path} is neither a folder of a spool nor a database that was set aside")
    return path


@contextmanager
def _locked(folder: Folder) -> Iterator[None]:
    folder.lock()
    try:
        yield
    finally:
        folder.unlock()


def _has_rows(database: Path) -> bool:
    """Return whether a batch can be recognised in it, whatever state it is in."""
    with closing(_remaining(database)) as rows:
        return next(rows, None) is not None


def _remaining(database: Path) -> Generator[Row, None, None]:
    """Yield all rows that can be read of it, and of its payloads, whatever state it is in."""
    return remaining_rows(database, _log_of(database), read_state(database.parent / STATE).identity)


def _log_of(database: Path) -> Path:
    return Path(f"{database}-wal")


def _opened(path: Path) -> tuple[Database | None, str | None]:
    """
    Return the database at *path*, if it can be opened without a change to it, or how it is damaged.

    Raises:
        _Closed: it cannot be opened as things are, such as for its rights, which says nothing of it.
        StorageError: it is another program's.
    """
    if is_alien(path) and not _has_rows(path):
        raise StorageError(f"{path} is a database of another program; name the folder that spool= names")
    if not path.is_file() or path.stat().st_size < PAGE:
        return None, "the database is missing or empty"
    if gone := lost_commits(_log_of(path)):
        return None, f"its log is damaged in front of {gone} transactions"
    database = None
    try:
        database = Database(path, math.inf, new=False)
        database.positions()
    except sqlite3.Error as error:
        if database is not None:
            database.abandon()
        if fault_of(error) is Fault.UNUSABLE:
            raise _Closed(
                f"{path} cannot be opened: {error}; see its rights and its folder's, and who else uses it"
            ) from error
        return None, str(error)
    return database, None


def _readable(path: Path) -> Database | None:
    """Return the database at *path*, if it can be opened; else its pages can still be read as they are."""
    try:
        return _opened(path)[0]
    except _Closed:
        return None


def _positions_in(path: Path) -> dict[str, Position]:
    database = _readable(path)
    if database is None:
        return {} if path.name != "spool.db" else read_state(path.parent / STATE).positions
    with closing(_Abandoned(database)):
        return database.positions()
