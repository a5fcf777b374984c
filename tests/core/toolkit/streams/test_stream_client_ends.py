"""The ends of a stream client's connection: how it breaks, and how it is closed."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import SendError
from producer_pool.model.framing import LENGTH4, LINES, NUL, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.client import StreamClient
from support.sending import Connected, connected, make, needs_kernel
from support.streams import (
    BOUND,
    Consumer,
    FakeSignals,
    is_reset,
    receive,
    receive_all,
    reset,
    send,
    until,
)

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
    progress = link.client._progress
    assert progress is not None

    def agree() -> bool:
        sent = link.client._ledger.position - len(link.client._tail)
        return progress.acknowledged(sent) == read + in_kernel_of(link.peer)

    # Whoever reads makes room, and more comes: wait until the two kernels agree on how much that was.
    await until(agree)
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
    return bool(poll.poll(BOUND * 1000))


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


@pytest.mark.usefixtures("unhurried")
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
    connecting = asyncio.ensure_future(link.client.connect())
    await asyncio.sleep(0)
    assert link.client.settled() == (0, 0)
    await connecting
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
