"""Consumers that connect to a client which listens, for the conformance suite."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Any

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.framing import LINES
from producer_pool.testing import Trial, TrialConsumer
from support.consumers import reserved_port

__all__ = ["EXCUSED", "PATIENT", "DialingConsumer"]

_REFUSED = "what is sent while no consumer is connected is refused, and not kept for later"
_ALONE = "no two clients can listen at one place"

EXCUSED = {
    **dict.fromkeys(
        (
            "absent-consumer-is-a-connect-error",
            "connects-only-when-told",
            "daemon-survives-its-consumer",
            "keeps-order-over-a-break",
            "loses-nothing-in-mid-stream",
            "loses-nothing-unconfirmed",
            "notices-the-end",
            "tells-of-the-end-once",
        ),
        _REFUSED,
    ),
    **dict.fromkeys(("settles-everything", "two-clients-are-independent"), _ALONE),
    "bounds-what-it-holds": "what a slow consumer does not take waits for it in peer-buffer",
}
"""Rules that a client which consumers connect to does not keep, on purpose."""

PATIENT = {"peer-buffer": "64MiB"}
"""So that a consumer is not cut off that reads nothing for a while."""

_LONGEST = 64 * 1024 * 1024
_AGAIN = 0.002
"""Seconds until it looks again whether the client listens."""


class DialingConsumer(TrialConsumer):
    """
    Connects to wherever the client of the trial listens, as soon as it does, and takes lines.

    Other protocols override listen(). *tls* is for clients that speak TLS.
    """

    def __init__(self, trial: Trial, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.received = []
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
        if endpoint.scheme == "unix+serve":
            return socket.AF_UNIX, endpoint.path
        self._held.append(reserved_port())
        place = self._held[0].getsockname()
        self.url = endpoint.at(*place).raw
        return socket.AF_INET, place

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
        """Take what comes over a connection, until its end, and close it then without a word."""
        name = None if self.tls is None else "127.0.0.1"
        reader, writer = await asyncio.open_connection(sock=sock, ssl=self.tls, server_hostname=name)
        try:
            self.connected()
            decoder = LINES.decoder(_LONGEST)
            while True:
                await self._reading.wait()
                data = await reader.read(256 * 1024)
                if not data:
                    return
                wire = decoder.feed(data, len(data))
                self.received += wire.split(b"\n")[:-1] if wire else []
        finally:
            writer.transport.abort()
