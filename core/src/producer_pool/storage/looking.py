"""Whether a folder could be used, found out by looking alone."""
# Rule: nothing here makes, changes or keeps locked anything: somebody may be using it, or never use it.

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from producer_pool.model.errors import StorageError
from producer_pool.storage.dead_letters import FILE
from producer_pool.storage.faults import sensible
from producer_pool.storage.folder import Folder
from producer_pool.storage.schema import APPLICATION, refuse_others

__all__ = ["look_at_letters", "look_at_spool"]


def look_at_spool(path: str | os.PathLike[str]) -> int | None:
    """
    Return the process that uses the spool at *path*, 0 if it cannot be told which; None: nobody does.

    Raises:
        StorageError: who starts with it would be refused.
    """
    folder = Folder(path)
    _look_at_folder(folder.path)
    for file in folder.files:
        _look_at_file(file)
    if folder.in_use:
        return folder.holder() or 0
    _look_at_version(folder.database)
    return None


def look_at_letters(path: str | os.PathLike[str]) -> None:
    """
    Return if *path* can be a folder of dead letters, which several processes may use.

    Raises:
        StorageError: who starts with it would be refused.
    """
    folder = Path(path).absolute()
    _look_at_folder(folder)
    _look_at_file(folder / FILE)


def _look_at_folder(folder: Path) -> None:
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        if place == folder:
            raise StorageError(f"{folder} is no folder; name one that is, or one that can be made")
        raise StorageError(f"{folder} cannot be made: {place} is no folder; name one that can")
    if not os.access(place, os.W_OK | os.X_OK):
        if place == folder:
            raise StorageError(f"{folder} cannot be written; see its rights, or name another folder")
        raise StorageError(f"{folder} cannot be made: {place} cannot be written; name one that can")


def _look_at_file(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path} is no file; remove it, or name another folder")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(f"{path} cannot be written; see its rights, or name another folder")


def _look_at_version(path: Path) -> None:
    """Refuse a database of a newer version; one that is damaged is read out, and no reason to refuse it."""
    if not path.exists():
        return
    try:
        # immutable: without it, SQLite makes files beside it.
        place = f"file:{quote(str(path))}?immutable=1"
        with closing(sqlite3.connect(place, uri=True)) as connection, sensible():
            mark, version = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
            row = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    except sqlite3.Error:
        return
    if mark == APPLICATION and row is not None:
        refuse_others(path, version, row[0])
