"""Consumers that connect to a client which listens: what the conformance suite tries such a client with."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any, Final

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidEndpoint
from producer_pool.model.framing import LINES, framing_named
from producer_pool.testing.consumers import TrialConsumer

if TYPE_CHECKING:
    from producer_pool.testing.trial import Trial

__all__ = ["DialingConsumer"]

_LONGEST: Final = 64 * 1024 * 1024
_AGAIN: Final = 0.002
"""Seconds until it looks again whether the client listens."""


class DialingConsumer(TrialConsumer):
    """
    Connects to wherever the client of the trial listens, as soon as it does, and takes framed messages.

    The framing is that of the option ``framing=``, or lines. With *tls*, it speaks TLS, and trusts
    whatever certificate it is shown. Other protocols override listen().
    """

    def __init__(self, trial: Trial, *, tls: bool = False) -> None:
        self.tls = _trusting() if tls else None
        self.received = []
        self._framing = framing_named(trial.subject.client_options.get("framing", LINES.name))
        self._held: list[socket.socket] = []
        self._family, self._place = self._find(trial.another_place())
        self._connected = False
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Event()
        self._reading.set()

    def _find(self, url: str) -> tuple[int, Any]:
        """Choose the place of the client, which has to be known before it listens there."""
        self.url = url
        endpoint = Endpoint.parse(url)
        try:
            host, port = endpoint.host, endpoint.port
        except InvalidEndpoint:  # a path, as with unix+serve
            path = endpoint.path
            return socket.AF_UNIX, f"\0{path[1:]}" if path.startswith("@") else path
        # Nobody listens at it, and nobody else is given it.
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._held.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        place = held.getsockname()
        self.url = endpoint.at(*place[:2]).raw
        return held.family, place

    def connected(self) -> None:
        """Note that there is a connection now."""
        self._connected = True

    @property
    def reads(self) -> bool:
        """Whether anything is to be read now."""
        return self._reading.is_set()

    @property
    def connections(self) -> int:
        return int(self._connected)

    @property
    def comes(self) -> bool:
        return self._task is not None

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self._come())

    def pause(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def crash(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._reading.set()

    async def aclose(self) -> None:
        await self.crash()
        for sock in self._held:
            sock.close()

    async def _come(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._take()
            await asyncio.sleep(_AGAIN)

    async def _take(self) -> None:
        """Connect, and read until the client ends that."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(self._family)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._place)
            if sock.getsockname() == sock.getpeername():
                return  # TCP connects to itself where nobody listens
            # Its end is that of a killed process, which has not read everything: a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await self.listen(sock)
        finally:
            self._connected = False
            sock.close()

    async def listen(self, sock: socket.socket) -> None:
        """
        Take what comes over a connection, until its end, and close it then without a word.

        To be overridden: call connected() when the consumer is one, put messages into `received`, and read
        as long as `reads` says so.
        """
        name = None if self.tls is None else "127.0.0.1"
        reader, writer = await asyncio.open_connection(sock=sock, ssl=self.tls, server_hostname=name)
        try:
            self.connected()
            decoder = self._framing.decoder(_LONGEST)
            while True:
                await self._reading.wait()
                data = await reader.read(256 * 1024)
                if not data:
                    return
                wire = decoder.feed(data, len(data))
                self.received += self._framing.split(wire)
        finally:
            writer.transport.abort()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
