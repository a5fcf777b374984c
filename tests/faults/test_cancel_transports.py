"""Cancelled at every point where it waits: no client, listener or server leaves a descriptor or a task."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from producer_pool import AsyncProducerPool, Limits, bind_transport_async
from producer_pool.contract.ports import Client
from producer_pool.discovery.factory import ClientFactory
from producer_pool.testing.leftovers import descriptors
from producer_pool.testing.subject import with_options
from support.cancelling import Moment, Struck, cancelled_at, each_point
from support.certificates import Authority
from support.faults import report
from support.matrix import Way, ways
from support.streams import Consumer, FakeIntake, until

WAYS = list({way.scheme: way for way in ways() if not way.serves}.values())
SERVING = list({way.scheme: way for way in ways() if way.serves}.values())

MOMENTS = pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.scheme)

LARGE = b"x" * 900_000
"""More than a socket's buffer takes: who sends it has to wait."""

Story = Callable[[int], Awaitable[Struck[Any]]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def leaving_nothing(story: Story, number: int) -> Struck[Any]:
    """Run one story, and wait until as much is open as before it."""
    tasks, open_before = asyncio.all_tasks(), descriptors()
    struck = await story(number)
    await until(lambda: not asyncio.all_tasks() - tasks, f"point {number}: tasks end")
    await until(lambda: descriptors() <= open_before, f"point {number}: descriptors are closed")
    return struck


@asynccontextmanager
async def listening(way: Way, folder: Path, authority: Authority) -> AsyncIterator[tuple[str, FakeIntake]]:
    intake = FakeIntake()
    async with ClientFactory().listener(way.listening_url(folder, authority)) as listener:
        endpoint = await listener.start(intake)
        yield way.client_url(endpoint.raw, authority), intake


@MOMENTS
@EACH_WAY
async def test_cancelled_send(way: Way, moment: Moment, tmp_path: Path, authority: Authority) -> None:
    """Of a client alone, from connecting to the end: it lets go of all, and the next send() goes through."""
    message = LARGE if way.carries(LARGE) else b"one"
    async with listening(way, tmp_path, authority) as (url, intake):
        client = ClientFactory.create(url)
        await client.send(b"warm up")  # What is made once is no leak.
        await client.aclose()

        async def story(number: int) -> Struck[None]:
            intake.batches.clear()
            client = ClientFactory.create(url)
            struck = await cancelled_at(number, moment, lambda: client.send(message))
            last = b"%d" % number
            await client.send(last)
            await client.aclose()
            # What was written before that may be read after it, over the connection before.
            await until(lambda: last in intake.messages, "the next message comes in")
            return struck

        count = await each_point(moment, lambda number: leaving_nothing(story, number))

        report(f"cancelled {moment.value}: send() over {way.scheme}", points=count)
        # A datagram is taken at once, or not at all.
        assert count > 0 or message is not LARGE


@MOMENTS
@EACH_WAY
async def test_cancelled_close(way: Way, moment: Moment, tmp_path: Path, authority: Authority) -> None:
    """Of a client: closed it is all the same."""
    async with listening(way, tmp_path, authority) as (url, intake):
        client = ClientFactory.create(url)
        await client.send(b"warm up")
        await client.aclose()

        async def story(number: int) -> Struck[None]:
            client = ClientFactory.create(url)
            await client.send(b"one")
            return await cancelled_at(number, moment, client.aclose)

        await each_point(moment, lambda number: leaving_nothing(story, number))

        await until(lambda: intake.messages.count(b"one") > 0, "what was sent before comes in")


@MOMENTS
@EACH_WAY
async def test_cancelled_server(way: Way, moment: Moment, tmp_path: Path, authority: Authority) -> None:
    """Being bound, and being closed with a connection open: afterwards the same place can be bound again."""
    url = way.listening_url(tmp_path, authority)

    async def noted(message: bytes) -> None:
        await asyncio.sleep(0)
        came.set()

    async def story(number: int) -> Struck[None]:
        pool = AsyncProducerPool(limits=Limits(drain=0.5))
        await pool.add_producer("null", "null:")

        async def call() -> None:
            async with await bind_transport_async(url, pool, on_message=noted) as server:
                client = ClientFactory.create(way.client_url(server.endpoint.raw, authority))
                try:
                    await client.send(b"one")
                    await came.wait()
                finally:
                    await client.aclose()

        came.clear()
        struck = await cancelled_at(number, moment, call)
        came.clear()
        await call()
        await pool.aclose()
        return struck

    came = asyncio.Event()
    await story(499)  # What is made once is no leak.
    count = await each_point(moment, lambda number: leaving_nothing(story, number))
    report(f"cancelled {moment.value}: a server over {way.scheme}", points=count)

    assert count > 0


@MOMENTS
@pytest.mark.parametrize("way", SERVING, ids=lambda way: way.scheme)
async def test_cancelled_serving(way: Way, moment: Moment, tmp_path: Path, authority: Authority) -> None:
    """Of a client that consumers connect to: it lets go of its place, and can serve there again."""
    url = with_options(way.listening_url(tmp_path, authority), {})

    async def story(number: int) -> Struck[None]:
        async def call() -> None:
            client = ClientFactory.create(url)
            try:
                await client.connect()
            finally:
                await client.aclose()

        struck = await cancelled_at(number, moment, call)
        await call()
        return struck

    await story(499)
    await each_point(moment, lambda number: leaving_nothing(story, number))


class NaiveClient(Client):
    """Closes its socket after an error, and does not think of a cancellation."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def send(self, message: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self.socket, message)
        except Exception:
            self.socket.close()
            raise
        self.socket.close()


async def test_control_of_the_clients() -> None:
    """A naive client leaves its socket open."""
    clients: list[NaiveClient] = []

    async def story(number: int) -> Struck[None]:
        clients.append(NaiveClient(consumer.port))
        return await cancelled_at(number, Moment.WAITING, lambda: clients[-1].send(10 * LARGE))

    with Consumer(receive_buffer=4096) as consumer:
        before = descriptors()
        struck = await story(1)
        left = descriptors() - before
        clients[0].socket.close()

        assert struck.reached
        assert left == 1
