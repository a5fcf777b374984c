"""Opens a spool whatever its files look like: what is damaged is set aside, and what can be read is kept."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from producer_pool.model.errors import StorageError
from producer_pool.model.text import format_count
from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.faults import Fault, fault_of, passes, sensible
from producer_pool.storage.folder import Folder
from producer_pool.storage.log import lost_commits
from producer_pool.storage.payload_files import PayloadFiles, payload_names
from producer_pool.storage.positions import NEVER, Position
from producer_pool.storage.record import Row, targets_of
from producer_pool.storage.remains import remaining_rows, rows_behind
from producer_pool.storage.segments import Place
from producer_pool.storage.sparse import drop_overwritten
from producer_pool.storage.state import State

__all__ = ["Recovered", "open_database", "replace_database", "wanted"]

_log: Final = logging.getLogger(__name__)

CHECK_SECONDS: Final = 2.0
"""How long the pages of a database may be checked when it is opened. What is damaged behind that is found
when it is read."""
_AT_ONCE: Final = 8 * 1024 * 1024


@dataclass
class Recovered:
    """An open database, and what is known of its past."""

    database: Database
    positions: dict[str, Position] = field(default_factory=dict)
    resend: bool = False
    """Whether it is not known any more who is done with what: everything is sent again."""


def open_database(folder: Folder, sync: float, state: State, *, again: bool = False) -> Recovered:
    """
    Open the database in *folder*, or make one; *again*: this process had it open.

    Raises:
        StorageError: a newer Producer Pool made it, or there is no right to it.
        sqlite3.Error, OSError: neither this one nor a new one can be used; nothing is lost by trying again.
    """
    folder.finish_installing()
    folder.remove_new()
    size, log_size = _size(folder.database), _size(folder.wal)
    # To SQLite, a file without a whole page is a new one, and a log beside it is nothing, and removed.
    if size < PAGE:
        if log_size or payload_names(folder.path):
            return replace_database(folder, sync, state, "spool.db is missing or empty")
        if state.shown.get("messages"):
            _log.error(
                "spool %s: the database is gone, and with it %s; an empty one takes its place",
                folder,
                format_count(state.shown["messages"], "message"),
            )
        recovered, aside = _new(folder, sync, state, state.positions)
        if size:
            _log.error("spool %s: spool.db is too short to be of a spool; it is kept as %s", folder, aside)
        return recovered
    if gone := lost_commits(folder.wal):
        # Before SQLite sees it: a log with a damaged head is nothing to it, and is removed.
        return replace_database(folder, sync, state, f"its log is damaged in front of {gone} transactions")
    try:
        return _opened(folder, sync, None if again else state)
    except sqlite3.Error as error:
        fault = fault_of(error)
        if fault is Fault.UNUSABLE:
            raise StorageError(
                f"{folder.database} cannot be opened: {error}; see its rights, and who else uses it",
                passing=passes(error),
            ) from error
        if fault is Fault.FULL:
            raise
        return replace_database(folder, sync, state, str(error))


def _opened(folder: Folder, sync: float, state: State | None) -> Recovered:
    database = Database(folder.database, sync, new=False)
    try:
        with sensible():
            if not database.quick_check(CHECK_SECONDS):
                raise sqlite3.DatabaseError("its pages do not fit together")
            positions = database.positions()
            database.totals()
            database.begin()
            _leave_out_overwritten(folder, database, positions)
            if state is not None:  # Else what the database does not know was refused, and is in memory.
                _take_back(folder, database, positions, state)
            database.commit()
            resend = bool(database.meta("resend"))
            if sync > 0:  # One that was killed may have left rows that are safe soon, and payloads are not.
                database.payloads.files.sync(database.payloads.uses.known())
            _empty_log(database)
    except BaseException:
        database.abandon()
        raise
    return Recovered(database, positions, resend)


def _empty_log(database: Database) -> None:
    # What an interrupted transaction left behind the end of the log must not be seen as one of its next.
    try:
        database.empty_log()
    except sqlite3.Error as error:
        if fault_of(error) is not Fault.FULL:  # On a full disk this has time.
            raise


def _leave_out_overwritten(folder: Folder, database: Database, positions: Mapping[str, Position]) -> None:
    """Take what was written over for settled: nothing is before that."""
    spans = drop_overwritten(database)
    if spans:
        for position in positions.values():
            for span in spans:
                position.skip(span)
        database.set_positions(positions)
        _log.warning(
            "spool %s: the database is of an earlier moment: %s in it had been settled",
            folder,
            format_count(len(spans), "batch", "batches"),
        )


def _take_back(folder: Folder, database: Database, positions: dict[str, Position], state: State) -> None:
    """
    Put rows into the database that only their payloads know of, and that somebody of *positions* waits for.

    Its log held them, and is damaged or gone in a way that looks like the end of it; or a kill came
    before they were in it.
    """
    payloads = database.payloads
    if state.identity != payloads.identity:
        state = State()  # It is gone, or another spool's.
    known = max(database.last(), min((one.number for one in positions.values()), default=0))
    # After a good end, what is behind that was refused, and went out from memory.
    ceiling = state.ceiling or NEVER
    found, segments = 0, set()
    merged = _merged(positions, state.positions)
    for row in rows_behind(payloads.files, payloads.identity, known):
        if row.number <= ceiling and (not merged or wanted(row, merged)):
            database.insert([row._replace(payload=b"")])
            found += row.messages
            if place := Place.unpack(row.place):
                segments.add(place.segment)
    if not found:
        return
    payloads.files.sync(segments)
    positions.update(merged)
    database.set_positions(positions)
    if not positions:
        database.set_meta("resend", 1)
    _log.warning(
        "spool %s: %s taken back that only files of payloads know of",
        folder,
        format_count(found, "message is", "messages are"),
    )


def _merged(some: Mapping[str, Position], others: Mapping[str, Position]) -> dict[str, Position]:
    """Return where producers are that are known from two moments: what was settled then still is."""
    merged = {}
    for name in {**some, **others}:
        one = some.get(name) or others[name]
        merged[name] = position = Position(one.number, one.skipped, one.until)
        if other := others.get(name):
            position.move(other.number)
            for span in other.skipped:
                position.skip(span)
    return merged


def _new(
    folder: Folder, sync: float, state: State, positions: Mapping[str, Position], *, payloads: bool = False
) -> tuple[Recovered, Path | None]:
    """
    Make an empty database, and return it, and where what was in its place is now; *payloads*: those, too.

    Who was done with what before stays known, and which payloads are its own.
    """
    database = Database(folder.clear_new(), math.inf, identity=state.identity)
    try:
        database.set_positions(positions)
        database.close()
    except BaseException:
        database.abandon()
        raise
    aside = folder.install(payloads=payloads)
    return Recovered(Database(folder.database, sync), dict(positions)), aside


def replace_database(
    folder: Folder,
    sync: float,
    state: State,
    why: str,
    *,
    positions: Mapping[str, Position] | None = None,
    old: Database | None = None,
) -> Recovered:
    """
    Set the database aside, and go on with a new one that has what can be read of it.

    *positions* are right; without them those that can be read are. *old* is the database, if it is open.

    Raises:
        sqlite3.Error, OSError: there is no new one; nothing was changed, or it can be gone on with.
    """
    _log.error("spool %s: the database is damaged: %s; what can be read is read out of it", folder, why)
    known = _positions(folder, state) if positions is None and old is None else dict(positions or {})
    try:
        # What a file has that could not be synced is not known. What can be read of it now is moved.
        distrusted = old.payloads.distrusted if old is not None else ()
        identity = state.identity or PayloadFiles(folder.database).identity()
        found = _with_reserve(folder, lambda: _salvaged(folder, known or {}, identity, distrusted))
    except (sqlite3.Error, OSError) as error:
        if fault_of(error) is not Fault.FULL:
            raise
        # Two of them do not fit on the disk. Nothing is lost: it is still there, for whoever makes room.
        if old is not None:
            old.abandon()
        recovered, aside = _new(folder, sync, state, known or {}, payloads=True)
        _log.error(
            "spool %s: there is no room to read the damaged database, which is kept as %s; "
            "what it holds can be had with producer-pool spool salvage",
            folder,
            aside,
        )
        return recovered
    if old is not None:
        old.abandon()
    aside = folder.install()
    recovered = Recovered(Database(folder.database, sync), dict(known or {}))
    if known is None:
        recovered.resend = True
        _log.error("spool %s: who had got what cannot be read: all that is left is sent again", folder)
    _log.error(
        "spool %s: %s read out of the damaged database, which is kept as %s",
        folder,
        format_count(found, "message was", "messages were"),
        aside or "files of payloads alone",
    )
    return recovered


def _positions(folder: Folder, state: State) -> dict[str, Position] | None:
    """Return who is done with what, as far as it can be read; None: it cannot."""
    if _size(folder.database) < PAGE or lost_commits(folder.wal):
        return state.positions or None  # SQLite must not see it: see above.
    try:
        database = Database(folder.database, math.inf, new=False)
    except (sqlite3.Error, OSError):
        return state.positions or None
    try:
        return database.positions() or state.positions or None
    except sqlite3.Error:
        return state.positions or None
    finally:
        database.abandon()


def _with_reserve(folder: Folder, work: Callable[[], int]) -> int:
    """Do *work*, on a full disk once more with the room that is kept in reserve."""
    try:
        return work()
    except (sqlite3.Error, OSError) as error:
        if fault_of(error) is not Fault.FULL:
            raise
        folder.use_reserve()
        return work()


def _salvaged(
    folder: Folder, positions: Mapping[str, Position], identity: bytes | None, distrusted: Collection[int]
) -> int:
    """Read what can be read into a new database, and return the messages in it."""
    database = Database(folder.clear_new(), math.inf, identity=identity)
    try:
        rows = remaining_rows(folder.database, folder.wal, database.payloads.identity)
        found = fill(database, rows, positions, stay=lambda segment: segment not in distrusted)
        database.close()
    except BaseException:
        database.abandon()
        folder.remove_new()
        raise
    return found


def fill(
    database: Database,
    rows: Iterator[Row],
    positions: Mapping[str, Position],
    stay: Callable[[int], bool] = lambda segment: False,
) -> int:
    """
    Put *rows* that anybody of *positions* waits for into *database*, and return their messages.

    *stay* says of a file of payloads whether what is in it stays there.
    """
    database.begin()
    size = 0
    for row in rows:
        if positions and not wanted(row, positions):
            continue
        place = Place.unpack(row.place)
        if place is not None:
            stays = stay(place.segment)
            row = row._replace(payload=b"") if stays else row._replace(place=None)
        database.insert([row])
        size += len(row.payload)
        if size > _AT_ONCE:
            size = 0
            database.commit()
            database.checkpoint()
            database.begin()
    database.set_positions(positions)
    if not positions:
        database.set_meta("resend", 1)
    database.commit()
    return database.messages()


def wanted(row: Row, positions: Mapping[str, Position]) -> bool:
    """Return whether one of *positions* waits for a batch in *row*."""
    names = positions if row.targets is None else targets_of(row.targets) & positions.keys()
    return any(positions[name].wants(row.number) for name in names)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
