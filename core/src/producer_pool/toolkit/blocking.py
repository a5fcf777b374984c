"""A client around an object that blocks, such as a vendor's library, on a thread of its own."""
# Rule: never the loop's executor. Its threads are shared, and the interpreter waits for them at its end: one
# hanging call would delay all other clients, and keep the program from ending. A daemon thread does neither.

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from producer_pool.contract.ports import Client
from producer_pool.model.amounts import check_seconds
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, SendError, UsageError
from producer_pool.model.policies import DEFAULT_TIMEOUT

__all__ = ["MOST_HANGING", "BlockingClient", "BlockingSender"]

MOST_HANGING: Final = 4
"""Threads of one client that may hang in calls given up. Then connect() fails, until one returns."""


class BlockingSender(Protocol):
    """What can be wrapped. ``connect()`` and ``close()`` are called, too, if it has them."""

    def send(self, message: bytes, /) -> object:
        """Hand over *message*; returning means that it is delivered. Any exception means that it may be."""


class BlockingClient(Client):
    """
    Makes a Client of any object with a blocking ``send(message)``, and perhaps ``connect()`` and ``close()``.

    Its calls are made one after the other on one daemon thread. One that takes longer than *timeout*
    is given up: the caller gets an error, the thread is left behind, and the next connect() starts
    another. The object may then be called by two threads, the one that hangs and the new one.

    Raises:
        UsageError: *inner* is no such object, or *timeout* no number of seconds.
    """

    def __init__(
        self,
        inner: BlockingSender,
        *,
        protocol_name: str = "blocking",
        address: str = "",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        _check(inner)
        check_seconds("timeout", timeout)
        self.protocol_name = protocol_name
        self.address = address or type(inner).__name__
        self.timeout = timeout
        self._inner = inner
        self._worker: _Worker | None = None
        self._hanging: list[_Worker] = []
        self._unclean = False
        """Whether a call was given up since the object was last closed."""

    async def connect(self) -> None:
        await self.aclose()
        self._hanging = [worker for worker in self._hanging if worker.busy]
        if len(self._hanging) >= MOST_HANGING:
            raise ConnectError(
                f"{self.address}: {len(self._hanging)} calls hang in {type(self._inner).__name__}; "
                "it is tried again when one returns"
            )
        self._worker = _Worker(f"blocking client {self.address}")
        await self._call(getattr(self._inner, "connect", _nothing), ConnectError)

    async def send(self, message: bytes) -> None:
        await self._call(lambda: self._inner.send(message), SendError)

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        # One change of threads for the batch, not two for each message.
        sent = start
        stop = threading.Event()

        def send_all() -> None:
            nonlocal sent
            for message in batch.messages[start:]:
                if stop.is_set():
                    return
                self._inner.send(message)
                sent += 1

        try:
            await self._call(send_all, SendError)
        except DeliveryError as error:
            error.index = sent
            raise
        finally:
            stop.set()

    async def aclose(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None and not self._unclean:
            return
        self._unclean = False
        close = getattr(self._inner, "close", None)
        if close is not None:
            # After a call that hangs, closing is what may free it; so it needs a thread that does not hang.
            self._worker = worker or _Worker(f"blocking client {self.address}, closing")
            try:
                await self._call(close, SendError)
            except DeliveryError:
                pass  # nothing depends on it any more
            finally:
                worker, self._worker = self._worker, None
                self._unclean = False
        if worker is not None:
            worker.stop()

    async def _call(self, function: Callable[[], object], kind: type[DeliveryError]) -> None:
        """Make one call on the thread, and wait for it at most as long as an attempt may take."""
        worker = self._worker
        if worker is None:
            raise ConnectError(f"{self.address}: not connected")
        try:
            async with asyncio.timeout(self.timeout):
                await worker.call(function)
        except TimeoutError:
            self._abandon(worker)
            raise kind(f"{self.address}: the call did not return within {self.timeout:g} s") from None
        except asyncio.CancelledError:
            self._abandon(worker)
            raise
        except DeliveryError:
            raise
        except _Failed as error:
            raise kind(f"{self.address}: {error}") from error.__cause__
        except Exception as error:
            raise kind(f"{self.address}: {type(error).__name__}: {error}") from error

    def _abandon(self, worker: _Worker) -> None:
        worker.stop()
        self._hanging.append(worker)
        self._worker = None
        self._unclean = True


def _check(inner: object) -> None:
    name = type(inner).__name__
    if isinstance(inner, type):
        raise UsageError(f"{inner.__name__} is a class; pass an instance: {inner.__name__}(...)")
    send = getattr(inner, "send", None)
    if not callable(send):
        raise UsageError(f"{name} has no send(message)")
    if inspect.iscoroutinefunction(send):
        raise UsageError(f"{name}.send() is async already; derive {name} from Client, and leave this one out")


def _nothing() -> None:
    """Stand in for a method that the object does not have."""


class _Failed(Exception):
    """What carries an exception that must not pass through the loop as it is, such as SystemExit."""


class _Worker:
    """One daemon thread that makes one call at a time."""

    def __init__(self, name: str) -> None:
        self.busy = False
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[[], object]) -> None:
        """Make this call, and wait for it. If cancelled, the call goes on."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self.busy = True
        self._calls.put((function, loop, done))
        await done

    def stop(self) -> None:
        """End the thread after the call that it is making."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, loop, done = call
            failure: BaseException | None = None
            try:
                function()
            except Exception as error:
                failure = error
            except BaseException as error:
                failure = _Failed(f"{type(error).__name__}: {error}")
                failure.__cause__ = error
            self.busy = False
            try:
                loop.call_soon_threadsafe(_finish, done, failure)
            except RuntimeError:
                return  # that loop is closed
            del call, function, failure


_Call = tuple[Callable[[], object], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


def _finish(done: asyncio.Future[Any], failure: BaseException | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
