"""A client driven without a producer, which would hide some of what it does and says."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from producer_pool.contract.ports import Client, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import Ack
from producer_pool.testing.rule import require

__all__ = ["Driver", "StoppableDriver"]

_POLL: Final = 0.005
"""Seconds after which a pipelined client is asked again, should it forget to call writable()."""
_ENDING: Final = 2.0
"""Seconds in which a client has to let go."""


class Driver:
    """
    Hands messages to a client of either kind, at one level, and knows how far it says that they got.

    It is the signals of a PipelinedClient. Of a plain one it calls send(): what that returned from is
    written, and confirmed.
    """

    def __init__(self, client: Client, ack: Ack = Ack.WRITTEN) -> None:
        self.ack = ack
        self.client = client
        self.taken = 0
        """Messages that the client took, or that are with it just now."""
        self.lost: DeliveryError | None = None
        self._returned = 0
        self._last = Settled(0, 0)
        self._moved = asyncio.Event()

    async def connect(self) -> None:
        """Connect it, as a producer does."""
        if isinstance(self.client, PipelinedClient):
            self.client.attach(self)
        await self.client.connect()

    async def put(self, messages: Sequence[bytes]) -> None:
        """Hand over *messages*; done when the client has taken all."""
        if isinstance(self.client, PipelinedClient):
            await self._put_all(self.client, messages)
            return
        for message in messages:
            self.taken += 1
            await self.client.send(message)
            self._returned += 1

    async def _put_all(self, client: PipelinedClient, messages: Sequence[bytes]) -> None:
        for message in messages:
            while not client.start([Batch.of([message])]):
                if self.lost is not None:
                    raise self.lost
                self._moved.clear()
                try:
                    async with asyncio.timeout(_POLL):
                        await self._moved.wait()
                except TimeoutError:
                    continue
            self.taken += 1

    def settled(self) -> Settled:
        """Return what the client says, if it can be true."""
        if not isinstance(self.client, PipelinedClient):
            return Settled(self._returned, self._returned)
        last, self._last = self._last, self.client.settled()
        written, confirmed = now = self._last
        require(
            confirmed <= written <= self.taken,
            f"it took {self.taken} messages, and of them {written} are written and {confirmed} confirmed, "
            "as settled() says",
        )
        require(
            last.written <= written and last.confirmed <= confirmed,
            f"settled() went back, from {tuple(last)} to {tuple(now)}",
        )
        return now

    # -- signals -----------------------------------------------------------------------------------

    def writable(self) -> None:
        self._moved.set()

    def broken(self, error: DeliveryError) -> None:
        self.lost = error
        self._moved.set()

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        self._moved.set()


class StoppableDriver:
    """
    A client alone, on a thread and an event loop of its own, which can be stopped as if the program had died.

    After stop(), or when all is sent, no callback and no task of the client runs any more, until the end of
    the block closes it.
    """

    def __init__(self, client: Client) -> None:
        self.sent = 0
        """Messages whose send() returned."""
        self.over = False
        """Whether all were sent, or one failed."""
        self.error: BaseException | None = None
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = threading.Event()
        self._stopped = threading.Event()
        self._ended = asyncio.Event()

    def put(self, messages: Sequence[bytes]) -> None:
        """Begin to connect, and to send *messages* one after the other. To be called once."""
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)
        arguments = (self._loop, messages, asyncio.get_running_loop())
        threading.Thread(target=self._work, args=arguments, name="driver", daemon=True).start()

    def stop(self) -> None:
        """Let its loop stand still from now on."""
        if self._loop is not None and not self._stopped.is_set():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._stopped.wait(_ENDING)

    def _work(
        self, loop: asyncio.AbstractEventLoop, messages: Sequence[bytes], caller: asyncio.AbstractEventLoop
    ) -> None:
        try:
            story = loop.create_task(self._story(messages))
            loop.run_forever()
            self._stopped.set()
            self._released.wait()
            # A stop() that came too late stops this, and not what comes behind it.
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.run_until_complete(self._end(story))
        finally:
            loop.close()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                caller.call_soon_threadsafe(self._ended.set)

    async def _story(self, messages: Sequence[bytes]) -> None:
        try:
            await self._client.__aenter__()
            for message in messages:
                await self._client.send(message)
                self.sent += 1
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            if not self._stopped.is_set():
                asyncio.get_running_loop().stop()  # what the client meant to do next does not happen

    async def _end(self, story: asyncio.Task[None]) -> None:
        story.cancel()
        closing = asyncio.ensure_future(self._client.aclose())
        await asyncio.wait([story, closing], timeout=_ENDING)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._released.set()
        if self._loop is not None:
            await self._ended.wait()
