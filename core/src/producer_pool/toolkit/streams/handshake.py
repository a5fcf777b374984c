"""What a client and its consumer say to each other before the first message and after the last one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from producer_pool.model.errors import ConnectError
from producer_pool.toolkit.sockets.tcp import wait_readable, wait_writable, why
from producer_pool.toolkit.streams.tls_records import TlsError

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls import ClientTls
    from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = ["Dialogue", "bid_farewell", "shake_hands"]

_READ: Final = 64 * 1024
_GRACE: Final = 0.05
"""Seconds, besides twice what the handshake took, in which a consumer may still refuse us."""


async def shake_hands(sock: socket.socket, tls: ClientTls, *, address: str, timeout: float) -> TlsLayer:
    """
    Do the handshake, and return the connection's TLS side. The socket stays the caller's.

    Raises:
        ConnectError: the other side, or its certificate, is not acceptable, or we are not; or it
            took longer than *timeout* seconds.
    """
    layer = tls.layer()
    try:
        async with asyncio.timeout(timeout):
            await _agree(sock, layer)
    except TimeoutError:
        reason = f"not done within {timeout:.3g} s; does it speak TLS?"
    except TlsError as error:
        _tell(sock, layer)
        reason = str(error)
    except OSError as error:
        reason = why(error)
    else:
        return layer
    raise ConnectError(f"{address}: TLS handshake: {reason}") from None


def bid_farewell(sock: socket.socket, layer: TlsLayer | None, words: bytes) -> None:
    """Say the last *words*, and with a TLS side that they are the last, as far as the kernel takes that."""
    if layer is not None:
        words = layer.outgoing() + layer.encrypt(words) + layer.close()
    try:
        if words:
            sock.send(words)
    except OSError:
        return  # its end will be a surprise; all that it has is whole


async def _agree(sock: socket.socket, layer: TlsLayer) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not layer.handshake():
        await _send(sock, layer.outgoing())
        await _receive(sock, layer)
    await _send(sock, layer.outgoing())
    if not layer.answers_late:
        return
    # In TLS 1.3 the client is done first, and may be refused afterwards (RFC 8446, 4.4.2): what it
    # sends until then is acknowledged by the kernel, and thrown away. Most servers say something at
    # once, a session ticket or that refusal; wait a little for the others.
    with suppress(TimeoutError):
        async with asyncio.timeout(2 * (loop.time() - began) + _GRACE):
            await wait_readable(sock)
    # Where it is we who were late, it lies there now.
    with suppress(BlockingIOError, InterruptedError):
        _take(sock.recv(_READ), layer)
        layer.look()


class Dialogue:
    """Words over a connection that is there, and encrypted if it has to be. The caller bounds the time."""

    heard: bool = False
    """Whether the consumer said anything."""

    def __init__(self, sock: socket.socket, layer: TlsLayer | None, *, address: str) -> None:
        self._socket = sock
        self._layer = layer
        self._address = address

    async def say(self, data: bytes) -> None:
        """
        Send all of *data*.

        Raises:
            ConnectError: the connection broke.
        """
        try:
            if self._layer is not None:
                data = self._layer.outgoing() + self._layer.encrypt(data)
            await _send(self._socket, data)
        except OSError as error:
            raise self._broken(error) from None

    async def hear(self) -> bytes:
        """
        Return what the consumer says next; ``b""``: it has closed the connection.

        Raises:
            ConnectError: the connection broke.
        """
        try:
            data = await self._hear()
        except OSError as error:
            raise self._broken(error) from None
        self.heard = True
        return data

    async def _hear(self) -> bytes:
        layer = self._layer
        if layer is None:
            return await _read(self._socket)
        buffer = memoryview(bytearray(_READ))
        while not (size := layer.decrypt_into(buffer)) and not layer.ended:
            await _receive(self._socket, layer)
        return bytes(buffer[:size])

    def _broken(self, error: OSError) -> ConnectError:
        reason = f"TLS: {error}" if isinstance(error, TlsError) else why(error)
        return ConnectError(f"{self._address}: {reason}")


async def _receive(sock: socket.socket, layer: TlsLayer) -> None:
    _take(await _read(sock), layer)


def _take(data: bytes, layer: TlsLayer) -> None:
    if data:
        layer.receive(data)
    else:
        layer.cut()


async def _read(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            await wait_readable(sock)


async def _send(sock: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except (BlockingIOError, InterruptedError):
            await wait_writable(sock)


def _tell(sock: socket.socket, layer: TlsLayer) -> None:
    """Send the reason for which we give up, if the kernel takes it."""
    try:
        sock.send(layer.outgoing())
    except OSError:
        return
