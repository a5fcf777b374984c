"""Servers: a listener poured into a pool, and into the program's own callback."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from producer_pool.contract.ports import Intake, IntakeReceipt, Listener
from producer_pool.delivery.engine import Engine
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.stats import ListenerStats

if TYPE_CHECKING:
    from producer_pool.aio import AsyncProducerPool
    from producer_pool.pool import ProducerPool

__all__ = ["AsyncServer", "Server", "bind_transport", "bind_transport_async"]

log = logging.getLogger(__name__)

CALLBACK_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for a callback. Beyond it the listener stops reading until half are worked off."""


class _Tap(ABC):
    """An intake that pours into another one and shows each message to the program."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._batches: deque[Batch] = deque()
        self._nbytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._limit = LogLimit()
        self.errors = 0

    @property
    def paused(self) -> bool:
        """Whether the pool, or the callback, has the source wait."""
        return self._intake.paused or not self._room.is_set()

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

    def _queue(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._nbytes += batch.cost
        if self._nbytes >= CALLBACK_BYTES:
            self._room.clear()
        self._call()

    def _worked_off(self, batch: Batch) -> None:
        """Note, on the loop, that the callback has seen all of *batch*."""
        self._nbytes -= batch.cost
        if self._nbytes <= CALLBACK_BYTES // 2:
            self._room.set()

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        left_out = self._limit.allow(type(error), self._loop.time())
        if left_out is not None:
            log.error("on_message raised, which stops nothing (%d so far)", self.errors, exc_info=error)

    @abstractmethod
    def _call(self) -> None:
        """See to it that the callback is called for what is queued."""

    @abstractmethod
    async def finish(self, wait: float) -> None:
        """Let the callback see what is queued, for at most *wait* seconds."""


class _TaskTap(_Tap):
    """Awaits the callback, message by message, in a task of its own."""

    def __init__(self, intake: Intake, on_message: Callable[[bytes], Awaitable[object]]) -> None:
        super().__init__(intake)
        self._on_message = on_message
        self._task: asyncio.Task[None] | None = None

    def _call(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._work(), name="on_message")

    async def _work(self) -> None:
        while self._batches:
            batch = self._batches.popleft()
            for message in batch.messages:
                try:
                    await self._on_message(message)
                except Exception as error:
                    self._failed(error)
            self._worked_off(batch)

    async def finish(self, wait: float) -> None:
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=wait)
            self._task.cancel()


class _ThreadTap(_Tap):
    """Calls the callback, message by message, on a thread of its own."""

    def __init__(self, intake: Intake, on_message: Callable[[bytes], object]) -> None:
        super().__init__(intake)
        self._on_message = on_message
        self._more = threading.Semaphore(0)
        self._idle = asyncio.Event()
        self._idle.set()
        # A daemon: a callback that hangs must not keep the program from ending.
        threading.Thread(target=self._work, name="on_message", daemon=True).start()

    def _call(self) -> None:
        self._idle.clear()
        self._more.release()

    def _work(self) -> None:
        while True:
            self._more.acquire()
            if not self._batches:
                return  # finish() woke it with nothing to do.
            batch = self._batches.popleft()
            for message in batch.messages:
                try:
                    self._on_message(message)
                except Exception as error:
                    self._loop.call_soon_threadsafe(self._failed, error)
            try:
                self._loop.call_soon_threadsafe(self._worked_off, batch)
            except RuntimeError:
                return  # The pool is gone.

    def _worked_off(self, batch: Batch) -> None:
        super()._worked_off(batch)
        if not self._nbytes:
            self._idle.set()

    async def finish(self, wait: float) -> None:
        try:
            async with asyncio.timeout(wait):
                await self._idle.wait()
        except TimeoutError:
            log.warning(
                "on_message did not finish within %g s; %d batches were not shown to it",
                wait,
                len(self._batches),
            )
        self._batches.clear()
        self._more.release()


async def _stop(listener: Listener, tap: _Tap | None, wait: float) -> None:
    """End *listener* in order: take no new connections, read what has arrived, let go."""
    try:
        async with asyncio.timeout(wait):
            await listener.stop_accepting()
            await listener.drain()
    except TimeoutError:
        log.warning("a listener was not done with reading within %g s", wait)
    finally:
        await listener.aclose()
    if tap is not None:
        await tap.finish(wait)


class AsyncServer:
    """A listener that pours into a pool. Close it before the pool, or use it as a context manager."""

    def __init__(self, listener: Listener, endpoint: Endpoint, tap: _Tap | None, drain: float) -> None:
        self._listener = listener
        self._tap = tap
        self._drain = drain
        self._closed = asyncio.Event()
        self.endpoint = endpoint
        """Where it really listens: with the port that was chosen for port 0."""

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
        if not self._closed.is_set():
            self._closed.set()
            await _stop(self._listener, self._tap, self._drain)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Server:
    """A started listener that pours into a pool for threads. Close it before the pool."""

    def __init__(self, pool: ProducerPool, inner: AsyncServer) -> None:
        self._pool = pool
        self._inner = inner
        self._closed = threading.Event()

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
        return self._closed.wait(wait)

    def close(self) -> None:
        """Read what has arrived, and close. May be called twice. The pool stays open."""
        if self._closed.is_set():
            return
        self._closed.set()
        if not self._pool.closed:
            self._pool.worker().run(lambda _: self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
    """
    listener = pool.factory.listener(url)

    async def bind(engine: Engine) -> AsyncServer:
        tap = _ThreadTap(engine, on_message) if on_message is not None else None
        endpoint = await listener.start(tap or engine)
        return AsyncServer(listener, endpoint, tap, engine.limits.drain)

    return Server(pool, pool.worker().run(bind))


async def bind_transport_async(
    url: str, pool: AsyncProducerPool, *, on_message: Callable[[bytes], Awaitable[object]] | None = None
) -> AsyncServer:
    """
    Listen at *url*, forward every message to all producers of *pool*, and await *on_message* with it.

    As bind_transport(), on the running loop.
    """
    listener = pool.factory.listener(url)
    intake = pool.intake
    tap = _TaskTap(intake, on_message) if on_message is not None else None
    endpoint = await listener.start(tap or intake)
    return AsyncServer(listener, endpoint, tap, pool.limits.drain)
