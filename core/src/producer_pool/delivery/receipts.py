"""Receipts: handles on what was submitted, for threads, for asyncio, and for listeners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self

from producer_pool.delivery.page import STORED, Page
from producer_pool.model.amounts import check_seconds
from producer_pool.model.errors import UsageError
from producer_pool.model.outcomes import Results

if TYPE_CHECKING:
    from producer_pool.delivery.submitlog import OpenPage

__all__ = ["AsyncReceipt", "BatchReceipt", "Handle", "Receipt"]


class Handle:
    """What the receipts of one message share: where it stands. The log makes them: see made()."""

    __slots__ = ("_index", "_page")

    _page: OpenPage
    _index: int

    @classmethod
    def made(cls, page: OpenPage, index: int) -> Self:
        """Make the receipt of one message of *page*."""
        # There is no __init__: the log does the same in place, which takes two thirds of the time.
        receipt = cls()
        receipt._page = page
        receipt._index = index
        return receipt

    @property
    def done(self) -> bool:
        """Whether the message has a terminal outcome at each of its producers, shadows aside."""
        return self._page.done(self._index)

    @property
    def stored(self) -> bool | None:
        """Whether the message is in durable storage by now; None: this pool has none."""
        return self._page.stored

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._page.results(self._index)!r}>"


class Receipt(Handle):
    """Handle on one submitted message: ask it what became of the message, now or later, from any thread."""

    __slots__ = ()

    def results(self, wait: float | None = None) -> Results:
        """
        Return what became of the message at each producer it was meant for.

        Waits until all outcomes are terminal, but at most *wait* seconds (None: as long as it takes,
        which the producers' deadlines bound; 0: not at all). What is not settled by then is PENDING,
        and goes on. Shadows are waited for only by a message that is for nobody else.

        Raises:
            WrongThread: it would wait on the pool's own thread.
            UsageError: *wait* is no number of seconds.
        """
        page, index = self._page, self._index
        _wait_for(page, index, wait)
        return page.results(index)

    def wait_stored(self, wait: float | None = None) -> bool | None:
        """
        Wait until it is known whether the message is in durable storage, and return whether it is.

        Waits at most *wait* seconds (None: as long as the disk takes; 0: not at all). False: it is not, or
        not yet; what could not be stored, as on a full disk, goes out all the same. None: the pool has no
        spool.

        Raises:
            WrongThread: it would wait on the pool's own thread.
            UsageError: *wait* is no number of seconds.
        """
        _wait_for(self._page, STORED, wait)
        return self._page.stored


def _wait_for(page: OpenPage, index: int, wait: float | None) -> None:
    """Wait until done(index), at most *wait* seconds."""
    if wait is not None:
        check_seconds("wait", wait)
    if wait == 0 or page.done(index):
        return
    page.log.check_may_wait()
    woken = threading.Lock()
    woken.acquire()
    withdraw = page.when_done(index, woken.release)
    try:
        # A time that is over already is no time; to a lock, -1 is for ever, and others are errors.
        woken.acquire(timeout=-1 if wait is None else min(max(wait, 0.0), threading.TIMEOUT_MAX))
    finally:
        withdraw()


class AsyncReceipt(Handle):
    """Handle on one submitted message, for asyncio: as Receipt, but results() is awaited."""

    __slots__ = ()

    async def results(self, wait: float | None = None) -> Results:
        """
        Return what became of the message at each producer it was meant for.

        Waits until all outcomes are terminal, but at most *wait* seconds (None: as long as it takes,
        which the producers' deadlines bound; 0: not at all). What is not settled by then is PENDING,
        and goes on. Shadows are waited for only by a message that is for nobody else.
        """
        page, index = self._page, self._index
        await _await(page, index, wait)
        return page.results(index)

    async def wait_stored(self, wait: float | None = None) -> bool | None:
        """
        Wait until it is known whether the message is in durable storage, and return whether it is.

        Waits at most *wait* seconds (None: as long as the disk takes; 0: not at all). False: it is not, or
        not yet; what could not be stored, as on a full disk, goes out all the same. None: the pool has no
        spool.
        """
        await _await(self._page, STORED, wait)
        return self._page.stored


async def _await(page: OpenPage, index: int, wait: float | None) -> None:
    """Wait on the pool's loop until done(index), at most *wait* seconds."""
    if wait is not None:
        check_seconds("wait", wait)
    if wait == 0 or page.done(index):
        return
    woken = asyncio.Event()
    withdraw = page.when_done(index, woken.set)
    try:
        async with asyncio.timeout(wait):
            await woken.wait()
    except TimeoutError:
        pass
    finally:
        withdraw()


class BatchReceipt:
    """What a listener needs to acknowledge a batch to the one who sent it."""

    __slots__ = ("_held", "_loop", "_page")

    def __init__(self, page: Page, loop: asyncio.AbstractEventLoop, held: set[Page] | None = None) -> None:
        self._page = page
        self._loop = loop
        self._held = held
        """Where pages are held that somebody is to be told of, if nobody else holds them meanwhile."""

    @property
    def stored(self) -> bool | None:
        """Whether the batch is in durable storage by now; None: this pool has none."""
        return self._page.stored

    def when_stored(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, on the pool's loop, soon after it is known whether the batch is stored."""
        loop = self._loop

        def soon() -> None:
            loop.call_soon(callback)

        self._page.when_done(STORED, soon)

    @property
    def done(self) -> bool:
        """Whether every message has a terminal outcome at each required producer."""
        return self._page.done(None)

    @property
    def delivered(self) -> bool:
        """
        Whether every message was delivered to each required producer, or is kept among its dead letters.

        Or one of its stages removed it. All are safe: whoever sent it need not send it again.
        """
        page = self._page
        if not self.done or page.tracks is None:
            return False
        return all(track.safe for track in page.tracks.values() if track.required)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, on the pool's loop, soon after it is `done`: never inside this call."""
        if self._page.tracks is None:
            raise UsageError("this batch was fed, not accepted: nobody keeps what becomes of it")
        # It is code of others: what it raises, or does, must not happen in the middle of the accounting.
        loop, held, page = self._loop, self._held, self._page
        if held is not None:
            held.add(page)
            let_go = partial(held.discard, page)

        def soon() -> None:
            loop.call_soon(callback)
            if held is not None:
                let_go()

        page.when_done(None, soon)
