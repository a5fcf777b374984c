"""The end of a stream client's connection as a question: has the consumer read everything?"""

from __future__ import annotations

import asyncio

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.client import _LINGER, StreamClient
from producer_pool.toolkit.streams.progress import Progress, UnixProgress
from support.listening import lines_of
from support.sending import Connected, connected, needs_kernel
from support.streams import Consumer, receive, receive_all, until

WORDS = [Batch.of([b"one", b"two"])]
WIRE = b"one\ntwo\n"


@pytest.fixture
async def confirmed(consumer: Consumer) -> Connected:
    """Return a client all of whose messages are confirmed by the kernel of a consumer that has read none."""
    link = await connected(consumer, Ack.KERNEL)
    link.start(WORDS)
    await until(lambda: link.client.settled() == (2, 2))
    return link


async def closes_in(client: StreamClient) -> float:
    """Return how long closing takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.aclose()
    return loop.time() - began


@pytest.mark.usefixtures("unhurried")
@needs_kernel
async def test_closed_with_messages_unread(confirmed: Connected, caplog: pytest.LogCaptureFixture) -> None:
    """That what the kernel had acknowledged is lost is said, with the address, and the next step."""
    closing = asyncio.ensure_future(confirmed.client.aclose())
    await asyncio.sleep(0.01)
    confirmed.peer.close()
    await closing

    (line,) = lines_of(caplog)
    assert line.startswith(f"{confirmed.client.address}: the consumer closed its last connection before")
    assert "use ack=app" in line


@pytest.mark.usefixtures("unhurried")
@needs_kernel
async def test_read_to_the_end(confirmed: Connected, caplog: pytest.LogCaptureFixture) -> None:
    """The end of the stream means that it has read everything: nothing is said, and closing is quick."""
    closing = asyncio.ensure_future(closes_in(confirmed.client))
    assert await receive_all(confirmed.peer) == WIRE
    confirmed.peer.close()

    assert await closing < _LINGER
    assert not lines_of(caplog)


@pytest.mark.usefixtures("unhurried")
@needs_kernel
async def test_consumer_that_does_not_end(confirmed: Connected, caplog: pytest.LogCaptureFixture) -> None:
    """It is not waited for long, and nothing is said of what nobody knows."""
    assert _LINGER * 0.9 < await closes_in(confirmed.client) < _LINGER + 5
    assert not lines_of(caplog)


@pytest.mark.usefixtures("unhurried")
async def test_control(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    """At WRITTEN nothing is asked: the same loss, and not a word."""
    link = await connected(consumer, Ack.WRITTEN)
    link.start(WORDS)
    await receive(link.peer, 1)
    closing = asyncio.ensure_future(closes_in(link.client))
    await asyncio.sleep(0.01)
    link.peer.close()

    assert await closing < _LINGER
    assert not lines_of(caplog)


@pytest.mark.usefixtures("unhurried")
@needs_kernel
async def test_nothing_to_ask_about(consumer: Consumer, small: Consumer) -> None:
    """Where no message was sent, or where it is known that some are not there, nobody is waited for."""
    link = await connected(consumer, Ack.KERNEL)
    assert await closes_in(link.client) < _LINGER
    link = await connected(small, Ack.KERNEL)
    link.fill(Batch.of([b"x" * 999] * 1000))
    assert await closes_in(link.client) < _LINGER


class Read(Progress):
    """As over a unix socket: what is acknowledged was read by the program."""

    read = True

    def acknowledged(self, total: int) -> int:
        return total


@pytest.mark.usefixtures("unhurried")
async def test_kernel_that_knows_what_was_read(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no question."""
    assert UnixProgress.read
    monkeypatch.setattr(StreamClient, "progress", lambda client, sock: Read())
    link = await connected(consumer, Ack.KERNEL)
    link.start(WORDS)
    assert link.client.settled() == (2, 2)

    assert await closes_in(link.client) < _LINGER


@pytest.mark.usefixtures("unhurried")
@needs_kernel
async def test_acknowledged_by_the_program(consumer: Consumer) -> None:
    """An answer of the consumer itself says more than the end of its connection."""
    link = await connected(consumer, Ack.PEER)
    link.start(WORDS)
    await until(lambda: link.client.settled() == (2, 2))

    assert await closes_in(link.client) < _LINGER
