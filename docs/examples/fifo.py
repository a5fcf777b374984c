"""A protocol in one file: ``fifo:/path`` writes each message as a line into a named pipe."""

import asyncio
import os
import select
from collections.abc import Iterable

from producer_pool.plugin import (
    Client,
    ConnectError,
    Endpoint,
    InvalidEndpoint,
    Rejected,
    SendError,
    Transport,
    hookimpl,
)

LONGEST = select.PIPE_BUF - 1  # With its newline, a write that goes in whole or not at all: pipe(7).


class FifoClient(Client):
    protocol_name = "fifo"
    max_message = LONGEST

    def __init__(self, endpoint: Endpoint, options: None) -> None:
        self.address = str(endpoint)
        self.path = endpoint.path
        self.pipe = -1
        if not self.path or "\0" in self.path:
            raise InvalidEndpoint(f"{endpoint}: name a pipe, as in fifo:/run/orders")

    async def connect(self) -> None:
        await self.aclose()
        try:
            # Without O_NONBLOCK this would wait for a reader, and so would every other producer.
            self.pipe = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ConnectError(f"{self.address}: {error.strerror}") from error

    async def send(self, message: bytes) -> None:
        if b"\n" in message:
            raise Rejected(f"{self.address}: a line cannot hold a newline")
        while True:
            try:
                os.write(self.pipe, message + b"\n")
            except BlockingIOError:
                await self._room()
            except OSError as error:
                raise SendError(f"{self.address}: {error.strerror}") from error
            else:
                return

    async def _room(self) -> None:
        """Wait until the reader has read something. Its Producer bounds how long."""
        loop, room = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self.pipe, room.set)
        try:
            await room.wait()
        finally:
            loop.remove_writer(self.pipe)

    async def aclose(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    yield Transport(schemes=("fifo",), client=FifoClient, max_message=LONGEST)
