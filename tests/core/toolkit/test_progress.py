"""What the kernel says of the bytes that were sent."""

from __future__ import annotations

import socket

import pytest

from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.progress import TCP_ACKS, TcpProgress
from support.streams import Consumer, receive, reset, until

pytestmark = pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")


async def _connected(consumer: Consumer) -> tuple[socket.socket, socket.socket]:
    ours = socket.create_connection(("127.0.0.1", consumer.port))
    ours.setblocking(False)
    return ours, await consumer.accept()


def _fill(sock: socket.socket) -> int:
    total = 0
    try:
        while True:
            total += sock.send(bytes(65536))
    except BlockingIOError:
        return total


async def test_all_is_acknowledged_in_time() -> None:
    """What the other side's kernel took is acknowledged, read or not."""
    with Consumer() as consumer:
        ours, _ = await _connected(consumer)
        progress = TcpProgress(ours)
        ours.send(b"hello\n")

        await until(lambda: progress.acknowledged(6) == 6)
        ours.close()


async def test_what_does_not_fit_is_not() -> None:
    """A consumer that does not read acknowledges what its buffer holds, not what ours does."""
    with Consumer(receive_buffer=4096) as consumer:
        ours, theirs = await _connected(consumer)
        progress = TcpProgress(ours)
        total = _fill(ours)

        assert 0 < progress.acknowledged(total) < total
        await receive(theirs, total)
        await until(lambda: progress.acknowledged(total) == total)
        ours.close()


async def test_answer_survives_the_connection() -> None:
    """After a reset the count stays what it was, until the socket is closed."""
    with Consumer(receive_buffer=4096) as consumer:
        ours, theirs = await _connected(consumer)
        progress = TcpProgress(ours)
        total = _fill(ours)
        before = progress.acknowledged(total)
        reset(theirs)
        await until(lambda: ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")

        assert progress.acknowledged(total) == before
        ours.close()
        with pytest.raises(ValueError, match="descriptor"):
            progress.acknowledged(total)


async def test_first_write_after_a_fin_is_seen_as_lost() -> None:
    """It succeeds, and stays unacknowledged for ever: the trap that WRITTEN falls into."""
    with Consumer() as consumer:
        ours, theirs = await _connected(consumer)
        progress = TcpProgress(ours)
        theirs.close()
        await until(lambda: ours.recv(1, socket.MSG_PEEK) == b"" or True)

        assert ours.send(b"hello") == 5
        await until(lambda: ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        assert progress.acknowledged(5) == 0
        ours.close()
