"""Consumers that connect to us, as plain as can be: what they read, message by message."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

from websockets.asyncio.client import connect

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.framing import framing_named
from support.matrix import Way

__all__ = ["Reader"]

_MOST = 16 * 1024 * 1024


class Reader:
    """One consumer of a serving client, whose messages are in `messages`."""

    def __init__(self, way: Way, address: str, ca: Path) -> None:
        self.messages: list[bytes] = []
        self.connected = asyncio.Event()
        self._way = way
        self._endpoint = Endpoint.parse(address)
        self._ca = ca
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reader:
        read = self._read_frames if "frames" in self._way.options else self._read_stream
        self._task = asyncio.create_task(read())
        await self.connected.wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def _tls(self) -> ssl.SSLContext | None:
        secure = "+tls" in self._endpoint.scheme or self._endpoint.scheme.startswith("wss")
        return ssl.create_default_context(cafile=self._ca) if secure else None

    async def _read_frames(self) -> None:
        kind = "wss" if self._tls else "ws"
        url = f"{kind}://{self._endpoint.host}:{self._endpoint.port}{self._endpoint.path}"
        async with connect(url, ssl=self._tls, max_size=_MOST, compression=None, proxy=None) as socket:
            self.connected.set()
            async for message in socket:
                self.messages.append(message.encode() if isinstance(message, str) else message)

    async def _read_stream(self) -> None:
        framing = framing_named(self._way.options["framing"])
        decoder = framing.decoder(_MOST)
        if self._endpoint.scheme.startswith("unix"):
            reader, writer = await asyncio.open_unix_connection(self._endpoint.path)
        else:
            host, port = self._endpoint.host, self._endpoint.port
            reader, writer = await asyncio.open_connection(host, port, ssl=self._tls)
        self.connected.set()
        try:
            while data := await reader.read(1 << 16):
                self.messages += framing.split(decoder.feed(data, len(data)))
        finally:
            writer.transport.abort()
