"""The stream client whose consumer acknowledges: what counts as confirmed, and what it does not believe."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import SendError
from producer_pool.model.framing import LENGTH4, LINES, Framing
from producer_pool.model.outcomes import Ack, resolve_ack
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.toolkit.acknowledging.client import AcknowledgedClient
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClientOptions
from producer_pool.toolkit.streams.progress import TCP_ACKS
from producer_pool.toolkit.streams.tls import TlsClientOptions, client_tls
from support.certificates import Authority
from support.secure import identity
from support.sending import Connected
from support.streams import Consumer, FakeSignals, receive, reset, send, until


def make(consumer: Consumer, framing: Framing = LINES) -> AcknowledgedClient:
    options = StreamClientOptions(framing=framing)
    return AcknowledgedClient(TcpDialer(consumer.endpoint, TcpOptions()), options, protocol_name="tcp")


async def connected(consumer: Consumer, ack: Ack = Ack.APP, framing: Framing = LINES) -> Connected:
    client = make(consumer, framing)
    signals = FakeSignals(ack)
    client.attach(signals)
    await client.connect()
    return Connected(client, await consumer.accept(), signals)


# -- answers ---------------------------------------------------------------------------------------


def test_levels(consumer: Consumer) -> None:
    """APP is there for those who ask for it; best never is, because the consumer has to take part."""
    client = make(consumer)

    assert client.acks == TCP_ACKS | {Ack.APP}
    assert resolve_ack(None, client.acks) == max(TCP_ACKS)
    assert resolve_ack(Ack.APP, client.acks) is Ack.APP


@pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")
async def test_stream_only_where_there_is_no_more_to_it(consumer: Consumer) -> None:
    """Not where answers count, and not of a class that inherits: it may do more with a batch than send it."""

    class Heir(AcknowledgedClient):
        pass

    streams = {}
    for kind in (AcknowledgedClient, Heir):
        for ack in (Ack.KERNEL, Ack.APP):
            client = kind(
                TcpDialer(consumer.endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp"
            )
            client.attach(FakeSignals(ack))
            await client.connect()
            streams[kind, ack] = client.stream() is not None
            await client.aclose()

    assert [key for key, there in streams.items() if there] == [(AcknowledgedClient, Ack.KERNEL)]


@pytest.mark.parametrize("framing", [LINES, LENGTH4], ids=lambda framing: framing.name)
async def test_confirmed_is_what_was_answered(consumer: Consumer, framing: Framing) -> None:
    """And nothing else: neither what is written nor what the consumer has read; and it is told at once."""
    link = await connected(consumer, framing=framing)
    link.start([Batch.of([b"one", b"two"]), Batch.of([b"three"])])
    await receive(link.peer, 14 + (LENGTH4 is framing) * 9)

    assert link.client.settled() == (3, 0)
    for count in (1, 3):
        before = link.signals.writes
        await send(link.peer, framing.encode([b"%d" % count]))
        await until(lambda count=count: link.client.settled() == (3, count))  # type: ignore[misc]
        assert link.signals.writes == before + 1
    await link.client.aclose()
    assert link.client.settled() == (3, 3)


async def test_counts_begin_anew(consumer: Consumer) -> None:
    """Each connection has its own."""
    link = await connected(consumer)
    link.start([Batch.of([b"one", b"two"])])
    await send(link.peer, b"2\n")
    await until(lambda: link.client.settled().confirmed == 2)
    await link.client.aclose()
    await link.client.connect()
    peer = await consumer.accept()
    link.client.start([Batch.of([b"three"])])

    assert link.client.settled() == (1, 0)
    await send(peer, b"1\n")
    await until(lambda: link.client.settled() == (1, 1))
    await link.client.aclose()


@pytest.mark.parametrize("ack", sorted(TCP_ACKS), ids=lambda ack: ack.label)
async def test_not_asked_for(consumer: Consumer, ack: Ack) -> None:
    """At other levels what a consumer says is thrown away, whatever it is."""
    link = await connected(consumer, ack)
    await send(link.peer, b"hello, who are you? 17 18 19\n" * 10_000)
    link.start([Batch.of([b"one"])])
    await receive(link.peer, 4)

    await until(lambda: link.client.settled() == (1, 1))
    assert not link.signals.errors
    await link.client.aclose()


# -- answers that cannot be true ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "said,wrong",
    [
        (b"4\n", "acknowledged 4 messages, and 3 were sent"),
        (b"2\n1\n", "acknowledged 2 messages, and then 1"),
        (b"thanks\n", "answers something else than how many messages it has"),
        (b"x" * 70_000, "answers something else"),
        (b"99999999999999999999\n", "acknowledged 99,999,999,999,999,999,999 messages, and 3 were sent"),
    ],
)
async def test_what_cannot_be_true(consumer: Consumer, said: bytes, wrong: str) -> None:
    """It breaks the connection, in words, and confirms nothing."""
    link = await connected(consumer)
    link.start([Batch.of([b"one", b"two", b"three"])])
    await send(link.peer, said)
    await until(lambda: link.signals.errors)

    assert wrong in str(link.signals.errors[0])
    assert isinstance(link.signals.errors[0], SendError)
    assert link.client.settled().confirmed in (0, 2)
    await link.client.aclose()


async def test_one_more_than_one(consumer: Consumer) -> None:
    """One is one in words, too."""
    link = await connected(consumer)
    link.start([Batch.of([b"one"])])
    await send(link.peer, b"2\n")
    await until(lambda: link.signals.errors)

    assert "acknowledged 2 messages, and 1 was sent; " in str(link.signals.errors[0])
    await link.client.aclose()


async def test_more_than_the_kernel_has(small: Consumer) -> None:
    """What was handed over and did not go out yet cannot have been taken; what did can, to the message."""
    link = await connected(small)
    link.fill(Batch.of([b"x" * 999] * 1000))
    written = link.client.settled().written
    taken = link.client._ledger.taken
    assert 0 < written < taken
    await send(link.peer, b"%d\n" % written)
    await until(lambda: link.client.settled().confirmed == written)
    assert link.client.pending
    await send(link.peer, b"%d\n" % taken)
    await until(lambda: link.signals.errors)

    assert f"acknowledged {taken:,} messages, and {written:,} were sent" in str(link.signals.errors[0])
    assert link.client.settled().confirmed == written
    await link.client.aclose()


# -- breaks ----------------------------------------------------------------------------------------


def not_gone(timeout: float | None = None, /) -> list[tuple[int, int]]:
    return []


@pytest.mark.parametrize("how", ["read first", "by a send that fails"])
async def test_answered_just_before_the_break(consumer: Consumer, how: str) -> None:
    """What was answered before the connection broke counts, whoever noticed that: it is not sent again."""
    link = await connected(consumer)
    link.start([Batch.of([b"one", b"two", b"three"])])
    await receive(link.peer, 14)
    await send(link.peer, b"1\n2\n")
    reset(link.peer)
    if how != "read first":
        link.client._gone = not_gone  # as if the reset came after that look
        assert link.start([Batch.of([b"four"])]) == 0
        link.client._break_with(link.client._socket, BrokenPipeError(32, "Broken pipe"))
    await until(lambda: link.signals.errors)

    assert link.client.settled().confirmed == 2
    await link.client.aclose()
    assert link.client.settled().confirmed == 2


async def test_sent_again_from_the_right_message(consumer: Consumer) -> None:
    """After a break a producer sends what was not answered, from the first such message on, and no other."""
    policy = replace(DeliveryPolicy.relay(), ack=Ack.APP, retry=Retry(backoff=0.01))
    async with Producer("audit", make(consumer), policy) as producer:
        results = [asyncio.ensure_future(producer.forward(b"%d" % number)) for number in range(6)]
        peer = await consumer.accept()
        assert await receive(peer, 12) == b"0\n1\n2\n3\n4\n5\n"
        await send(peer, b"4\n")
        await asyncio.gather(*results[:4])
        reset(peer)
        peer = await consumer.accept()

        assert await receive(peer, 4) == b"4\n5\n"
        await send(peer, b"2\n")
        outcomes = await asyncio.gather(*results)
    assert [result.attempts for result in outcomes] == [1, 1, 1, 1, 2, 2]
    assert {result.ack for result in outcomes} == {Ack.APP}


@pytest.mark.usefixtures("unhurried")
async def test_consumer_that_never_answers(consumer: Consumer) -> None:
    """The attempt ends by the timeout, and the error says what is missing, and the next step."""
    client = make(consumer)
    client.timeout = 0.3
    policy = replace(DeliveryPolicy.direct(), ack=Ack.APP, deadline=60.0)
    async with Producer("audit", client, policy) as producer:
        result = await producer.forward(b"hello")

    assert result.attempts == 1
    assert "takes messages and acknowledges none (does it acknowledge? " in str(result.error)
    assert "a listener of Producer Pool does with ack-after=): nothing moved for 300ms" in str(result.error)


@pytest.mark.usefixtures("unhurried")
async def test_consumer_that_stops_answering(consumer: Consumer) -> None:
    """The error says how far it came."""
    client = make(consumer)
    client.timeout = 0.3
    policy = replace(DeliveryPolicy.direct(), ack=Ack.APP, deadline=60.0)
    async with Producer("audit", client, policy) as producer:
        first = asyncio.ensure_future(producer.forward(b"one"))
        peer = await consumer.accept()
        await send(peer, b"0\n")
        await receive(peer, 4)
        await send(peer, b"1\n")
        assert (await first).ok
        second = await producer.forward(b"two")

    assert "has acknowledged 1 of 2 messages, and says nothing more" in str(second.error)


async def test_consumer_that_does_not_read(small: Consumer) -> None:
    """What it would have to read first is the other fault."""
    link = await connected(small)
    link.fill(Batch.of([b"x" * 9999] * 100))

    assert link.client.why_stalled() == "accepts but does not read"
    await link.client.aclose()
    plain = await connected(small, Ack.KERNEL)
    assert plain.client.why_stalled() == "accepts but does not read"
    await plain.client.aclose()


@pytest.mark.usefixtures("unhurried")
async def test_slow_consumer_that_says_so(consumer: Consumer) -> None:
    """One that repeats its count is at work, and is given its time."""
    client = make(consumer)
    client.timeout = 0.5
    policy = replace(DeliveryPolicy.direct(), ack=Ack.APP, deadline=60.0)
    loop = asyncio.get_running_loop()
    async with Producer("audit", client, policy) as producer:
        forwarding = asyncio.ensure_future(producer.forward(b"hello"))
        peer = await consumer.accept()
        began = loop.time()
        while loop.time() < began + 3 * client.timeout:
            await send(peer, b"0\n")
            await asyncio.wait([forwarding], timeout=0.1)
        assert not forwarding.done()
        await send(peer, b"1\n")

        assert (await forwarding).attempts == 1


# -- over TLS --------------------------------------------------------------------------------------


async def test_encrypted(authority: Authority) -> None:
    """The same over TLS, answers that came just before the end among it."""
    got: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for count in (1, 2, 3):
            got.append(await reader.readline())
            writer.write(b"%d\n" % count)
        got.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity(authority.issue()).context)
    endpoint = Endpoint.parse(f"tcp+tls://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    tls = client_tls(TlsClientOptions(tls_ca=authority.file), "127.0.0.1", where="here")
    client = AcknowledgedClient(
        TcpDialer(endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp+tls", tls=tls
    )
    client.attach(FakeSignals(Ack.APP))
    await client.connect()
    assert client.start([Batch.of([b"one", b"two"]), Batch.of([b"three"])]) == 2
    await until(lambda: client.settled() == (3, 3))
    await client.aclose()

    await until(lambda: len(got) == 4)
    assert got == [b"one\n", b"two\n", b"three\n", b""]
    server.close()
