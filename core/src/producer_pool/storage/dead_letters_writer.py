"""Writes dead letters on a thread of its own: whoever gives messages up waits for no disk."""
# Rule: at most `room` bytes wait, whatever the disk does. What does not fit is refused before it is copied.

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from producer_pool.model.errors import StorageError
from producer_pool.model.framing import LENGTH4
from producer_pool.model.given_up import GivenUp
from producer_pool.model.loglimit import LogLimit, and_more
from producer_pool.model.policies import BATCH_OVERHEAD
from producer_pool.model.text import format_count
from producer_pool.storage.dead_letters import DEFAULT_SIZE, LetterFile
from producer_pool.storage.dead_letters_values import Letter, reason_of, storable

__all__ = ["ROOM", "LetterWriter", "letter_of"]

log = logging.getLogger(__name__)

ROOM: Final = 16 * 1024 * 1024
"""Bytes that may wait to be written."""
PAUSE: Final = 0.02
"""Seconds between two commits at the least: what comes meanwhile shares one."""
AGAIN: Final = 0.5
"""Seconds until a write that failed is tried again."""
_RUN: Final = 256 * 1024
"""Bytes of messages that are put together into one letter at the most."""


@dataclass(slots=True)
class _Waiting:
    """One run of messages that waits to be written."""

    letter: Letter
    payload: bytes
    cost: int
    done: Callable[[bool], None]


class LetterWriter:
    """
    Stores the dead letters of all producers of a pool that name one folder.

    A letter is safe, from a power cut too, when `done` is called for it: some 20 ms after it was taken. A
    disk that takes nothing is tried again and again; meanwhile letters wait, as far as there is room.
    """

    def __init__(self, folder: str | os.PathLike[str], *, size: int = DEFAULT_SIZE, room: int = ROOM) -> None:
        """
        Use *folder*, which is made if need be. The thread begins with the first letter.

        Raises:
            StorageError: the folder cannot be used.
        """
        file = LetterFile(folder)
        file.make()
        self.folder = str(file.path.parent)
        self._size = size
        self._room = room
        self._portion = room
        """Bytes that are written at once at the most."""
        self._held = 0
        """Bytes that wait; the loop's own."""
        self._queue: deque[_Waiting] = deque()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone: asyncio.Event | None = None
        self._limit = LogLimit()
        self._failing = False
        self._abandoned = False
        """Whether nobody waits for the thread any more."""

    # -- on the loop -------------------------------------------------------------------------------

    def take(self, producer_id: str, role: str, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        """Have messages written; see DeadLetters.take()."""
        batch = given_up.batch
        # Their own bytes are not known before they are looked at; they are no more than these. What is larger
        # than all the room is taken when nothing else waits.
        full = self._held and self._held + batch.nbytes + BATCH_OVERHEAD > self._room
        if full or self._closing.is_set():
            return False
        loop = self._started()
        letter, messages = letter_of(producer_id, role, given_up, loop.time(), time.time())
        payload = LENGTH4.encode(messages)
        batch.compact()
        cost = len(payload) + BATCH_OVERHEAD
        self._held += cost
        self._queue.append(_Waiting(letter, payload, cost, done))
        self._news.set()
        return True

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._gone = asyncio.Event()
            # A daemon: a disk that hangs must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, name="dead-letters", daemon=True)
            self._thread.start()
        return self._loop

    def _settle(self, written: Sequence[_Waiting], safe: bool) -> None:
        if self._abandoned and safe:
            return  # They were given up meanwhile.
        for one in written:
            self._held -= one.cost
            one.done(safe)

    async def aclose(self, wait: float) -> None:
        """Write what waits, for at most *wait* seconds; what is left then is lost. May be called twice."""
        self._closing.set()
        self._news.set()
        gone = self._gone
        if gone is None:
            return
        try:
            async with asyncio.timeout(wait):
                await gone.wait()
        except TimeoutError:
            log.error("dead letters in %s: the disk does not answer", self.folder)
        self._abandoned = True
        left = list(self._queue)
        if left:
            self._queue.clear()
            messages = sum(one.letter.count for one in left)
            log.error(
                "dead letters in %s: %s lost: not written in time",
                self.folder,
                format_count(messages, "message"),
            )
            self._settle(left, False)

    # -- on the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        # Held by this frame alone: after a fork(), it is neither run nor freed in the child, where SQLite
        # would undo what the parent is in the middle of.
        file = LetterFile(self.folder, size=self._size)
        try:
            while not (self._closing.is_set() and not self._queue):
                self._news.wait()
                self._news.clear()
                if self._write_all(file):
                    self._closing.wait(PAUSE)
                elif self._closing.is_set():
                    break
                else:
                    self._closing.wait(AGAIN)
                    self._news.set()
        finally:
            file.close()
            assert self._gone is not None
            self._call(self._gone.set)

    def _write_all(self, file: LetterFile) -> bool:
        """Write what waits; say whether that went well. What could not be written goes on waiting."""
        while waiting := self._leading():
            dropped = file.dropped
            try:
                file.add(_runs(waiting))
            except (sqlite3.Error, StorageError) as error:
                if _is_full(error) and len(waiting) > 1:
                    self._portion //= 4  # There may be room for some of it.
                    continue
                self._failed(error)
                return False
            except Exception:
                # Nothing is known that gets here. Should there be something, it must not keep what follows.
                log.exception("dead letters in %s: unexpected; some are lost", self.folder)
                self._finish(waiting, False)
            else:
                self._portion = min(self._portion * 2, self._room)
                # Who is told that a letter is safe may look into the log.
                self._tell(file.dropped - dropped)
                self._finish(waiting, True)
        return True

    def _leading(self) -> list[_Waiting]:
        """Return what is written next: at least one, and at most as much as there was room for lately."""
        leading: list[_Waiting] = []
        size = 0
        for one in tuple(self._queue):
            size += one.cost
            if leading and size > self._portion:
                break
            leading.append(one)
        return leading

    def _finish(self, waiting: Sequence[_Waiting], safe: bool) -> None:
        with suppress(IndexError):  # Somebody who waited no longer has emptied it.
            for _ in waiting:
                self._queue.popleft()
        self._call(self._settle, waiting, safe)

    def _failed(self, error: Exception) -> None:
        self._failing = True
        left_out = self._limit.allow("failed", time.monotonic())
        if left_out is not None:
            messages = sum(one.letter.count for one in tuple(self._queue))
            log.error(
                "dead letters in %s cannot be written: %s; %s left to write%s",
                self.folder,
                error,
                format_count(messages, "message"),
                and_more(left_out),
            )

    def _tell(self, dropped: int) -> None:
        now = time.monotonic()
        if self._failing:
            self._failing = False
            log.info("dead letters in %s are written again", self.folder)
        if dropped and (left_out := self._limit.allow("dropped", now)) is not None:
            log.warning(
                "dead letters in %s take all the room that they may: the oldest %s gave way%s",
                self.folder,
                format_count(dropped, "message"),
                and_more(left_out),
            )

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Have the loop call back, if it is still there."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            return  # It is closed, and nobody waits any more.


def letter_of(
    producer_id: str, role: str, given_up: GivenUp, now: float, wall: float
) -> tuple[Letter, Sequence[bytes]]:
    """
    Return a letter for what was given up just now, and its messages.

    *now* is the loop's time, and *wall* that for people: what a clock on the wall does to the difference
    between two of its times concerns nobody.
    """
    messages: Sequence[bytes] = given_up.batch.messages
    if len(given_up.indexes) < len(messages):
        messages = [messages[index] for index in given_up.indexes]
    age = 0.0 if given_up.accepted is None else max(now - given_up.accepted, 0.0)
    letter = Letter(
        producer_id,
        role,
        given_up.outcome,
        *reason_of(given_up.error),
        given_up.attempts,
        storable(given_up.batch.origin),
        len(messages),
        sum(map(len, messages)),
        wall - age,
        wall,
        wall,
    )
    return letter, messages


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _runs(waiting: Sequence[_Waiting]) -> list[tuple[Letter, bytes]]:
    """Put together what one producer gave up in a row for one reason."""
    runs: list[tuple[Letter, list[bytes]]] = []
    size = 0
    for one in waiting:
        letter = one.letter
        if runs and size + len(one.payload) <= _RUN and _reason(runs[-1][0]) == _reason(letter):
            first, payloads = runs[-1]
            joined = replace(
                first,
                count=first.count + letter.count,
                nbytes=first.nbytes + letter.nbytes,
                accepted=min(first.accepted, letter.accepted),
                last=letter.last,
            )
            payloads.append(one.payload)
            runs[-1] = (joined, payloads)
            size += len(one.payload)
        else:
            runs.append((letter, [one.payload]))
            size = len(one.payload)
    return [(letter, b"".join(payloads)) for letter, payloads in runs]


def _reason(letter: Letter) -> tuple[object, ...]:
    """Return what is the same for all messages of one letter."""
    return (
        letter.producer_id,
        letter.role,
        letter.outcome,
        letter.reason,
        letter.error,
        letter.attempts,
        letter.origin,
    )
