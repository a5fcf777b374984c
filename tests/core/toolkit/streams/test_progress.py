"""What the kernel says of the bytes that were sent."""

from __future__ import annotations

import random
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.progress import TCP_ACKS, TcpProgress, UnixProgress
from support.streams import BOUND, Consumer, receive, reset, until

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
        after = progress.acknowledged(total)
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")

        # Up to the reset a kernel may send on, though nobody reads.
        assert before <= after == progress.acknowledged(total) < total
        ours.close()
        with pytest.raises(ValueError, match="descriptor"):
            progress.acknowledged(total)


async def test_first_write_after_a_fin_is_seen_as_lost() -> None:
    """It succeeds, and stays unacknowledged for ever: the trap that WRITTEN falls into."""
    with Consumer() as consumer:
        ours, theirs = await _connected(consumer)
        progress = TcpProgress(ours)
        theirs.close()
        await until(lambda: select.select([ours], [], [], 0)[0])

        assert ours.send(b"hello") == 5
        await until(lambda: ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        assert progress.acknowledged(5) == 0
        ours.close()


# -- between processes of one machine --------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two ends of a stream: ours, which does not wait, and the consumer's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def push(sock: socket.socket, progress: UnixProgress, total: int, size: int) -> int:
    """Send up to *size* bytes as a client does, and return how many bytes that makes."""
    try:
        return total + progress.noted(sock.send)(bytes(size))
    except BlockingIOError:
        return total


SIZES = st.one_of(st.integers(1, 300), st.integers(1, 300_000))


@given(steps=st.lists(st.tuples(st.booleans(), SIZES), max_size=60))
def test_never_more_than_was_read(steps: list[tuple[bool, int]]) -> None:
    """However sends and reads follow each other, what counts has been read; in the end, that is all."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        progress = UnixProgress(ours)
        total = read = counted = 0
        for sends, size in steps:
            if sends:
                total = push(ours, progress, total, size)
            else:
                read += len(_receive(theirs, size))
            before, counted = counted, progress.acknowledged(total)

            assert before <= counted <= read
        while read < total:
            read += len(_receive(theirs, total))

        assert progress.acknowledged(total) == total


def _receive(sock: socket.socket, size: int) -> bytes:
    try:
        return sock.recv(size)
    except BlockingIOError:
        return b""


@given(data=st.data())
def test_reads_during_sends(data: st.DataObject) -> None:
    """A consumer that reads between the looks at a send makes less count, and never more than it read."""
    kernel = Kernel()
    progress = Modelled(kernel)
    sizes = data.draw(st.lists(SIZES, min_size=1, max_size=40))
    reads = st.integers(0, 400_000)
    counted = 0
    for size in sizes:

        def send(wire: bytes | memoryview) -> int:
            kernel.read(data.draw(reads))
            kernel.send(wire)
            kernel.read(data.draw(reads))
            return len(wire)

        progress.noted(send)(bytes(size))
        kernel.read(data.draw(reads))
        before, counted = counted, progress.acknowledged(kernel.sent)

        assert before <= counted <= kernel.was_read
    kernel.read(kernel.sent)

    assert progress.acknowledged(kernel.sent) == kernel.sent


class Kernel:
    """Buffers of one connection: what is not read to the end of a buffer takes all of its memory."""

    def __init__(self) -> None:
        self.sent = self.was_read = 0
        self._buffers: deque[tuple[int, int]] = deque()
        """Ends, and memory."""

    def send(self, wire: bytes | memoryview) -> int:
        size = len(wire)
        while size:
            part = min(size, 36_864)
            size -= part
            self.sent += part
            self._buffers.append((self.sent, part + 768))
        return len(wire)

    def read(self, size: int) -> None:
        self.was_read = min(self.was_read + size, self.sent)
        while self._buffers and self._buffers[0][0] <= self.was_read:
            self._buffers.popleft()

    @property
    def memory(self) -> int:
        return sum(memory for _, memory in self._buffers)


class Modelled(UnixProgress):
    """What it looks at is a model."""

    def __init__(self, kernel: Kernel) -> None:
        with socket.socket() as sock:
            super().__init__(sock)
        self._kernel = kernel
        self._poll = lambda timeout=None, /: []

    def _unread(self) -> int:
        return self._kernel.memory


def test_consumer_that_closes_between_two_looks() -> None:
    """The number falls to 0 only after the other side is seen to be gone; so the first look decides."""
    kernel = Kernel()
    progress = Modelled(kernel)
    progress.noted(kernel.send)(bytes(1000))
    looks = 0

    def close_after_the_first_look() -> bool:
        nonlocal looks
        looks += 1
        return looks > 1

    def unread() -> int:
        return 0 if close_after_the_first_look() else kernel.memory

    progress._unread = unread  # type: ignore[method-assign]
    progress._poll = lambda timeout=None, /: [(0, select.POLLHUP)] if close_after_the_first_look() else []

    assert progress.acknowledged(1000) == 0


def test_each_read_of_a_small_message_counts(pair: tuple[socket.socket, socket.socket]) -> None:
    """Messages of ten bytes, each sent alone and taking 768 bytes of memory, are told apart."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = 0
    for _ in range(100):
        total = push(ours, progress, total, 10)
    counted = []
    for _ in range(100):
        theirs.recv(10)
        counted.append(progress.acknowledged(total))

    assert counted == list(range(10, 1010, 10))


def test_reads_inside_one_send_count(pair: tuple[socket.socket, socket.socket]) -> None:
    """A slow consumer of much that was sent at once is seen to read: buffer by buffer, and not at the end."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 150_000)
    counted = []
    for read in range(5_000, 150_001, 5_000):
        theirs.recv(5_000, socket.MSG_WAITALL)
        counted.append(progress.acknowledged(total))

        assert counted[-1] <= read
    assert len(set(counted)) >= 4
    assert counted[-1] == total


def test_more_sends_than_are_told_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    """The record stays small, and what counts is still never more than was read, and all in the end."""
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    progress = UnixProgress(ours)
    total = read = 0
    while (more := push(ours, progress, total, 1)) > total:
        total = more

        assert len(progress._sends) <= 1024
    assert total > 200
    while read < total:
        read += len(theirs.recv(7))

        assert progress.acknowledged(total) <= read
    assert progress.acknowledged(total) == total


def test_consumer_that_reads_while_we_send(pair: tuple[socket.socket, socket.socket]) -> None:
    """Sends that overlap with reads, and a consumer that ends somewhere: what counts, it had read."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    chance = random.Random(4)
    read = 0

    def consume() -> None:
        nonlocal read
        while read < 3_000_000 and (data := theirs.recv(chance.randrange(1, 40_000))):
            read += len(data)
        theirs.close()

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    total = 0
    try:
        while True:
            total = push(ours, progress, total, chance.choice((1, 128, 5_000, 65_536)))
            progress.acknowledged(total)
    except OSError:
        progress.failed()
    consumer.join(BOUND)

    assert 0 < progress.acknowledged(total) <= read


def test_consumer_that_closes_with_unread_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel throws them away, and they do not count; arithmetic with bytes takes them for read."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    naive = TcpProgress(ours)
    total = 0
    for _ in range(10):
        total = push(ours, progress, total, 100)
    theirs.recv(250)
    theirs.close()

    assert naive.acknowledged(total) == total
    assert progress.acknowledged(total) <= 250
    assert progress.acknowledged(total) <= 250  # the error that tells of it is told only once


def test_send_that_takes_the_error_away(pair: tuple[socket.socket, socket.socket]) -> None:
    """What says that unread bytes were thrown away is told once: to a send, if that comes first."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 1000)
    theirs.close()

    def send(data: bytes | memoryview) -> int:
        # As the kernel does where the other side closes in the middle of it.
        raise OSError(ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "reset")

    with pytest.raises(ConnectionResetError):
        progress.noted(send)(b"x")

    assert progress.acknowledged(total) == 0


def test_large_sends(pair: tuple[socket.socket, socket.socket]) -> None:
    """All of one counts when something of the next was read, and all of the last when that was."""
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    progress = UnixProgress(ours)
    total = push(ours, progress, push(ours, progress, 0, 200_000), 200_000)

    assert total == 400_000

    counted: list[int] = []
    for _ in range(3):
        theirs.recv(200_000 if not counted else 100_000, socket.MSG_WAITALL)
        counted.append(progress.acknowledged(total))

    assert 0 < counted[0] <= 200_000 <= counted[1] <= 300_000
    assert counted[2] == 400_000


def test_consumer_that_closes_after_reading(pair: tuple[socket.socket, socket.socket]) -> None:
    """A close that throws nothing away says that all was read, though nobody looked in between."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 1000)
    theirs.recv(1000)
    theirs.close()

    assert progress.acknowledged(total) == total


@pytest.mark.parametrize("call", ["recv", "send"])
def test_error_of_a_close_that_somebody_else_was_told(
    pair: tuple[socket.socket, socket.socket], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that unread bytes were thrown away says so: the kernel does not say it again."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 1000)
    theirs.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ours.recv(1) if call == "recv" else ours.send(b"x")
    progress.failed()

    assert progress.acknowledged(total) == 0


@pytest.mark.parametrize("how", [socket.SHUT_RDWR, socket.SHUT_RD, socket.SHUT_WR])
def test_consumer_that_shuts_down_before_it_closes(
    pair: tuple[socket.socket, socket.socket], how: int
) -> None:
    """Nothing is thrown away yet, and nothing counts that was not read; nor when it closes."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 1000)
    theirs.shutdown(how)

    assert progress.acknowledged(total) == 0
    theirs.close()
    assert progress.acknowledged(total) == 0


def test_consumer_that_ends_its_side_and_reads_on(pair: tuple[socket.socket, socket.socket]) -> None:
    """What it reads after that counts."""
    ours, theirs = pair
    progress = UnixProgress(ours)
    total = push(ours, progress, 0, 1000)
    theirs.shutdown(socket.SHUT_WR)
    theirs.recv(1000)

    assert progress.acknowledged(total) == total


def test_listener_that_ends_before_it_accepts() -> None:
    """A connection that nobody took has read nothing."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as ours:
        listening.bind("")  # some free abstract name
        listening.listen()
        ours.connect(listening.getsockname())
        progress = UnixProgress(ours)
        total = push(ours, progress, 0, 1000)
        listening.close()

        assert progress.acknowledged(total) == 0
