"""What is kept of a connection, and the options of all stream listeners."""

from __future__ import annotations

import socket
import tracemalloc

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.errors import InvalidOption
from producer_pool.model.framing import LINES
from producer_pool.toolkit.streams.connection import FramedConnection, StreamListenerOptions, Tail


def made(sock: socket.socket, origin: str = "") -> FramedConnection:
    return FramedConnection(sock, origin, 0.0, framing=LINES, decoder=LINES.decoder(1000))


def test_quiet_connection_is_small() -> None:
    """A thousand connections that say nothing take a megabyte or less, besides what the kernel keeps."""
    pairs = [socket.socketpair() for _ in range(100)]
    sizes = []
    for _ in range(3):  # Threads that an earlier test left behind may take memory, too, but not each time.
        tracemalloc.start()
        kept = [made(ours, f"tcp://127.0.0.1:{n}") for n, (ours, _) in enumerate(pairs)]
        sizes.append(tracemalloc.get_traced_memory()[0] / len(kept))
        tracemalloc.stop()

    assert min(sizes) < 1024
    for one in (sock for pair in pairs for sock in pair):
        one.close()


def test_answer_that_is_not_read() -> None:
    """What the kernel does not take is kept, and goes out first the next time."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = made(ours)
    sent = 0
    while not connection.answer(b"x" * 100_000):
        sent += 100_000
    left = len(connection.unsent)
    waits = connection.answer(b"y")

    assert waits
    assert connection.unsent == b"x" * left + b"y"
    got = theirs.recv(sent + 100_000)
    while connection.answer(b""):
        got += theirs.recv(1 << 20)
    ours.close()
    while part := theirs.recv(1 << 20):
        got += part
    assert got == b"x" * (sent + 100_000) + b"y"
    theirs.close()


@pytest.mark.parametrize(
    "query,wrong",
    [
        ({"max-message": "0"}, "max-message must be at least 1 byte"),
        ({"max-connections": "0"}, "max-connections must be at least 1"),
        ({"idle-timeout": "0s"}, "idle-timeout must be above 0 seconds; leave it out for none"),
    ],
)
def test_numbers_that_make_no_sense(query: dict[str, str], wrong: str) -> None:
    """Such an option is an error that names it and the URL."""
    options = coerce(StreamListenerOptions, query, where="tcp")

    with pytest.raises(InvalidOption, match=f"tcp://here:1: {wrong}"):
        options.check("tcp://here:1")


def test_options_from_a_url() -> None:
    """They are written with units and words."""
    query = {"tail": "deliver", "idle-timeout": "5m", "max-message": "64KiB", "framing": "lines"}

    options = coerce(StreamListenerOptions, query, where="tcp")

    assert (options.tail, options.idle_timeout, options.max_message) == (Tail.DELIVER, 300, 65536)
