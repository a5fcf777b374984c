"""The stream client: what it sends, what it counts, and what it says when the connection breaks."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, InvalidOption, Rejected, SendError
from producer_pool.model.framing import LENGTH4, LINES, NUL, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.progress import TCP_ACKS
from producer_pool.toolkit.sockets import TcpDialer, TcpOptions
from producer_pool.toolkit.stream_client import StreamClient, StreamClientOptions
from support.streams import Consumer, FakeSignals, is_reset, receive, receive_all, reset, send, until

LEVELS = sorted(TCP_ACKS)
needs_kernel = pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")


def make(consumer: Consumer, *, framing: Framing = LINES, max_message: int = 1 << 20) -> StreamClient:
    options = StreamClientOptions(framing=framing, max_message=max_message)
    return StreamClient(TcpDialer(consumer.endpoint, TcpOptions()), options, protocol_name="tcp")


class Connected:
    """A client, its consumer's socket, and what the client said."""

    def __init__(self, client: StreamClient, peer: socket.socket, signals: FakeSignals) -> None:
        self.client = client
        self.peer = peer
        self.signals = signals

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.signals.starting = True
        taken = self.client.start(batches, offset)
        self.signals.starting = False
        return taken

    def fill(self, batch: Batch) -> int:
        """Start *batch* until the client takes no more; return how often it did."""
        count = 0
        while self.start([batch]):
            count += 1
        return count


async def connected(consumer: Consumer, ack: Ack, *, framing: Framing = LINES) -> Connected:
    client = make(consumer, framing=framing)
    signals = FakeSignals(ack)
    client.attach(signals)
    await client.connect()
    return Connected(client, await consumer.accept(), signals)


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
    await made.client.aclose()


@pytest.fixture(params=LEVELS, ids=lambda level: level.label)
async def narrow(request: pytest.FixtureRequest, small: Consumer) -> AsyncIterator[Connected]:
    """Return a client of a consumer that does not take much."""
    made = await connected(small, request.param)
    yield made
    await made.client.aclose()


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


# -- breaks ----------------------------------------------------------------------------------------


def in_kernel_of(sock: socket.socket) -> int:
    """Return the bytes that wait in a socket's receive buffer."""
    answer: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0" * 4))[0]
    return answer


@needs_kernel
@pytest.mark.parametrize("framing", [LINES, NUL, LENGTH4], ids=lambda framing: framing.name)
@pytest.mark.parametrize("read", [0, 1, 10, 77_777])
async def test_consumer_killed_in_the_middle(small: Consumer, framing: Framing, read: int) -> None:
    """After a break exactly those messages count as confirmed that the other kernel has wholly."""
    link = await connected(small, Ack.KERNEL, framing=framing)
    batch = Batch.of([b"%06d" % n for n in range(1000)])
    taken = link.fill(batch)
    await receive(link.peer, read)
    size = len(batch.wire(framing))
    # Whoever reads makes room, and more comes: wait until the two kernels agree on how much that was.
    sent = link.client._ledger.position - len(link.client._tail)
    progress = link.client._progress
    assert progress is not None
    await until(lambda: progress.acknowledged(sent) == read + in_kernel_of(link.peer))
    arrived = read + in_kernel_of(link.peer)
    reset(link.peer)
    await until(lambda: link.signals.errors)
    settled = link.client.settled()

    frame = size // 1000
    assert settled.confirmed == arrived // frame
    assert settled.written == (link.client._ledger.position - len(link.client._tail)) // frame
    assert settled.confirmed <= settled.written <= taken * 1000
    assert isinstance(link.signals.errors[0], SendError)
    await link.client.aclose()
    assert link.client.settled() == settled


async def test_written_stops_at_a_message(narrow: Connected) -> None:
    """A batch of which the kernel took a part counts up to the last whole message of that part."""
    batch = Batch.of([b"x" * 1023] * 5000)
    narrow.fill(batch)
    sent = narrow.client._ledger.position - narrow.client._tail.nbytes
    reset(narrow.peer)
    await until(lambda: narrow.signals.errors)

    assert narrow.client.settled().written == sent // 1024


async def test_start_after_the_consumer_ended(link: Connected) -> None:
    """The write that TCP would take and lose is not made, though the loop has not seen the end yet."""
    link.peer.close()
    assert has_ended(link.client)
    taken = link.start([Batch.of([b"lost?"])])

    assert taken == 0
    assert link.client.settled() == (0, 0)
    await until(lambda: link.signals.errors)
    assert "the consumer closed the connection" in str(link.signals.errors[0])
    assert link.start([Batch.of([b"later"])]) == 0


def has_ended(client: StreamClient) -> bool:
    """Wait until the consumer's end has arrived, without letting the loop see it."""
    poll = select.poll()
    assert client._socket is not None
    poll.register(client._socket, select.POLLRDHUP)
    return bool(poll.poll(1000))


def not_gone(timeout: float | None = None, /) -> list[tuple[int, int]]:
    return []


async def test_consumer_ends_after_reading(link: Connected) -> None:
    """What it had read is settled; broken() comes once."""
    link.start([Batch.of([b"one"])])
    await receive(link.peer, 4)
    await until(lambda: link.client.settled().confirmed == 1)
    link.peer.close()
    await until(lambda: link.signals.errors)
    await asyncio.sleep(0)

    assert link.client.settled() == (1, 1)
    assert len(link.signals.errors) == 1


async def test_send_that_fails(link: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error out of start() is told later, once, and the batch is not taken."""
    reset(link.peer)
    assert has_ended(link.client)
    link.client._gone = not_gone  # as if the reset came after that look
    taken = link.start([Batch.of([b"x"])])

    assert taken == 0
    assert not link.signals.errors
    await until(lambda: link.signals.errors)
    await asyncio.sleep(0)
    assert len(link.signals.errors) == 1


async def test_closed_before_the_break_is_told(link: Connected) -> None:
    """A connection that was closed meanwhile has nothing more to say, and a new one nothing of the old."""
    reset(link.peer)
    assert has_ended(link.client)
    link.client._gone = not_gone
    link.start([Batch.of([b"x"])])
    await link.client.aclose()
    await link.client.connect()
    await asyncio.sleep(0)

    assert not link.signals.errors


async def test_consumer_that_talks(link: Connected) -> None:
    """What it says is thrown away, however much it is, and delivery goes on."""
    talking = asyncio.ensure_future(send(link.peer, b"blah" * 1_000_000))
    await talking
    assert link.start([Batch.of([b"hello"])]) == 1
    assert await receive(link.peer, 6) == b"hello\n"
    assert not link.signals.errors


# -- closing ---------------------------------------------------------------------------------------


async def test_close_in_good_order(link: Connected) -> None:
    """All that was written arrives, and then a clean end."""
    link.start([Batch.of([b"x" * 99_999])])
    await until(lambda: link.client.settled().written == 1)
    await asyncio.gather(link.client.aclose(), check_all(link.peer, b"x" * 99_999 + b"\n"))
    await link.client.aclose()


async def check_all(sock: socket.socket, expected: bytes) -> None:
    assert await receive_all(sock) == expected


async def test_close_of_a_talking_consumer(link: Connected) -> None:
    """Unread words of the consumer do not turn the end into a reset."""
    link.start([Batch.of([b"x" * 99])])
    await send(link.peer, b"ok\n")
    await until(lambda: link.client._heard)
    await send(link.peer, b"ok\n" * 1000)
    closing = asyncio.ensure_future(link.client.aclose())
    got = await receive_all(link.peer)
    await send(link.peer, b"bye\n")
    link.peer.close()
    await closing

    assert got == b"x" * 99 + b"\n"


async def test_close_inside_a_frame(narrow: Connected) -> None:
    """Half a message is followed by a reset, so that nobody takes it for a whole one."""
    narrow.start([Batch.of([b"x" * 20_000_000])])
    await narrow.client.aclose()

    assert await is_reset(narrow.peer)


async def test_close_between_frames_of_a_batch(narrow: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was cut between two messages ends in good order: there is no half message."""
    batch = Batch.of([b"x" * 999] * 100)
    real = narrow.client._send

    def send_part(data: Any) -> int:
        return real(data[:50_000])

    monkeypatch.setattr(narrow.client, "_send", send_part)
    narrow.start([batch])
    assert narrow.client._tail.nbytes == 50_000
    await asyncio.gather(narrow.client.aclose(), check_all(narrow.peer, batch.wire(LINES)[:50_000]))


async def test_connect_again(link: Connected, consumer: Consumer) -> None:
    """After a break and aclose(), the counts start anew on a new connection."""
    link.start([Batch.of([b"one"])])
    reset(link.peer)
    await until(lambda: link.signals.errors)
    await link.client.aclose()
    signals = FakeSignals(link.signals.ack)
    link.client.attach(signals)
    await link.client.connect()
    peer = await consumer.accept()
    link.client.start([Batch.of([b"two"])])

    assert await receive(peer, 4) == b"two\n"
    assert link.client.settled().written == 1


async def test_before_connect(consumer: Consumer) -> None:
    """Nothing is taken and nothing settled; closing is no trouble."""
    client = make(consumer)

    assert client.start([Batch.of([b"x"])]) == 0
    assert client.settled() == (0, 0)
    await client.aclose()


async def test_cancelled_connect_can_be_repeated(consumer: Consumer) -> None:
    """A connect that was given up leaves a client that can connect."""
    client = make(consumer)
    connecting = asyncio.ensure_future(client.connect())
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    await client.connect()
    await client.aclose()


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
    with Consumer() as gone:
        client = make(gone)
    with pytest.raises(ConnectError, match="connection refused"):
        await client.send(b"one")


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
