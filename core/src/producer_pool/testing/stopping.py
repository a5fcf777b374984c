"""A client whose program stands still at a moment of the trial's choice, as if it had died there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from producer_pool.contract.ports import Client

__all__ = ["StoppableDriver"]

_ENDING: Final = 2.0
"""Seconds in which a client has to let go."""
_LOOK: Final = 0.01
"""Seconds between two looks whether it has. One that comes late counts for no more."""


class StoppableDriver:
    """
    A client alone, on a thread and an event loop of its own, which can be stopped as if the program had died.

    After stop(), or when all is sent, no callback and no task of the client runs any more, until the end of
    the block closes it.
    """

    def __init__(self, client: Client, reach: Callable[[Client], Awaitable[object]] | None = None) -> None:
        """Make one; *reach* connects *client*, as it connects itself if nothing is said."""
        self.sent = 0
        """Messages whose send() returned."""
        self.over = False
        """Whether all were sent, or one failed."""
        self.error: BaseException | None = None
        self._client = client
        self._reach = reach or Client.__aenter__
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
            looks = round(_ENDING / _LOOK)
            while looks and not self._stopped.wait(_LOOK):
                looks -= 1

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
            await self._reach(self._client)
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
