"""A transport of the scheme zoo that keeps every rule, with either kind of client. Animals derive from it."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass

from producer_pool import plugin
from producer_pool.plugin import (
    Client,
    ConnectError,
    Endpoint,
    Rejected,
    SendError,
    StreamClient,
    StreamClientOptions,
    StreamListener,
    StreamListenerOptions,
    TcpBinding,
    TcpDialer,
    TcpOptions,
    resolve,
)
from producer_pool.toolkit.sockets.tcp import reset, wait_writable, why

__all__ = ["AcknowledgedClient", "PipelinedClient", "PlainClient", "ZooListener", "ZooOptions"]


@dataclass(frozen=True)
class ZooOptions(TcpOptions, StreamClientOptions):
    """What the URL of a consumer may say: ``zoo://host:port?...``."""


class PlainClient(Client):
    """The three methods that most write, over a socket of their own. The small ones below are for animals."""

    protocol_name = "zoo"

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        endpoint.no_more_than_host_and_port()
        self.address = f"zoo://{endpoint.host}:{endpoint.port}"
        self.max_message = options.max_message
        self.framing = options.framing
        self.host, self.port = endpoint.host, endpoint.port
        self.socket: socket.socket | None = None
        self.inside = False
        """Whether only a part of a frame is written."""

    async def connect(self) -> None:
        await self.aclose()
        try:
            self.socket = await self.dial()
        except OSError as error:
            raise ConnectError(f"{self.address}: {why(error)}") from None

    async def send(self, message: bytes) -> None:
        wire = self.framing.encode([message])
        if self.framing.misfits([message], wire):
            raise Rejected(self.framing.why_misfit())
        await self.write(wire)

    async def aclose(self) -> None:
        sock, self.socket = self.socket, None
        if sock is not None and self.inside:
            reset(sock)  # else what arrived of the message looks like a whole one
        elif sock is not None:
            sock.close()
        self.inside = False

    async def dial(self) -> socket.socket:
        """Return a connected socket; OSError: it cannot be had."""
        address = (await resolve(self.host, self.port))[0]
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if sock.connect_ex(address.sockaddr):
                await wait_writable(sock)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, why(code))
        except BaseException:
            sock.close()
            raise
        return sock

    async def write(self, wire: bytes) -> None:
        """Have the kernel take all of *wire*."""
        sock = self.socket
        if sock is None or has_ended(sock):
            raise ConnectError(f"{self.address}: the connection is closed")
        rest = memoryview(wire)
        while rest:
            try:
                rest = rest[sock.send(rest) :]
            except BlockingIOError:
                await wait_writable(sock)
            except OSError as error:
                raise SendError(f"{self.address}: {why(error)}") from None
            self.inside = 0 < len(rest) < len(wire)


def has_ended(sock: socket.socket) -> bool:
    """Whether the other side has closed: the first write after that would succeed, and be lost."""
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))


class PipelinedClient(StreamClient):
    """What the toolkit makes of a protocol: many batches in flight."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        endpoint.no_more_than_host_and_port()
        super().__init__(TcpDialer(endpoint, options), options, protocol_name="zoo")


class AcknowledgedClient(plugin.AcknowledgedClient):
    """The same, for a consumer that answers."""

    def __init__(self, endpoint: Endpoint, options: ZooOptions) -> None:
        endpoint.no_more_than_host_and_port()
        super().__init__(TcpDialer(endpoint, options), options, protocol_name="zoo")


class ZooListener(StreamListener):
    """Takes what both clients send."""

    def __init__(self, endpoint: Endpoint, options: StreamListenerOptions) -> None:
        endpoint.no_more_than_host_and_port()
        super().__init__(TcpBinding(endpoint, allow_remote=False), options)
