"""Servers: a listener poured into a pool, and into the program's own callback."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from producer_pool.contract.ports import Intake, IntakeReceipt, Listener
from producer_pool.delivery.containment import CLOSING, let_closing_pass, let_interrupts_pass
from producer_pool.delivery.engine import Engine
from producer_pool.model.amounts import check_seconds
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import PoolClosed, UsageError
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.stats import ListenerStats

if TYPE_CHECKING:
    from producer_pool.aio import AsyncProducerPool
    from producer_pool.pool import ProducerPool

__all__ = ["AsyncServer", "Server", "bind_transport", "bind_transport_async"]

log = logging.getLogger(__name__)

T = TypeVar("T")

CALLBACK_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for a callback. Beyond it the listener stops reading until half are worked off."""

_MESSAGES_A_TURN: Final = 256
"""Messages that a callback sees before others have the loop, if it does not wait itself."""


class _Tap(ABC):
    """An intake that pours into another one and shows each message to the program."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._batches: deque[Batch] = deque()
        self._nbytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._limit = LogLimit()
        self.errors = 0

    @property
    def paused(self) -> bool:
        """Whether the pool, or the callback, has the source wait."""
        return self._intake.paused or not self._room.is_set()

    @property
    def stores(self) -> bool:
        """Whether the pool has durable storage."""
        return bool(getattr(self._intake, "stores", False))

    @property
    def bite(self) -> int:
        """Bytes of which the listener should make a batch at most, as far as the pool knows."""
        return int(getattr(self._intake, "bite", CALLBACK_BYTES))

    def feed(self, batch: Batch) -> None:
        """Forward *batch*, and queue it for the callback."""
        self._intake.feed(batch)
        self._queue(batch)

    def accept(self, batch: Batch) -> IntakeReceipt:
        """Forward *batch*, and queue it for the callback."""
        receipt = self._intake.accept(batch)
        self._queue(batch)
        return receipt

    async def resumed(self) -> None:
        """Wait until neither has the source wait."""
        while self.paused:
            await self._intake.resumed()
            await self._room.wait()

    async def finish(self, wait: float) -> None:
        """
        Let the callback see what is queued, for at most *wait* seconds, and call it no more.

        If it is the callback itself that asks, then that is not waited for, and it sees the rest.
        """
        if not self.is_calling():
            try:
                async with asyncio.timeout(wait):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("on_message was not done within %g s; it does not see all messages", wait)
            self._batches.clear()
        await self._end()

    def _queue(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._idle.clear()
        self._nbytes += batch.cost
        if self._nbytes >= CALLBACK_BYTES:
            self._room.clear()
        self._call()

    def _worked_off(self, batch: Batch) -> None:
        """Note, on the loop, that the callback has seen all of *batch*."""
        self._nbytes -= batch.cost
        if self._nbytes <= CALLBACK_BYTES // 2:
            self._room.set()
        if not self._nbytes:
            self._idle.set()

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        left_out = self._limit.allow(type(error), self._loop.time())
        if left_out is not None:
            log.error("on_message raised, which stops nothing (%d so far)", self.errors, exc_info=error)

    @abstractmethod
    def is_calling(self) -> bool:
        """Whether this is asked from inside of the callback."""

    @abstractmethod
    def _call(self) -> None:
        """See to it that the callback is called for what is queued."""

    @abstractmethod
    async def _end(self) -> None:
        """Let go of what calls the callback."""


class _TaskTap(_Tap):
    """Awaits the callback, message by message, in a task of its own."""

    def __init__(self, intake: Intake, on_message: Callable[[bytes], Awaitable[object]]) -> None:
        super().__init__(intake)
        self._on_message = on_message
        self._task: asyncio.Task[None] | None = None

    def is_calling(self) -> bool:
        return self._task is not None and asyncio.current_task() is self._task

    def _call(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._work(), name="on_message")

    async def _work(self) -> None:
        while self._batches:
            batch = self._batches.popleft()
            for index, message in enumerate(batch.messages):
                try:
                    await self._on_message(message)
                except BaseException as error:
                    let_closing_pass(error, self._task)
                    let_interrupts_pass(error)
                    self._failed(error)
                if index % _MESSAGES_A_TURN == 0:
                    # A callback that never waits must not keep the loop from those that do.
                    await asyncio.sleep(0)
            self._worked_off(batch)

    async def _end(self) -> None:
        if self._task is not None and not self.is_calling() and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSING)


class _ThreadTap(_Tap):
    """Calls the callback, message by message, on a thread of its own."""

    def __init__(self, intake: Intake, on_message: Callable[[bytes], object]) -> None:
        super().__init__(intake)
        self._on_message = on_message
        self._more: SimpleQueue[bool] = SimpleQueue()
        """True for each batch, False at the end."""
        self._thread: threading.Thread | None = None
        self.asking: threading.Thread | None = None
        """The thread that closes the server, while it does."""

    def is_calling(self) -> bool:
        return self._thread is not None and self.asking is self._thread

    def _call(self) -> None:
        self._more.put(True)
        if self._thread is None:
            # A daemon: a callback that hangs must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, name="on_message", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while self._more.get():
            try:
                batch = self._batches.popleft()
            except IndexError:
                continue  # It was taken back at the end.
            for message in batch.messages:
                try:
                    self._on_message(message)
                except BaseException as error:
                    self._on_loop(self._failed, error)
            self._on_loop(self._worked_off, batch)

    def _on_loop(self, call: Callable[[T], None], argument: T) -> None:
        # The loop is closed when a pool ended without waiting for a callback that hung.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, argument)

    async def _end(self) -> None:
        self._more.put(False)


class AsyncServer:
    """
    A listener that pours into a pool. Use it as a context manager, or close it.

    A pool that is closed closes its servers first.
    """

    def __init__(
        self, listener: Listener, endpoint: Endpoint, engine: Engine, tap: _Tap | None, drain: float
    ) -> None:
        self._listener = listener
        self._engine = engine
        self._tap = tap
        self._drain = drain
        self._closing = False
        self._closed = asyncio.Event()
        self.closed = threading.Event()
        """Set when it is closed; for threads."""
        self.endpoint = endpoint
        """Where it really listens: with the port that was chosen for port 0."""
        engine.sources.append(self.aclose)
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child: what listens is its parent's."""
        return os.getpid() != self._pid

    @property
    def stats(self) -> ListenerStats:
        """Counters of the listener."""
        return self._listener.stats

    @property
    def callback_errors(self) -> int:
        """How often on_message raised."""
        return self._tap.errors if self._tap is not None else 0

    async def wait(self) -> None:
        """Wait until it is closed."""
        await self._closed.wait()

    async def aclose(self) -> None:
        """Read what has arrived, and close. May be called twice. The pool stays open."""
        if self.forked:
            return
        if self._closing:
            if self._tap is None or not self._tap.is_calling():
                await self._closed.wait()
            return
        self._closing = True
        try:
            await self._stop()
        finally:
            self._engine.sources.remove(self.aclose)
            self._closed.set()
            self.closed.set()

    async def _stop(self) -> None:
        """End in order: take no new connections, read what has arrived, let go; then the callback."""
        listener = self._listener
        try:
            async with asyncio.timeout(self._drain):
                await self._contained("stop_accepting", listener.stop_accepting())
                await self._contained("drain", listener.drain())
        except TimeoutError:
            log.warning("%s was not done with reading within %g s", self.endpoint, self._drain)
        finally:
            try:
                async with asyncio.timeout(CLOSING):
                    await self._contained("aclose", listener.aclose())
            except TimeoutError:
                log.warning("%s: aclose() took longer than %g s", self.endpoint, CLOSING)
            finally:
                if self._tap is not None:
                    await self._tap.finish(self._drain)

    async def _contained(self, call: str, work: Awaitable[None]) -> None:
        try:
            await work
        except BaseException as error:
            let_closing_pass(error)
            let_interrupts_pass(error)
            log.error("%s: %s() failed", self.endpoint, call, exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Server:
    """
    A started listener that pours into a pool for threads. Use it as a context manager, or close it.

    A pool that is closed closes its servers first.
    """

    def __init__(self, pool: ProducerPool, inner: AsyncServer, tap: _ThreadTap | None) -> None:
        self._pool = pool
        self._inner = inner
        self._tap = tap

    @property
    def endpoint(self) -> Endpoint:
        """Where it really listens: with the port that was chosen for port 0."""
        return self._inner.endpoint

    @property
    def stats(self) -> ListenerStats:
        """Counters of the listener."""
        return self._inner.stats

    @property
    def callback_errors(self) -> int:
        """How often on_message raised."""
        return self._inner.callback_errors

    def wait(self, wait: float | None = None) -> bool:
        """Wait until it is closed, at most *wait* seconds; say whether it is. For a program's main thread."""
        check_seconds("wait", wait)
        return self._inner.closed.wait(None if wait is None else min(wait, threading.TIMEOUT_MAX))

    def close(self) -> None:
        """Read what has arrived, and close. May be called twice. The pool stays open."""
        if self._inner.closed.is_set():
            return
        if self._tap is not None:
            self._tap.asking = threading.current_thread()
        try:
            self._pool.worker().run(lambda _: self._inner.aclose())
        except PoolClosed:
            # The pool closes its servers itself. A callback cannot wait for that: it is waited for.
            if self._tap is None or not self._tap.is_calling():
                self._inner.closed.wait(self._pool.limits.drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._inner.forked:
            self.close()


def bind_transport(
    url: str, pool: ProducerPool, *, on_message: Callable[[bytes], object] | None = None
) -> Server:
    """
    Listen at *url*, forward every message to all producers of *pool*, and show it to *on_message*.

    The callback runs on one thread of its own, in the order of arrival. If it is too slow, the listener
    stops reading until it has caught up; what it raises is logged and counted, and stops nothing.

    Raises:
        ConfigurationError, PluginError: the URL cannot be used.
        ListenError: nothing can listen there.
        UsageError: what is given as the pool, or as the callback, is none.
    """
    from producer_pool.pool import ProducerPool

    _check_pool(pool, ProducerPool, "bind_transport", "bind_transport_async() is for asyncio")
    if inspect.iscoroutinefunction(on_message):
        raise UsageError(
            "on_message is called here, not awaited; write it without async, or use bind_transport_async()"
        )
    _check_callable(on_message)
    listener = pool.factory.listener(url)

    async def bind(engine: Engine) -> Server:
        tap = _ThreadTap(engine, on_message) if on_message is not None else None
        endpoint = await listener.start(tap or engine)
        return Server(pool, AsyncServer(listener, endpoint, engine, tap, engine.limits.drain), tap)

    return pool.worker().run(bind)


async def bind_transport_async(
    url: str, pool: AsyncProducerPool, *, on_message: Callable[[bytes], Awaitable[object]] | None = None
) -> AsyncServer:
    """
    Listen at *url*, forward every message to all producers of *pool*, and await *on_message* with it.

    As bind_transport(), on the running loop.
    """
    from producer_pool.aio import AsyncProducerPool

    _check_pool(pool, AsyncProducerPool, "bind_transport_async", "bind_transport() is for threads")
    _check_callable(on_message)
    listener = pool.factory.listener(url)
    engine = pool.engine
    tap = _TaskTap(engine, on_message) if on_message is not None else None
    endpoint = await listener.start(tap or engine)
    return AsyncServer(listener, endpoint, engine, tap, pool.limits.drain)


def _check_pool(pool: object, kind: type, function: str, other: str) -> None:
    if not isinstance(pool, kind):
        raise UsageError(
            f"{function}(url, pool): the pool is of type {kind.__name__}, not {type(pool).__name__}; {other}"
        )


def _check_callable(on_message: object) -> None:
    if not (on_message is None or callable(on_message)):
        raise UsageError(f"on_message is a function that takes a message, not {on_message!r}")
