"""The stream client: what it sends, what it counts, and what it says when the connection breaks."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, InvalidOption, Rejected, SendError
from producer_pool.model.framing import LENGTH4, LINES
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from producer_pool.toolkit.streams.progress import TCP_ACKS
from support.consumers import reserved_port
from support.descriptors import OUT_OF_FILES
from support.sending import LEVELS, Connected, connected, make, needs_kernel
from support.streams import Consumer, FakeSignals, receive, receive_all, reset, send, until

# -- sending ---------------------------------------------------------------------------------------


async def test_batch_goes_out_framed(link: Connected) -> None:
    """One batch, one piece of the stream; written at once, confirmed in time."""
    assert link.start([Batch.of([b"one", b"", b"three"])]) == 1
    assert link.client.settled().written == 3
    assert await receive(link.peer, 11) == b"one\n\nthree\n"
    await until(lambda: link.client.settled().confirmed == 3)
    assert link.signals.writes == 0


async def test_messages_before_the_offset_are_skipped(link: Connected) -> None:
    """A batch that was partly settled on an earlier connection goes on where it was."""
    batch = Batch.of([b"one", b"two", b"three"])
    assert link.start([batch, Batch.of([b"four"])], 2) == 2
    assert link.client.settled().written == 2
    assert await receive(link.peer, 11) == b"three\nfour\n"


async def test_many_batches_at_once(link: Connected) -> None:
    """Small ones are joined, large ones go alone, the order stays, and an empty one is no trouble."""
    batches = [Batch.of([b"x%d" % n]) for n in range(1500)]
    batches[700:700] = [Batch.of([b"y" * 100_000]), Batch.of([]), Batch.of([b"z" * 70_000])]
    expected = b"".join(batch.wire(LINES) for batch in batches)
    reading = asyncio.ensure_future(receive(link.peer, len(expected)))
    done = 0
    while done < len(batches):
        done += link.start(batches[done:])
        await asyncio.sleep(0)

    assert await reading == expected
    await until(lambda: link.client.settled().confirmed == len(batches) - 1)


async def test_same_bytes_for_many_consumers(consumer: Consumer) -> None:
    """What came in the framing that goes out is not made again."""
    batch = Batch.from_wire(b"a\nb\n", LINES)
    links = [await connected(consumer, Ack.WRITTEN) for _ in range(3)]
    for link in links:
        link.start([batch])

    assert batch.wire(LINES) is batch.wire(LINES)
    for link in links:
        assert await receive(link.peer, 4) == b"a\nb\n"
        await link.client.aclose()


async def test_framing_of_the_url(consumer: Consumer) -> None:
    """Each consumer gets the framing that it asks for."""
    link = await connected(consumer, Ack.WRITTEN, framing=LENGTH4)
    link.start([Batch.of([b"a\nb"])])

    assert await receive(link.peer, 7) == b"\0\0\0\3a\nb"
    await link.client.aclose()


async def test_start_takes_what_the_kernel_takes(narrow: Connected) -> None:
    """At most one batch is partly written; after it nothing is taken until writable()."""
    batch = Batch.of([b"x" * 99_999])
    taken = narrow.fill(batch)
    settled = narrow.client.settled()

    assert settled.written in (taken, taken - 1)
    assert narrow.start([batch]) == 0
    await receive(narrow.peer, taken * 100_000)
    await until(lambda: narrow.signals.writes)
    assert narrow.client.settled().written == taken
    assert narrow.start([batch]) == 1


async def test_joined_batches_that_do_not_fit(narrow: Connected) -> None:
    """Of several small ones, those are taken of which the kernel has a part; the rest is not."""
    narrow.fill(Batch.of([b"x" * 999]))
    small = [Batch.of([b"%05d" % n]) for n in range(2000)]
    reading = asyncio.ensure_future(receive_all(narrow.peer))
    await until(lambda: narrow.signals.writes)
    done = 0
    while done < len(small):
        seen = narrow.signals.writes
        taken = narrow.start(small[done:])
        done += taken
        if not taken:
            await until(lambda seen=seen: narrow.signals.writes > seen)  # type: ignore[misc]
    await until(lambda: narrow.client._tail.nbytes == 0)
    await narrow.client.aclose()

    assert (await reading).endswith(b"".join(batch.wire(LINES) for batch in small))


async def test_slow_consumer_is_seen_to_read(narrow: Connected) -> None:
    """Inside a batch of megabytes the count moves on, so that nobody takes slow for dead."""
    batch = Batch.of([b"x" * 999] * 50_000)
    assert narrow.start([batch]) == 1
    before = narrow.client.settled()
    # The kernel says "writable" only when a third of its buffer is free.
    while narrow.client.settled().confirmed == before.confirmed:
        await receive(narrow.peer, 100_000)

    assert before.confirmed < narrow.client.settled().confirmed < 50_000


# -- without a producer, and misfits ---------------------------------------------------------------


@pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)
async def test_client_alone(consumer: Consumer, ack: Ack) -> None:
    """send() connects, sends, and waits for the level."""
    client = make(consumer)
    client.ack = ack
    await client.send(b"one")
    peer = await consumer.accept()
    await client.send(b"two")

    assert await receive(peer, 8) == b"one\ntwo\n"
    await client.aclose()


async def test_client_alone_without_a_consumer() -> None:
    """The error cannot be taken for a message that may have arrived."""
    with reserved_port() as nobody:
        nowhere = Endpoint.parse(f"tcp://127.0.0.1:{nobody.getsockname()[1]}")
        client = StreamClient(TcpDialer(nowhere, TcpOptions()), StreamClientOptions(), protocol_name="tcp")
        with pytest.raises(ConnectError, match="connection refused"):
            await client.send(b"one")


class _OutOfFiles(TcpDialer):
    """Lets an error of the system through."""

    async def dial(self, timeout: float) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_dialer_with_an_error_of_the_system(consumer: Consumer) -> None:
    """It is one of ours for whoever connects, with what to do about it."""
    dialer = _OutOfFiles(consumer.endpoint, TcpOptions())
    client = StreamClient(dialer, StreamClientOptions(), protocol_name="tcp")
    with pytest.raises(ConnectError, match=f"{dialer.address}: {OUT_OF_FILES}"):
        await client.connect()


@pytest.mark.usefixtures("unhurried")
async def test_client_alone_whose_consumer_never_reads(small: Consumer) -> None:
    """Once the buffers are full, an attempt ends within the timeout."""
    client = make(small)
    client.timeout = 0.1
    await client.connect()
    await client.aclose()

    async def send_for_ever() -> None:
        while True:
            await client.send(b"x" * 1_000_000)

    with pytest.raises(SendError, match="within"):
        await send_for_ever()
    await client.aclose()


def test_acks_of_the_platform(consumer: Consumer) -> None:
    """A client can be asked for what its kernel can tell."""
    assert make(consumer).acks == TCP_ACKS


def test_misfits_of_the_framing(consumer: Consumer) -> None:
    """A message that the framing cannot carry is rejected alone, with the way out."""
    batch = Batch.of([b"fine", b"two\nlines", b"fine too"])

    unfit = make(consumer).misfits(batch)

    assert list(unfit) == [1]
    assert isinstance(unfit[1], Rejected)
    assert "use framing=length4" in str(unfit[1])
    assert make(consumer, framing=LENGTH4).misfits(batch) == {}


def test_messages_that_are_too_long(consumer: Consumer) -> None:
    """The limit counts the message, not the batch and not its frame."""
    client = make(consumer, max_message=4)

    assert client.misfits(Batch.of([b"1234"] * 10)) == {}
    unfit = client.misfits(Batch.of([b"1234", b"12345", b"1\n3"]))
    assert sorted(unfit) == [1, 2]
    assert "message of 5 bytes, and tcp takes 4; see max-message" in str(unfit[1])


def test_limit_that_makes_no_sense(consumer: Consumer) -> None:
    """Such an option is an error that names it."""
    with pytest.raises(InvalidOption, match="max-message must be at least 1 byte"):
        make(consumer, max_message=0)


# -- protocols in which both sides talk ------------------------------------------------------------


class Talker(StreamClient):
    """Answers each question mark of its consumer by an exclamation mark."""

    heard = b""

    def received(self, data: memoryview) -> None:
        self.heard += bytes(data)
        self.say(b"!" * bytes(data).count(b"?"))


@needs_kernel
async def test_words_between_messages(consumer: Consumer) -> None:
    """They keep their place in the stream, and are counted as no message."""
    client = Talker(TcpDialer(consumer.endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp")
    signals = FakeSignals(Ack.KERNEL)
    client.attach(signals)
    await client.connect()
    peer = await consumer.accept()
    client.start([Batch.of([b"one"])])
    await send(peer, b"who? where?")
    await until(lambda: client.heard)
    client.start([Batch.of([b"two"])])

    assert await receive(peer, 10) == b"one\n!!two\n"
    await until(lambda: client.settled() == (2, 2))
    reset(peer)
    await until(lambda: signals.errors)
    assert client.settled() == (2, 2)
    client.say(b"too late")
    await client.aclose()


def test_loops_in_two_threads() -> None:
    """What the consumers of two loops say is not mixed up, though each loop has one buffer for all."""
    sizes = (50, 51, 52)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    async def listen(letter: bytes) -> bytes:
        with Consumer() as consumer:
            client = Talker(
                TcpDialer(consumer.endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp"
            )
            await client.connect()
            peer = await consumer.accept()
            for _ in range(300):
                await send(peer, letter * 10_000)
            await until(lambda: len(client.heard) == 3_000_000)
            await client.aclose()
            return client.heard

    try:
        with ThreadPoolExecutor(len(sizes)) as threads:
            heard = list(threads.map(lambda size: asyncio.run(listen(b"%c" % size)), sizes))
    finally:
        sys.setswitchinterval(interval)

    assert [set(words) for words in heard] == [{size} for size in sizes]


async def test_words_behind_half_a_batch(small: Consumer) -> None:
    """They wait until the batch before them is out."""
    client = Talker(TcpDialer(small.endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp")
    client.attach(FakeSignals())
    await client.connect()
    peer = await small.accept()
    client.start([Batch.of([b"x" * 9_999_999])])
    client.say(b"!")
    client.say(b"!")
    await receive(peer, 10_000_000)
    await until(lambda: client.start([Batch.of([b"y"])]))

    assert await receive(peer, 4) == b"!!y\n"
    assert client.settled().written == 2
    await client.aclose()
