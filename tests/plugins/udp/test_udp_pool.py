"""A pool with udp consumers: what it says of one that is refused, and what the others notice of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, ProducerPool, bind_transport_async
from producer_pool.model.errors import ConnectError, Rejected
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.stats import Health, ProducerStats, State
from support.consumers import RecordingConsumer
from support.datagrams import Mailbox, deaf, nobody
from support.streams import until
from support.waiting import eventually

RELAY = DeliveryPolicy.relay()


@pytest.fixture
async def pool() -> AsyncIterator[AsyncProducerPool]:
    async with AsyncProducerPool() as made:
        yield made


async def test_consumer_that_is_refused_and_comes_back(pool: AsyncProducerPool) -> None:
    """It is down meanwhile and its messages wait; then it gets all of them, and the other never noticed."""
    with Mailbox() as other, Mailbox(shared=True) as gone, deaf(gone.port):
        port = gone.port
        await pool.add_producer("lucky", other.url, policy=RELAY)
        await pool.add_producer("unlucky", gone.url, policy=RELAY)
        await pool.submit("before")
        await until(lambda: gone.read() and other.read())
        gone.close()

        receipts = [await pool.submit(f"{number}") for number in range(200)]
        await until(lambda: len(other.read()) == 201)
        await until(lambda: statistics(pool, "unlucky").breaks >= 3)
        await until(lambda: health(pool, "unlucky").state is State.DOWN)
        error = health(pool, "unlucky").last_error
        assert isinstance(error, ConnectError)
        assert "connection refused; is it running?" in str(error)
        assert health(pool, "lucky").state is State.UP
        assert statistics(pool, "unlucky").delivered == 1
        await until(lambda: statistics(pool, "lucky").delivered == 201)

        with Mailbox(port=port, shared=True) as again:
            results = [await receipt.results(wait=20) for receipt in receipts]
            await until(lambda: len(again.read()) == 200)
            assert sorted(again.letters) == sorted(b"%d" % number for number in range(200))

    assert all(result.ok for result in results)
    assert {result["unlucky"].ack for result in results} == {Ack.WRITTEN}
    assert statistics(pool, "lucky").breaks == 0
    assert statistics(pool, "unlucky").pending == 0


def statistics(pool: AsyncProducerPool, producer_id: str) -> ProducerStats:
    return pool.engine.stats().producers[producer_id]


def health(pool: AsyncProducerPool, producer_id: str) -> Health:
    return pool.engine.health()[producer_id]


async def test_forward_to_nobody(pool: AsyncProducerPool) -> None:
    """A direct forward fails, the first one too, says why, and nothing counts as delivered."""
    await pool.add_producer("away", f"{nobody()}")
    with Mailbox() as mailbox:
        await pool.add_producer("there", mailbox.url)
        results = [await pool.forward_to_all(f"{number}") for number in range(3)]
        await until(lambda: len(mailbox.read()) == 3)

    assert [result["there"].ok for result in results] == [True] * 3
    assert [result["away"].outcome for result in results] == [Outcome.FAILED] * 3
    assert "connection refused" in str(results[0]["away"].error)
    assert (await pool.health())["away"].state is State.DOWN


async def test_message_that_is_too_long(pool: AsyncProducerPool) -> None:
    """It is refused alone, with the limit; one that is just short enough goes."""
    with Mailbox() as mailbox:
        await pool.add_producer("udp", mailbox.url, policy=RELAY)
        receipts = [await pool.submit(b"x" * size) for size in (65_508, 65_507)]
        long, short = [(await receipt.results(wait=20))["udp"] for receipt in receipts]
        await until(mailbox.read)

        assert isinstance(long.error, Rejected)
        assert "65508 bytes; udp carries at most 65507" in str(long.error)
        assert short.ok
        assert [len(letter) for letter in mailbox.letters] == [65_507]


async def test_relay_between_datagrams(pool: AsyncProducerPool) -> None:
    """What a udp listener takes goes to every udp consumer, one datagram for each message."""
    with Mailbox() as one, Mailbox() as other, Mailbox() as sender:
        for number, mailbox in enumerate((one, other)):
            await pool.add_producer(f"consumer-{number}", mailbox.url, policy=RELAY)
        async with await bind_transport_async("udp://127.0.0.1:0", pool) as server:
            for number in range(300):
                sender.socket.sendto(b"%d\n" % number, ("127.0.0.1", server.endpoint.port))
            await until(lambda: len(one.read()) == len(other.read()) == 300)
            stats = server.stats

        assert sorted(one.letters) == sorted(other.letters) == sorted(b"%d" % number for number in range(300))
        assert (stats.messages, stats.dropped) == (300, 0)


async def test_datagram_that_is_no_line(pool: AsyncProducerPool) -> None:
    """A newline inside a message fits a datagram; a consumer of lines refuses that message, and no other."""
    with Mailbox() as mailbox, Mailbox() as sender, RecordingConsumer() as lines:
        await pool.add_producer("datagrams", mailbox.url, policy=RELAY)
        await pool.add_producer("lines", lines.url, policy=RELAY)
        async with await bind_transport_async("udp://127.0.0.1:0", pool) as server:
            for letter in (b"two\nlines\n", b"one line\n"):
                sender.socket.sendto(letter, ("127.0.0.1", server.endpoint.port))
            await until(lambda: len(mailbox.read()) == 2)
            await until(lambda: statistics(pool, "lines").delivered and statistics(pool, "lines").failed)

        assert sorted(mailbox.letters) == [b"one line", b"two\nlines"]
        assert lines.wait_for(1) == [b"one line"]
        assert statistics(pool, "lines").failed == 1


def test_pool_for_threads() -> None:
    """The same from a program without asyncio, in one line for each step."""
    with Mailbox() as mailbox, ProducerPool() as pool:
        pool.add_producer("udp", mailbox.url)
        results = pool.forward_to_all("hello")

        assert results["udp"].ok
        assert results["udp"].ack is Ack.WRITTEN
        assert eventually(mailbox.read, "the letter") == [b"hello"]
