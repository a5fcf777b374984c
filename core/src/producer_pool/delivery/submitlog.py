"""What callers append to and the pool's loop swaps out."""
# Rule: the lock is held for a few lines that neither wait nor call out. It is re-entrant, because a signal
# handler or a __del__ may submit while the same thread is inside: such a message gets a page of its own.

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from producer_pool.delivery.page import Page
from producer_pool.delivery.receipts import Handle
from producer_pool.model.errors import ForkedPool, Full, WrongThread
from producer_pool.model.policies import BATCH_OVERHEAD, MESSAGE_OVERHEAD

__all__ = ["LoopLog", "OpenPage", "SubmitLog"]

R = TypeVar("R", bound=Handle)

PAGE_BYTES: Final = 256 * 1024
"""Bytes of messages after which a page is closed and the next one opened."""

LOG_BYTES: Final = 8 * 1024 * 1024
"""Bytes that may lie in the log. Beyond it, submit() waits for the pool's own loop, never for a consumer."""


class OpenPage(Page):
    """A page that messages are still appended to."""

    __slots__ = ("__weakref__", "log", "messages", "nbytes")

    def __init__(self, log: SubmitLog[Any], targets: Sequence[str]) -> None:
        super().__init__(None, targets, tracked=True)
        self.log = log
        if log.stores:
            self.stored = False
            self.storing = True
        self.messages: list[bytes] = []
        """What was appended, until it is given away."""
        self.nbytes = BATCH_OVERHEAD

    def give_away(self) -> list[bytes]:
        """Return the messages, for a batch to own: a page that is held on to holds them only once."""
        messages, self.messages = self.messages, []
        return messages


class SubmitLog(Generic[R]):
    """
    Pages of messages and calls, in the order in which they were made, by any thread.

    *receipt* is the class of what append() returns; *wake* has the loop come and swap().

    Appending costs one lock and wakes the loop at most once until the loop comes for the lot. That
    adding and removing producers are entries of the same log makes their order exact.
    """

    def __init__(self, wake: Callable[[], None], receipt: type[R]) -> None:
        self.receipt = receipt
        self.insiders: set[int] = set()
        """The threads that do the loop's work now; they may not wait for it."""
        self.stores = False
        """Whether what is appended is put into durable storage."""
        self.held = False
        """Whether whoever appends should see to it that there is room: wait_for_room(), or stuck()."""
        self._blocked: frozenset[str] = frozenset()
        self._jam = ""
        self._wake = wake
        self._lock = threading.RLock()
        self._waiting: set[threading.Lock] = set()
        """One for each thread that waits for room. No Condition: an interrupt may leave that locked."""
        self._entries: list[OpenPage | Callable[[], None]] = []
        self._page: OpenPage | None = None
        self._nbytes = 0
        self._awake = False
        self._calls = False
        self._refusal: Exception | None = None
        _LOGS.add(self)

    # -- appending ---------------------------------------------------------------------------------

    def append(self, targets: Sequence[str], message: bytes, wake: bool = True) -> R:
        """
        Append *message* and return its receipt. Never waits: see wait_for_room().

        Without *wake*, the caller sees to it that the loop comes: rouse().

        Raises:
            PoolClosed: the pool takes nothing any more.
        """
        # *wake* is passed by name, but need not be: a call that leaves out one that had to be takes longer.
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]
            return self._append_in_between(targets, message, wake)
        try:
            # Not `with`, which takes twice as long. An interrupt may come as soon as it is taken.
            lock.acquire()
            if self._refusal is not None:
                self.check_open()
            page = self._page
            if page is None or page.targets is not targets or page.nbytes >= PAGE_BYTES:
                page = self._open(targets)
            messages = page.messages
            # As Handle.made() does it. This is the way that every message goes.
            receipt = self.receipt()
            receipt._page = page
            receipt._index = len(messages)
            messages.append(message)
            page.nbytes += len(message) + MESSAGE_OVERHEAD
            lock.release()
            if wake and not self._awake:
                self.rouse()
        except BaseException:
            # Nothing is called before this, or a second interrupt would leave it locked.
            try:  # noqa: SIM105
                lock.release()
            except RuntimeError:
                pass  # It is released, or was never taken.
            self._rouse_after_interrupt(wake)
            raise
        return receipt

    def _append_in_between(self, targets: Sequence[str], message: bytes, wake: bool) -> R:
        """Append *message* in the middle of another append of this thread: to a page of its own."""
        self.check_open()
        # It is closed at once, and so is the open one: what comes next stands behind this.
        page = self._open(targets)
        receipt = self.receipt.made(page, 0)
        page.messages.append(message)
        self._page = None
        if wake:
            self.rouse()
        return receipt

    def _rouse_after_interrupt(self, wake: bool) -> None:
        """Rouse the loop: an interrupt may have come when a message is there, and it was not told."""
        if wake and self._entries:
            self.rouse()

    @property
    def _interrupted(self) -> bool:
        """Whether this comes in the middle of an append of this thread."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    @property
    def empty(self) -> bool:
        """Whether nothing lies in the log."""
        return not self._entries

    def rouse(self) -> None:
        """Have the loop come for what was appended, if it is not on its way."""
        if self._awake:
            return
        # Two threads may do this at once: waking twice does no harm. A wake-up that is marked, and not made
        # because an interrupt came, would: nobody would wake the loop again.
        try:
            self._awake = True
            self._wake()
        except BaseException:
            self._awake = False
            self._wake()
            raise

    def _open(self, targets: Sequence[str]) -> OpenPage:
        """Close the open page, if there is one, and open the next."""
        before = self._page
        if before is not None:
            self._nbytes += before.nbytes
            self.held = self.held or self._nbytes > LOG_BYTES
        page = self._page = OpenPage(self, targets)
        self._entries.append(page)
        return page

    def call(self, entry: Callable[[], None]) -> None:
        """
        Append a call, which the loop makes in its turn.

        Raises:
            PoolClosed: the pool takes nothing any more.
        """
        with self._lock:
            self.check_open()
            self._entries.append(entry)
            self._page = None
            self._calls = True
        self.rouse()

    @property
    def crowded(self) -> bool:
        """Whether so much lies in the log that whoever appends should wait for the loop."""
        return self._nbytes > LOG_BYTES

    @property
    def blocked(self) -> frozenset[str]:
        """Producers whose source has to wait; set on the loop, looked at by whoever submits."""
        return self._blocked

    @blocked.setter
    def blocked(self, producer_ids: frozenset[str]) -> None:
        with self._lock:
            self._blocked = producer_ids
            self.held = bool(producer_ids) or bool(self._jam) or self.crowded
        self.notify()

    @property
    def jam(self) -> str:
        """Why every source has to wait, whatever its messages are for; empty if none has."""
        return self._jam

    @jam.setter
    def jam(self, why: str) -> None:
        with self._lock:
            self._jam = why
            self.held = bool(why) or bool(self._blocked) or self.crowded
        self.notify()

    def stuck(self, targets: Sequence[str]) -> str:
        """Return which of *targets* have their source wait, as a text, or what has all; empty if none has."""
        if self._jam and targets:
            return self._jam
        return ", ".join(sorted(self._blocked.intersection(targets))) if self._blocked else ""

    def wait_for_room(self, targets: Sequence[str], patience: Callable[[], float]) -> None:
        """
        Wait until there is room for one message more to *targets*; at most *patience* seconds.

        It is asked again and again, for a producer that was just added may not be known yet.

        Raises:
            Full: there was none in time; nothing was accepted by anyone.
            WrongThread: this is the thread that makes the room, or keeps it from being made.
        """
        if threading.get_ident() in self.insiders:
            if self.crowded and not self.stuck(targets):
                return  # It will come to it as soon as this call is over.
            raise WrongThread("submit() would wait on the pool's own thread; use submit_nowait()")
        self._check_uninterrupted()
        began = time.monotonic()
        # Not a queue: its get(), interrupted by a signal just when its time is over, waits for ever (3.11).
        woken = threading.Lock()
        woken.acquire()
        try:
            # Register, then look; who makes room does it, then looks for who is registered.
            self._waiting.add(woken)
            while self._refusal is None and (self.crowded or self.stuck(targets)):
                deadline = patience()
                left = began + deadline - time.monotonic()
                if left <= 0:
                    raise self.full(targets, deadline)
                woken.acquire(timeout=min(left, threading.TIMEOUT_MAX))
        finally:
            self._waiting.discard(woken)

    def full(self, targets: Sequence[str], waited: float | None = None) -> Full:
        """Return the error of a message for which there is no room, not after *waited* seconds either."""
        who = self.stuck(targets) or "the pool"
        cause = "" if self._jam else " (overflow=block)"
        if waited is None:
            return Full(f"{who}: no room{cause}")
        return Full(f"{who}: no room within {waited:g} s{cause}; nothing was accepted")

    def close(self, refusal: Exception) -> None:
        """Take nothing any more; append() and call() raise *refusal* from now on."""
        with self._lock:
            self._refusal = refusal
        self.notify()

    def closed_by_fork(self) -> None:
        """Be dead in a forked child: touch no lock that the parent's threads may have held."""
        self._lock = threading.RLock()
        self._waiting = set()
        # What the parent is about to send is not the child's.
        self._entries = []
        self._page = None
        self._refusal = ForkedPool()
        self._awake = True

    @property
    def refusal(self) -> Exception | None:
        """Why nothing is taken any more, if so."""
        return self._refusal

    def check_open(self) -> None:
        """
        Raise if nothing is taken any more.

        Raises:
            PoolClosed: the pool is closed, or it lives in the parent process.
        """
        if self._refusal is not None:
            # It is one object for all: its traceback would grow with each time it is raised.
            raise self._refusal.with_traceback(None)

    # -- the loop's side ---------------------------------------------------------------------------

    def swap(self, *, pages_only: bool = False) -> list[OpenPage | Callable[[], None]]:
        """
        Return all that was appended since the last time; with *pages_only* nothing if there are calls.

        Nothing either in the middle of an append of this thread, which may add to what is there.
        """
        if self._interrupted:
            return []
        with self._lock:
            if self._calls:
                if pages_only:
                    return []
                self._calls = False
            entries, self._entries = self._entries, []
            self._page = None
            crowded = self.crowded
            self._nbytes = 0
            self.held = bool(self._blocked) or bool(self._jam)
            self._awake = False
        if crowded:
            self.notify()
        return entries

    def notify(self) -> None:
        """Have those who wait for room look again."""
        for woken in list(self._waiting):
            with suppress(RuntimeError):  # It was told already, and has not looked yet.
                woken.release()

    def check_may_wait(self) -> None:
        """
        Raise if waiting here could never end.

        Raises:
            WrongThread: this is the pool's own thread; or a signal handler or a __del__ in the middle
                of another call, which cannot go on as long as this one waits.
            ForkedPool: the pool lives in the parent process.
        """
        if isinstance(self._refusal, ForkedPool):
            self.check_open()
        if threading.get_ident() in self.insiders:
            raise WrongThread("this call would wait for the thread that it runs on; use submit() here")
        self._check_uninterrupted()

    def _check_uninterrupted(self) -> None:
        """Raise WrongThread if this call came in the middle of one that holds the lock."""
        if self._interrupted:
            raise WrongThread(
                "this call came in the middle of another one of its thread, in a signal handler or a "
                "__del__, and would wait for it; use submit_nowait() there"
            )


class LoopLog(SubmitLog[R]):
    """
    A log that only the thread of its own loop appends to, as in an asyncio program.

    There a lock would be a third of the work. A signal handler and a ``__del__`` may still come in the
    middle.
    """

    def __init__(self, wake: Callable[[], None], receipt: type[R]) -> None:
        super().__init__(wake, receipt)
        self._inside = False

    @property
    def _interrupted(self) -> bool:
        return self._inside

    def append(self, targets: Sequence[str], message: bytes, wake: bool = True) -> R:
        if self._inside:
            return self._append_in_between(targets, message, wake)
        try:
            self._inside = True
            if self._refusal is not None:
                self.check_open()
            page = self._page
            if page is None or page.targets is not targets or page.nbytes >= PAGE_BYTES:
                page = self._open(targets)
            messages = page.messages
            # As Handle.made() does it.
            receipt = self.receipt()
            receipt._page = page
            receipt._index = len(messages)
            messages.append(message)
            page.nbytes += len(message) + MESSAGE_OVERHEAD
            self._inside = False
            if wake and not self._awake:
                self.rouse()
        except BaseException:
            self._inside = False
            self._rouse_after_interrupt(wake)
            raise
        return receipt


_LOGS: Final[weakref.WeakSet[SubmitLog[Any]]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_LOGS):
        log.closed_by_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
