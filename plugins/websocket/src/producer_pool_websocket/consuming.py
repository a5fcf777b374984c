"""A consumer that connects, such as a browser is one: what the conformance suite tries ws+serve with."""

from __future__ import annotations

import socket

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from producer_pool.plugin import Endpoint
from producer_pool.testing import DialingConsumer
from producer_pool_websocket.http_head import QUIET

__all__ = ["DialingWebSocket"]


class DialingWebSocket(DialingConsumer):
    """A program with the library ``websockets``: what speaks here is not what the client is made of."""

    _connection: ClientConnection | None = None

    def pause(self) -> None:
        super().pause()
        self._follow()

    def resume(self) -> None:
        super().resume()
        self._follow()

    def _follow(self) -> None:
        """Have the library read, and answer pings, only as long as it is to."""
        if self._connection is not None:
            transport = self._connection.transport
            (transport.resume_reading if self.reads else transport.pause_reading)()

    async def listen(self, sock: socket.socket) -> None:
        endpoint = Endpoint.parse(self.url)
        try:
            connection = await connect(
                f"{'ws' if self.tls is None else 'wss'}://127.0.0.1{endpoint.path or '/'}",
                sock=sock,
                ssl=self.tls,
                proxy=None,
                max_size=None,
                max_queue=None,
                ping_interval=None,
                logger=QUIET,
            )
        except WebSocketException:
            return
        self._connection = connection
        try:
            self.connected()
            self._follow()
            while True:
                self.received.append(await connection.recv(decode=False))
        except ConnectionClosed:
            return
        finally:
            self._connection = None
            connection.transport.abort()
