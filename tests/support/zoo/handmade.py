"""A healthy transport as one writes it with asyncio alone, with an answer to each message, or without."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import ClassVar

from producer_pool.plugin import (
    Ack,
    Batch,
    Client,
    ConnectError,
    Endpoint,
    Intake,
    Listener,
    ListenError,
    ListenerStats,
    Rejected,
    SendError,
    Size,
    StreamListenerOptions,
    option,
)
from support.zoo.healthy import ZooOptions, has_ended

__all__ = ["AnsweredClient", "AnsweringListener", "HandmadeClient", "HandmadeListener", "HandmadeOptions"]

NOTHING_LEFT = (1).to_bytes(4, "little") + bytes(4)
"""For SO_LINGER: a close is a reset."""


TURNS = 20
"""Turns of the loop in which nothing is passed on: more than a message takes from a socket to an intake."""


class HandmadeClient(Client):
    """Writes lines, and waits until the kernel has each."""

    protocol_name = "zoo"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter | None = None

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        endpoint.no_more_than_host_and_port()
        self.address = f"zoo://{endpoint.host}:{endpoint.port}"
        self.max_message = options.max_message
        self.framing = options.framing
        self.host, self.port = endpoint.host, endpoint.port
        self.inside = False
        """Whether only a part of a message is through."""

    async def connect(self) -> None:
        try:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"{self.address}: {error}") from None
        self.writer.transport.set_write_buffer_limits(high=1, low=0)

    async def send(self, message: bytes) -> None:
        wire = self.framing.encode([message])
        if self.framing.misfits([message], wire):
            raise Rejected(self.framing.why_misfit())
        await self.write(wire)

    async def write(self, wire: bytes) -> None:
        """Write a line."""
        writer = self.writer
        if writer is None or writer.is_closing() or has_ended(writer.get_extra_info("socket")):
            raise ConnectError(f"{self.address}: the connection is closed")
        self.inside = True
        try:
            writer.write(wire)
            await writer.drain()
            await self.answered()
        except OSError as error:
            raise SendError(f"{self.address}: {error}") from None
        self.inside = False

    async def answered(self) -> None:
        """Wait for the answer, if there is one."""

    async def aclose(self) -> None:
        writer, self.writer = self.writer, None
        if writer is None:
            return
        if self.inside:
            self.inside = False
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOTHING_LEFT)
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class AnsweredClient(HandmadeClient):
    """Waits for the consumer to say that it has the message, too."""

    ack = Ack.APP

    async def answered(self) -> None:
        if await self.reader.readline() != b"\n":
            raise ConnectionResetError("no answer")


@dataclass(frozen=True)
class HandmadeOptions:
    """What the URL of a listener may say that has no other options."""

    max_message: Size = option(1024 * 1024, "a longer message closes its connection")


class HandmadeListener(Listener):
    """Takes lines from every connection. The small methods are for animals."""

    server: asyncio.Server | None = None
    answer: ClassVar[bytes] = b""
    reuse_address = True

    def __init__(self, endpoint: Endpoint, options: HandmadeOptions | StreamListenerOptions) -> None:
        endpoint.no_more_than_host_and_port()
        self.host, self.port = endpoint.host, endpoint.port
        self.endpoint = endpoint
        self.options = options
        self.stats = ListenerStats()
        self.open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, intake: Intake) -> Endpoint:
        self.intake = intake
        try:
            self.server = await asyncio.start_server(
                self.accepted,
                self.host,
                self.port,
                limit=self.options.max_message,
                reuse_address=self.reuse_address,
            )
        except OSError as error:
            raise ListenError(f"{self.endpoint}: {error}") from None
        return self.endpoint.at(*self.server.sockets[0].getsockname()[:2])

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task."""
        self.stats.connections += 1
        task = asyncio.ensure_future(self.serve(reader, writer))
        self.open[task] = writer
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Forget a connection."""
        self.stats.connections -= 1
        del self.open[task]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, until it ends."""
        try:
            with contextlib.suppress(OSError, ValueError):
                while (line := await self.line(reader)).endswith(b"\n"):
                    self.feed(line[:-1])
                    writer.write(self.answer)
                self.stats.tails += bool(line)
        finally:
            writer.close()

    async def line(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next line, when it may be passed on."""
        line = await reader.readline()
        while self.intake.paused:
            await self.intake.resumed()
        return line

    def feed(self, message: bytes) -> None:
        """Pass on a message."""
        self.stats.messages += 1
        self.intake.feed(Batch.of([message]))

    async def stop_accepting(self) -> None:
        if self.server is not None:
            self.server.close()

    async def drain(self) -> None:
        # In turns of the loop: what has arrived is read in the first of them, however long that takes.
        passed_on, still = -1, 0
        while still < TURNS:
            still = still + 1 if self.stats.messages == passed_on else 0
            passed_on = self.stats.messages
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        await self.stop_accepting()
        for task, writer in [*self.open.items()]:
            writer.transport.abort()
            task.cancel()
        if self.open:
            await asyncio.wait([*self.open])


class AnsweringListener(HandmadeListener):
    """Says to each message that it has it."""

    answer = b"\n"
