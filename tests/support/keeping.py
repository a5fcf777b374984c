"""A keeper of a spool, in the hands of tests: its time, its disk, and what they ask of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.stored import StoredBatch, stored_size
from producer_pool.storage.database import Database
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.record import Pending, targets_text


def failure(code: int, text: str = "it failed") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class Clock:
    """The time, which passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9


class Disk:
    """Makes one method of the database fail, so many times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def fails(self, method: str, error: Exception, times: int = 1) -> None:
        left = times
        whole: Callable[..., object] = getattr(Database, method)

        def failing(database: Database, *arguments: object) -> object:
            nonlocal left
            if left > 0:
                left -= 1
                raise error
            return whole(database, *arguments)

        self._patch.setattr(Database, method, failing)


def put(keeper: Keeper, number: int, size: int = 10, targets: tuple[str, ...] = ()) -> bool:
    batch = Batch.of([b"%06d" % number * (size // 6 + 1)])
    text = targets_text(targets) if targets else None
    return keeper.store([Pending(number, batch.form, 1, stored_size(batch), text, "", 0.0)])


def put_batches(keeper: Keeper, first: int, wanted: list[int]) -> bool:
    """Store batches of one message each, of the sizes *wanted*, in one go."""
    waiting = []
    for number, size in enumerate(wanted, first):
        batch = Batch.of([b"%06d" % number * (size // 6 + 1)])
        waiting.append(Pending(number, batch.form, 1, stored_size(batch), None, "", 0.0))
    return keeper.store(waiting)


def numbers(keeper: Keeper, after: int = 0) -> list[int]:
    found = keeper.read("a", after, 1 << 30)
    assert found is not None
    batches: list[StoredBatch] = found[0]
    assert not found[2].messages
    return [one.number for one in batches]


def aside(keeper: Keeper) -> list[str]:
    return [path.name for path in keeper.folder.set_aside_before()]


def raiser(error: Exception) -> Callable[..., object]:
    def function(*arguments: object, **options: object) -> object:
        raise error

    return function
