"""A serving client with its peers, for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import Rejected
from producer_pool.model.framing import LINES, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.serving.client import ServingClient
from producer_pool.toolkit.serving.options import ServingOptions
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.sockets.tcp import TcpOptions
from support.streams import FakeSignals, until


class ServingSignals(FakeSignals):
    """Notes also what was rejected."""

    def __init__(self, ack: Ack = Ack.WRITTEN) -> None:
        super().__init__(ack)
        self.refused: list[tuple[int, str]] = []
        self.reports = 0
        """Calls that said so."""

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        assert not self.starting, "a signal inside start()"
        self.reports += 1
        self.refused += [(number + index, str(error)) for index in range(count)]


def serving(
    options: ServingOptions | None = None,
    *,
    kind: type[ServingClient] = ServingClient,
    framing: Framing = LINES,
    **more: Any,
) -> ServingClient:
    """Return a client that listens at any free port of this machine."""
    binding = TcpBinding(Endpoint.parse("tcp+serve://127.0.0.1:0"), allow_remote=False, options=TcpOptions())
    return kind(binding, options or ServingOptions(), framing=framing, protocol_name="tcp+serve", **more)


class Served:
    """A serving client that listens, what it said, and its peers."""

    def __init__(self, client: ServingClient, ack: Ack = Ack.WRITTEN) -> None:
        self.client = client
        self.signals = ServingSignals(ack)
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Served:
        self.client.attach(self.signals)
        await self.client.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.aclose()
        for sock in self._sockets:
            sock.close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.client.address)

    def dial(self, receive_buffer: int | None = None) -> socket.socket:
        """Connect one more peer, which need not be served yet."""
        sock = socket.socket()
        self._sockets.append(sock)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # The kernel accepts at once: there is nothing that the loop would have to do for it.
        sock.connect((self.endpoint.host, self.endpoint.port))
        sock.setblocking(False)
        return sock

    async def join(self, receive_buffer: int | None = None) -> socket.socket:
        """Connect one more peer, and wait until it is served."""
        before = self.client.stats.joined
        sock = self.dial(receive_buffer)
        await until(lambda: self.client.stats.joined > before, "a peer joins")
        return sock

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.signals.starting = True
        taken = self.client.start(batches, offset)
        self.signals.starting = False
        return taken

    async def send(self, *messages: bytes) -> None:
        """Start one batch, in whatever turn it is taken."""
        batch = Batch.of(messages)
        while not self.start([batch]):
            await asyncio.sleep(0)

    @property
    def written(self) -> int:
        return self.client.settled().written

    @property
    def confirmed(self) -> int:
        return self.client.settled().confirmed
