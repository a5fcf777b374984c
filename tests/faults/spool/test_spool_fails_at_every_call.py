"""
A call to the system fails, once, while a damaged database is replaced: each single one of them in its turn.

It goes on by itself, or at the next start, and nothing is gone of what can be read or comes meanwhile.
"""

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.model.policies import Spool
from producer_pool.storage import database, payload_files, payloads, state
from producer_pool.storage import keeper as keeping
from producer_pool.storage import upkeep as module
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.payload_files import PayloadFiles
from support.apart import put_apart
from support.faults import report, times
from support.keeping import Clock, Disk, failure, put
from support.spools import copied, scribble

STEP = times(23, 1)
ROWS = 8
SIZES = (60_000, 100)
"""Of messages in turn: in files of their own, and in the database."""

# Reading is not among them: what cannot be read is lost, as if it were damaged.
NAMES = ("open", "listdir", "stat", "statvfs", "rename", "unlink", "fsync", "ftruncate", "posix_fallocate",
         "pwrite", "pwritev")  # fmt: skip
ERRORS = {"open": (errno.EMFILE, errno.ENOSPC)}
"""What may be wrong: a file that cannot be opened at all is lost, too."""


class Calls:
    """The calls to the system that this thread makes while it is watched."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.watched = False
        self.made: list[str] = []
        self.fails = 0
        """Which of them fails; 0: none."""
        self.error = 0
        self._thread = threading.get_ident()
        for name in NAMES:
            if hasattr(os, name):
                whole = (lambda fd: None) if name == "fsync" else getattr(os, name)  # No power is cut here.
                patch.setattr(os, name, self._counted(name, whole))
        for one in (database, payload_files, payloads, state):
            patch.setattr(one, "sync_data", self._counted("sync_data", lambda fd: None))

    def _counted(self, name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.watched and threading.get_ident() == self._thread:
                self.made.append(name)
                if len(self.made) == self.fails:
                    raise OSError(self.error, os.strerror(self.error))
            return whole(*arguments, **options)

        return call


class Replaced:
    """Spools whose database is replaced while one call fails."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, *, live: bool) -> None:
        put_apart(patch, file=256 * 1024, least=16 * 1024)
        self._clock = Clock()
        for one in (keeping, module, payloads):
            patch.setattr(one, "time", self._clock)
        self._patch = patch
        self._folder = folder / "spool"
        self._live = live
        self._calls = Calls(patch)
        self.cases = 0
        self.stored = 0

    def calls(self) -> list[str]:
        """Return the calls that are made if none fails."""
        assert self._lost(0, 0) == set()
        return list(self._calls.made)

    def lost(self, only: str | None = None) -> Iterator[tuple[str, set[int]]]:
        """Fail one call after the other, those named *only* or some of all, and yield what each cost."""
        for number, name in enumerate(self.calls(), 1):
            if name == only or (only is None and (name == "rename" or number % STEP == 0)):
                for error in ERRORS.get(name, (errno.EIO, errno.ENOSPC))[: times(1, 2)]:
                    self.cases += 1
                    yield f"{name} {number}, {errno.errorcode[error]}", self._lost(number, error)

    def _lost(self, fails: int, error: int) -> set[int]:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._calls.made.clear()
        self._calls.fails, self._calls.error = fails, error
        keeper = self._opened()
        stored = self._put(keeper, 1)
        if self._live:
            with self._patch.context() as patch:
                self._calls.watched = True
                Disk(patch).fails("insert", failure(sqlite3.SQLITE_CORRUPT))
                stored |= self._put(keeper, ROWS + 1)
        else:
            copy = copied(self._folder, self._folder.with_name("killed"))
            self._close(keeper)
            shutil.rmtree(self._folder)
            copy.rename(self._folder)
            scribble(self._folder / "spool.db")
            self._calls.watched = True
            try:
                keeper = self._opened()
            except (StorageError, OSError):
                keeper = self._opened()
            stored |= self._put(keeper, ROWS + 1)
        self._calls.watched = False
        assert keeper.trouble is None
        self._close(keeper)

        again = self._opened()
        found = again.read("a", 0, 1 << 30)
        assert found is not None
        numbers = [one.number for one in found[0]]
        self._close(again)
        assert numbers == sorted(set(numbers))
        self.stored += len(stored)
        return stored - set(numbers)

    def _opened(self) -> Keeper:
        folder = Folder(self._folder)
        folder.make()
        folder.lock()
        try:
            keeper = Keeper(folder, Spool(folder.path, sync=0.05))
        except BaseException:
            folder.unlock()
            raise
        keeper.join("a", 0)
        return keeper

    def _close(self, keeper: Keeper) -> None:
        keeper.close()
        keeper.folder.unlock()

    def _put(self, keeper: Keeper, first: int) -> set[int]:
        """Store messages, two seconds apart, and return which are stored."""
        stored = set()
        for number in range(first, first + ROWS):
            if put(keeper, number, SIZES[number % 2]):
                stored.add(number)
            self._clock.now += 2.0
            keeper.tick(self._clock.now)
        return stored


@pytest.mark.parametrize("live", [True, False], ids=["live", "at the start"])
def test_each_call_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    """See above."""
    replaced = Replaced(monkeypatch, tmp_path, live=live)
    lost = {place: gone for place, gone in replaced.lost() if gone}
    report(
        f"spool, each call fails while it is repaired, {'live' if live else 'at the start'}",
        cases=replaced.cases, stored=replaced.stored, lost=sum(map(len, lost.values())),
    )  # fmt: skip

    assert lost == {}
    assert replaced.cases > 10


def test_hasty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one that begins its repair anew, whatever is ready, loses what only that has."""
    monkeypatch.setattr(Folder, "is_installing", False)
    replaced = Replaced(monkeypatch, tmp_path, live=True)
    lost = sum(len(gone) for _, gone in replaced.lost("rename"))
    report("spool, each call fails while it is repaired: hasty", cases=replaced.cases, lost=lost)

    assert lost > 0


def test_one_that_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one that takes for lost what it cannot open for want of descriptors loses that."""
    whole = PayloadFiles.open

    def opened(files: PayloadFiles, segment: int) -> int:
        try:
            return whole(files, segment)
        except OSError as error:
            raise FileNotFoundError(*error.args) from error

    monkeypatch.setattr(PayloadFiles, "open", opened)
    replaced = Replaced(monkeypatch, tmp_path, live=False)
    lost = next(len(gone) for _, gone in replaced.lost("open") if gone)
    report("spool, each call fails while it is repaired: gives up", cases=replaced.cases, lost=lost)

    assert lost > 0
