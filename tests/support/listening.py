"""A stream listener that runs, for tests."""

from __future__ import annotations

import logging
import socket

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.streams.connection import StreamListenerOptions
from producer_pool.toolkit.streams.listener import StreamListener
from support.streams import FakeIntake, connect

PLAIN = StreamListenerOptions()


class Running:
    """A listener that runs, its intake, and its endpoint."""

    def __init__(self, options: StreamListenerOptions, url: str = "tcp://127.0.0.1:0") -> None:
        binding = TcpBinding(Endpoint.parse(url), allow_remote=False)
        self.listener = StreamListener(binding, options)
        self.intake = FakeIntake()
        """To be told, before it is started, what it can do."""
        self.stats = self.listener.stats
        self._clients: list[socket.socket] = []

    async def __aenter__(self) -> Running:
        self.endpoint = await self.listener.start(self.intake)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.listener.aclose()
        for client in self._clients:
            client.close()

    async def connect(self) -> socket.socket:
        client = await connect(self.endpoint)
        self._clients.append(client)
        return client


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
