"""What callers append to and the pool's loop swaps out; and the receipts that they get."""
# Rule: the lock is held for a few lines that neither wait nor call out. It is re-entrant, because a signal
# handler or a __del__ may submit while the same thread is inside: such a message gets a page of its own.

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.delivery.page import Page
from producer_pool.model.errors import ForkedPool, Full, WrongThread
from producer_pool.model.outcomes import Results
from producer_pool.model.policies import BATCH_OVERHEAD

__all__ = ["AsyncReceipt", "OpenPage", "Receipt", "SubmitLog", "wait_for_page"]

PAGE_BYTES: Final = 256 * 1024
"""Bytes of messages after which a page is closed and the next one opened."""

LOG_BYTES: Final = 8 * 1024 * 1024
"""Bytes that may lie in the log. Beyond it, submit() waits for the pool's own loop, never for a consumer."""


class OpenPage(Page):
    """A page that messages are still appended to."""

    __slots__ = ("messages", "nbytes")

    def __init__(self, targets: Sequence[str]) -> None:
        super().__init__(None, targets, tracked=True)
        self.messages: list[bytes] = []
        self.nbytes = BATCH_OVERHEAD


class SubmitLog:
    """
    Pages of messages and calls, in the order in which they were made, by any thread.

    Appending costs one lock and wakes the loop at most once until the loop comes for the lot. That
    adding and removing producers are entries of the same log makes their order exact.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.owner: int | None = None
        """The thread that swaps; it may not wait for itself."""
        self.blocked: frozenset[str] = frozenset()
        """Producers whose source has to wait; set by the pool, looked at by whoever submits."""
        self._wake = wake
        self._lock = threading.RLock()
        self._room = threading.Condition()
        self._inside = False
        self._entries: list[OpenPage | Callable[[], None]] = []
        self._page: OpenPage | None = None
        self._nbytes = 0
        self._awake = False
        self._refusal: Exception | None = None
        _LOGS.add(self)

    # -- appending ---------------------------------------------------------------------------------

    def append(self, targets: Sequence[str], message: bytes) -> tuple[OpenPage, int]:
        """
        Append *message* and return where it stands. Never waits: see wait_for_room().

        Raises:
            PoolClosed: the pool takes nothing any more.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            if self._inside:
                page, index = OpenPage(targets), 0
                page.messages.append(message)
                self._entries.append(page)
            else:
                self._inside = True
                try:
                    current = self._page
                    if current is None or current.targets is not targets or current.nbytes >= PAGE_BYTES:
                        current = self._page = OpenPage(targets)
                        self._entries.append(current)
                    page = current
                    index = len(page.messages)
                    page.messages.append(message)
                    page.nbytes += len(message)
                    self._nbytes += len(message)
                finally:
                    self._inside = False
            if self._awake:
                return page, index
            self._awake = True
        self._wake()
        return page, index

    def call(self, entry: Callable[[], None]) -> None:
        """
        Append a call, which the loop makes in its turn.

        Raises:
            PoolClosed: the pool takes nothing any more.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            self._entries.append(entry)
            self._page = None
            if self._awake:
                return
            self._awake = True
        self._wake()

    @property
    def crowded(self) -> bool:
        """Whether so much lies in the log that whoever appends should wait for the loop."""
        return self._nbytes > LOG_BYTES

    def stuck(self, targets: Sequence[str]) -> bool:
        """Whether one of *targets* has its source wait."""
        return bool(self.blocked) and not self.blocked.isdisjoint(targets)

    def wait_for_room(self, targets: Sequence[str], deadline: float) -> None:
        """
        Wait until there is room for one message more to *targets*; at most *deadline* seconds.

        Raises:
            Full: there was none in time; nothing was accepted by anyone.
            WrongThread: this is the thread that makes the room.
        """
        if threading.get_ident() == self.owner:
            if self.crowded and not self.stuck(targets):
                return  # It will come to it as soon as this call is over.
            raise WrongThread("submit() would wait on the pool's own thread; use submit_nowait()")
        give_up = time.monotonic() + deadline
        with self._room:
            while self._refusal is None and (self.crowded or self.stuck(targets)):
                left = give_up - time.monotonic()
                if left <= 0:
                    names = ", ".join(sorted(self.blocked.intersection(targets))) or "the pool"
                    raise Full(
                        f"{names}: no room within {deadline:g} s (overflow=block); nothing was accepted"
                    )
                self._room.wait(left)

    def close(self, refusal: Exception) -> None:
        """Take nothing any more; append() and call() raise *refusal* from now on."""
        with self._lock:
            self._refusal = refusal
        self.notify()

    def closed_by_fork(self) -> None:
        """Be dead in a forked child: touch no lock that the parent's threads may have held."""
        self._lock = threading.RLock()
        self._room = threading.Condition()
        self._refusal = ForkedPool()
        self._awake = True

    @property
    def refusal(self) -> Exception | None:
        """Why nothing is taken any more, if so."""
        return self._refusal

    # -- the loop's side ---------------------------------------------------------------------------

    def swap(self) -> list[OpenPage | Callable[[], None]]:
        """Return all that was appended since the last time."""
        with self._lock:
            entries, self._entries = self._entries, []
            self._page = None
            crowded = self.crowded
            self._nbytes = 0
            self._awake = False
        if crowded:
            self.notify()
        return entries

    def notify(self) -> None:
        """Have those who wait for room look again."""
        with self._room:
            self._room.notify_all()

    def check_may_wait(self) -> None:
        """
        Raise if waiting here could never end.

        Raises:
            WrongThread: this is the pool's own thread.
            ForkedPool: the pool lives in the parent process.
        """
        if isinstance(self._refusal, ForkedPool):
            raise self._refusal
        if threading.get_ident() == self.owner:
            raise WrongThread("this call would wait for the thread that it runs on; use submit() here")


class Receipt:
    """Handle on one submitted message: ask it what became of the message, now or later, from any thread."""

    __slots__ = ("_index", "_log", "_page")

    def __init__(self, log: SubmitLog, page: Page, index: int) -> None:
        self._log = log
        self._page = page
        self._index = index

    @property
    def done(self) -> bool:
        """Whether the message has a terminal outcome at each of its producers."""
        return self._page.done(self._index)

    @property
    def stored(self) -> bool | None:
        """Whether the message is in durable storage; None: this pool has none."""
        return None

    def results(self, wait: float | None = None) -> Results:
        """
        Return what became of the message at each producer it was meant for.

        Waits until all outcomes are terminal, but at most *wait* seconds (None: as long as it takes,
        which the producers' deadlines bound; 0: not at all). What is not settled by then is PENDING,
        and goes on.

        Raises:
            WrongThread: it would wait on the pool's own thread.
        """
        page, index = self._page, self._index
        if wait != 0 and not page.done(index):
            self._log.check_may_wait()
            woken = threading.Lock()
            woken.acquire()
            withdraw = page.when_done(index, woken.release)
            try:
                woken.acquire(timeout=-1 if wait is None else wait)
            finally:
                withdraw()
        return page.results(index)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._page.results(self._index)!r}>"


class AsyncReceipt:
    """Handle on one submitted message, for asyncio: as Receipt, but results() is awaited."""

    __slots__ = ("_index", "_page")

    def __init__(self, page: Page, index: int) -> None:
        self._page = page
        self._index = index

    @property
    def done(self) -> bool:
        """Whether the message has a terminal outcome at each of its producers."""
        return self._page.done(self._index)

    @property
    def stored(self) -> bool | None:
        """Whether the message is in durable storage; None: this pool has none."""
        return None

    async def results(self, wait: float | None = None) -> Results:
        """
        Return what became of the message at each producer it was meant for.

        Waits until all outcomes are terminal, but at most *wait* seconds (None: as long as it takes,
        which the producers' deadlines bound; 0: not at all). What is not settled by then is PENDING,
        and goes on.
        """
        page, index = self._page, self._index
        if wait != 0 and not page.done(index):
            await wait_for_page(page, index, wait)
        return page.results(index)

    def __repr__(self) -> str:
        return f"<AsyncReceipt {self._page.results(self._index)!r}>"


async def wait_for_page(page: Page, index: int | None, wait: float | None) -> None:
    """Wait on the pool's loop until done(index), at most *wait* seconds."""
    woken = asyncio.Event()
    withdraw = page.when_done(index, woken.set)
    try:
        async with asyncio.timeout(wait):
            await woken.wait()
    except TimeoutError:
        pass
    finally:
        withdraw()


_LOGS: Final[weakref.WeakSet[SubmitLog]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_LOGS):
        log.closed_by_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
