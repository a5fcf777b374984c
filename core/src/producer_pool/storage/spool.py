"""The durable spool, as the loop sees it: nothing here waits for a disk, a thread of its own does."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ForkedPool, StorageError
from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch, stored_size
from producer_pool.storage.faults import passes
from producer_pool.storage.folder import Folder
from producer_pool.storage.record import Pending, targets_text
from producer_pool.storage.writer import Append, Close, Join, Leave, Moves, Read, Skip, Writer

__all__ = ["SpoolStore"]

_log: Final = logging.getLogger(__name__)

CROWDED: Final = 16 * 1024 * 1024
"""Bytes that may wait to be written. Beyond it sources should wait, until it is half of that."""
_MOVES: Final = 0.05
"""Seconds until it is written where producers are."""
_RIDE: Final = 0.01
"""Seconds after which it goes along with what is stored. The sooner it does, the less is kept for nothing."""


def _nothing() -> None:
    pass


class SpoolStore:
    """
    Keeps batches in a folder until each producer that they are for is done with them.

    Call open(), which waits for the disk, then start() on a loop. All else is a Store as the engine
    wants it. Numbers are given when append() is called, so what was appended before join() is not for
    who joins.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool: Final = spool
        self._folder: Final = Folder(spool.path)
        self._writer: Final = Writer(self._folder, spool)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = _nothing
        self._number = 0
        self._found: dict[str, Backlog] = {}
        self._everything: Backlog | None = None
        self._joined: set[str] = set()
        self._waiting = 0
        self._crowded = False
        self._moves: dict[str, int] = {}
        self._moving: asyncio.TimerHandle | None = None
        self._moved = 0.0
        """When it was handed over last."""
        self._forked = False
        self._opened = False
        self._closed = False

    def open(self) -> None:
        """
        Lock the folder, and read what is known of producers. It waits for the disk; call it before any loop.

        Raises:
            StorageError: it cannot be used: no right, no folder, another process has it, or a newer
                version made it. The text says what to do.
        """
        self._folder.make()
        self._folder.lock()
        try:
            found = self._writer.open()
        except BaseException as error:
            self._folder.unlock()
            if isinstance(error, OSError | sqlite3.Error) and not isinstance(error, StorageError):
                raise StorageError(
                    f"{self._folder} cannot be used: {error}; see its rights and the disk",
                    passing=passes(error),
                ) from error
            raise
        self._number = found.last
        self._found = found.backlogs
        self._everything = found.everything
        self._opened = True
        _OPEN.add(self)

    def start(self, changed: Callable[[], None], lost: Callable[[str, int, int, str], None]) -> None:
        """See Store."""
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        why = f"damaged or gone from the spool {self._folder}; see the log"
        self._writer.changed = changed
        self._writer.lost = lambda producer_id, messages, nbytes: lost(producer_id, messages, nbytes, why)
        self._writer.send = self._send
        if self.trouble is not None:
            self._soon(changed)

    # -- what is the matter ------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """See Store."""
        return str(self._folder)

    @property
    def trouble(self) -> str | None:
        """See Store."""
        return self._writer.trouble

    @property
    def crowded(self) -> bool:
        """See Store."""
        return self._crowded

    @property
    def excess(self) -> int:
        """See Store."""
        return self._writer.excess

    # -- producers ---------------------------------------------------------------------------------

    def join(self, producer_id: str) -> Backlog:
        """See Store."""
        self._check()
        backlog = (
            self._found.get(producer_id) or self._everything or Backlog(self._number, self._number, 0, 0)
        )
        self._joined.add(producer_id)
        self._writer.put(Join(producer_id, self._number))
        return backlog

    def strangers(self) -> Mapping[str, Backlog]:
        """See Store."""
        found = self._found.items()
        return {name: backlog for name, backlog in found if backlog.messages and name not in self._joined}

    def leave(self, producer_id: str) -> None:
        """See Store."""
        self._check()
        self._joined.discard(producer_id)
        self._found.pop(producer_id, None)
        self._moves.pop(producer_id, None)
        self._writer.put(Leave(producer_id))

    def move(self, producer_id: str, number: int) -> None:
        """See Store."""
        self._moves[producer_id] = number
        if self._moving is None and self._loop is not None:
            self._moving = self._loop.call_later(_MOVES, self._hand_over_moves)

    def _hand_over_moves(self, *, keep_timer: bool = False) -> None:
        if not keep_timer:
            self._moving = None
        self._moved = time.monotonic()
        moves, self._moves = self._moves, {}
        if moves and not self._forked:
            self._writer.put(Moves(moves))

    # -- batches -----------------------------------------------------------------------------------

    def append(self, batch: Batch, targets: Sequence[str] | None, done: Callable[[int | None], None]) -> None:
        """See Store."""
        self._check()
        now = time.monotonic()
        if self._moves and now - self._moved >= _RIDE:
            self._hand_over_moves(keep_timer=True)
        self._number += 1
        nbytes = stored_size(batch)
        pending = Pending(
            self._number,
            batch.form,
            len(batch),
            nbytes,
            None if targets is None else targets_text(tuple(targets)),
            batch.origin,
            batch.received or now,
        )
        self._waiting += nbytes
        if self._waiting > CROWDED and not self._crowded:
            self._crowded = True
            self._soon(self._changed)

        def stored(number: int | None) -> None:
            self._waiting -= nbytes
            if self._crowded and self._waiting <= CROWDED // 2:
                self._crowded = False
                self._soon(self._changed)
            done(number)

        self._writer.put(Append(pending, stored))

    def read(
        self, producer_id: str, after: int, most: int, done: Callable[[Sequence[StoredBatch], int], None]
    ) -> None:
        """See Store."""
        self._check()
        self._writer.put(Read(producer_id, after, most, done))

    def skip_oldest(
        self, producer_id: str, after: int, nbytes: int, done: Callable[[int, int, int], None]
    ) -> None:
        """See Store."""
        self._check()
        self._writer.put(Skip(producer_id, after, nbytes, done))

    def skip_expired(self, producer_id: str, after: int, done: Callable[[int, int, int], None]) -> None:
        """See Store."""
        self._check()
        self._writer.put(Skip(producer_id, after, None, done))

    # -- the end -----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """
        See Store. It may be called twice.

        If cancelled, because the disk takes too long, the rest is done in the background, or is lost with
        the process: then what was settled lately is sent again after the next start.
        """
        if not self._begin_to_close():
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._writer.send = self._send

        def done() -> None:
            if not ended.done():
                ended.set_result(None)

        self._writer.put(Close(done))
        await ended

    def close(self) -> None:
        """Do as aclose() does, without a loop."""
        if self._begin_to_close():
            self._writer.put(Close(_nothing))
            self._writer.thread.join()

    def _begin_to_close(self) -> bool:
        if self._closed or self._forked or not self._opened:
            return False
        self._closed = True
        if self._moving is not None:
            self._moving.cancel()
        self._hand_over_moves()
        return True

    def _check(self) -> None:
        if self._forked:
            raise ForkedPool

    def _forget(self) -> None:
        """In a forked child: the thread is not there, and the lock is the parent's."""
        self._forked = True
        self._folder.forget_lock()

    # -- from the thread ---------------------------------------------------------------------------

    def _send(self, calls: list[Callable[[], None]]) -> None:
        """Have *calls* made on the loop; called on the thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed: nobody waits for them.
                self._loop.call_soon_threadsafe(_call, calls)

    def _soon(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon(call)


def _call(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:
            _log.exception("spool: what it has to say was not listened to")


_OPEN: Final[weakref.WeakSet[SpoolStore]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_OPEN):
        store._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
