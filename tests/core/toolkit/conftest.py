"""Certificates, made once, and stream clients that are connected to a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.acknowledging import answering
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.streams.connection import StreamListenerOptions
from producer_pool.toolkit.streams.listener import StreamListener
from producer_pool.toolkit.streams.tls import ServerTls
from support.acknowledged import DELIVERED, STORED
from support.certificates import Authority
from support.listening import Running
from support.secure import Listening
from support.sending import LEVELS, Connected, connected
from support.serving import Served, serving
from support.streams import Consumer, FakeIntake


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA that the tests' certificates come from."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    with Consumer() as made:
        yield made


@pytest.fixture
def small() -> Iterator[Consumer]:
    """Return a consumer whose receive buffer is full soon."""
    with Consumer(receive_buffer=8192) as made:
        yield made


@pytest.fixture(params=LEVELS, ids=lambda level: level.label)
async def link(request: pytest.FixtureRequest, consumer: Consumer) -> AsyncIterator[Connected]:
    made = await connected(consumer, request.param)
    yield made
    made.peer.close()  # else the client would wait for that
    await made.client.aclose()


@pytest.fixture(params=LEVELS, ids=lambda level: level.label)
async def narrow(request: pytest.FixtureRequest, small: Consumer) -> AsyncIterator[Connected]:
    """Return a client of a consumer that does not take much."""
    made = await connected(small, request.param)
    yield made
    made.peer.close()  # else the client would wait for that
    await made.client.aclose()


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Any]]:
    """Return what starts listeners, which are closed at the end."""
    running: list[Listening] = []

    async def start(tls: ServerTls, options: StreamListenerOptions | None = None) -> Listening:
        binding = TcpBinding(Endpoint.parse("tcp+tls://127.0.0.1:0"), allow_remote=True)
        listener = StreamListener(binding, options or StreamListenerOptions(), tls=tls)
        intake = FakeIntake()
        running.append(Listening(listener, intake, await listener.start(intake)))
        return running[-1]

    yield start
    for one in running:
        await one.listener.aclose()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Return a client that listens for peers."""
    async with Served(serving()) as made:
        yield made


@pytest.fixture
async def delivered() -> AsyncIterator[Running]:
    """Return a listener that answers when messages are delivered."""
    async with Running(DELIVERED) as made:
        yield made


@pytest.fixture
async def stored() -> AsyncIterator[Running]:
    """Return a listener that answers when messages are stored."""
    made = Running(STORED)
    made.intake.stores = True
    async with made:
        yield made


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let little be owed to a connection; return how many bytes."""
    monkeypatch.setattr(answering, "WINDOW", 100_000)
    return 100_000


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a listener often say that it is there."""
    monkeypatch.setattr(answering, "BEAT", 0.01)
