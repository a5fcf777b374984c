"""Spools under test: on a loop, with what they said; and what is asked of their files."""

import asyncio
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from producer_pool.model.batch import Batch
from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch
from producer_pool.storage.inspecting import stored_in
from producer_pool.storage.spool import SpoolStore
from support.waiting import BOUND

__all__ = ["Desk", "copied", "digest", "flip", "messages_in", "messages_of", "numbers_in", "scribble"]

T = TypeVar("T")


class Desk:
    """An open spool, and all that it said."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = settings
        self.store = SpoolStore(Spool(folder, **settings))
        self.numbers: list[int | None] = []
        """What append() was answered, in that order."""
        self.lost: list[tuple[str, int, int]] = []
        self.changes = 0

    async def __aenter__(self) -> "Desk":
        self.store.open()
        self.store.start(self._changed, self._lost)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with asyncio.timeout(BOUND):
            await self.store.aclose()

    def _changed(self) -> None:
        self.changes += 1

    def _lost(self, producer_id: str, messages: int, nbytes: int, why: str) -> None:
        assert "damaged or gone" in why
        self.lost.append((producer_id, messages, nbytes))

    def join(self, *producer_ids: str) -> list[Backlog]:
        """Join these."""
        return [self.store.join(producer_id) for producer_id in producer_ids]

    def append(self, batch: Batch, targets: Sequence[str] | None = None) -> asyncio.Future[int | None]:
        """Append *batch*, and return what will have its number."""
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

        def done(number: int | None) -> None:
            self.numbers.append(number)
            if not answer.done():
                answer.set_result(number)

        self.store.append(batch, targets, done)
        return answer

    async def stored(self, *messages: bytes, targets: Sequence[str] | None = None) -> int | None:
        """Store a batch of *messages*, and return its number when it is; None: it could not be."""
        return await _bounded(self.append(Batch.of(messages), targets))

    async def read(
        self, producer_id: str, after: int = 0, most: int = 1 << 30
    ) -> tuple[Sequence[StoredBatch], int]:
        """Read once."""
        answer: asyncio.Future[tuple[Sequence[StoredBatch], int]] = asyncio.get_running_loop().create_future()
        self.store.read(producer_id, after, most, lambda *found: answer.set_result(found))
        return await _bounded(answer)

    async def messages(self, producer_id: str, after: int = 0) -> list[bytes]:
        """Return all messages for *producer_id* behind *after*."""
        return messages_of((await self.read(producer_id, after))[0])

    async def skip(self, producer_id: str, after: int, nbytes: int | None) -> tuple[int, int, int]:
        """Drop the oldest *nbytes*, or what is too old."""
        answer: asyncio.Future[tuple[int, int, int]] = asyncio.get_running_loop().create_future()

        def done(*dropped: int) -> None:
            upto, messages, size = dropped
            answer.set_result((upto, messages, size))

        if nbytes is None:
            self.store.skip_expired(producer_id, after, done)
        else:
            self.store.skip_oldest(producer_id, after, nbytes, done)
        return await _bounded(answer)


async def _bounded(answer: asyncio.Future[T]) -> T:
    async with asyncio.timeout(BOUND):
        return await answer


def messages_of(batches: Sequence[StoredBatch]) -> list[bytes]:
    """Return the messages of *batches*, one behind the other."""
    return [message for stored in batches for message in stored.batch]


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Change a byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def scribble(path: Path, size: int = 100) -> None:
    """Overwrite the beginning of a file."""
    with path.open("r+b") as file:
        file.write(os.urandom(size))


def numbers_in(folder: Path) -> list[int]:
    """Return the numbers of the rows in a spool that is closed."""
    connection = sqlite3.connect(folder / "spool.db")
    try:
        return [row[0] for row in connection.execute("SELECT number FROM batch ORDER BY number")]
    finally:
        connection.close()


def copied(source: Path, target: Path) -> Path:
    """Copy a spool, without the room that it keeps in reserve, and return where it is."""
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns("reserve"), dirs_exist_ok=True)


def digest(folder: Path) -> dict[str, str]:
    """Return what is in all files of a spool but the one that says who has the lock."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "lock"
    }


def messages_in(folder: Path, producer_id: str | None = None) -> list[bytes]:
    """Return the messages in a spool that nobody uses; those for one producer, or all."""
    return [message for _, stored in stored_in(folder, producer_id) for message in stored.batch]
