"""Consumers that compare what they read, in place."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.cli.benching.board import Board
from producer_pool.cli.benching.book import Book, Shape
from producer_pool.cli.benching.quick import Connection, Quick
from producer_pool.cli.benching.verifying import Faults, Ledger
from producer_pool.model.framing import LENGTH4, LINES, Framing
from support.waiting import BOUND

SHAPE = Shape(20, 2, 4)


@pytest.fixture
def book() -> Book:
    """Return the messages."""
    return Book(SHAPE)


@pytest.fixture
def ledger(book: Book, tmp_path: Path) -> Iterator[Ledger]:
    """Return the ledger of the only consumer."""
    with Board(tmp_path / "board", producers=SHAPE.producers, consumers=1, slots=book.round) as board:
        yield Ledger(book, board, 0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two ends of a connection: a blocking one, and one to read from."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("framing", [LINES, LENGTH4], ids=lambda framing: framing.name)
@pytest.mark.parametrize("piece", [1, 7, 50, 10_000])
def test_frames_in_pieces(
    book: Book, ledger: Ledger, pair: tuple[socket.socket, socket.socket], framing: Framing, piece: int
) -> None:
    """However a stream is cut, all of it is compared."""
    ours, theirs = pair
    connection = Connection(theirs, ledger, framing)
    wire = framing.encode([book.message(index // 5 % 2, index // 10 * 5 + index % 5) for index in range(100)])
    for start in range(0, len(wire), piece):
        ours.sendall(wire[start : start + piece])
        assert connection.read()

    assert ledger.received == 100
    assert ledger.faults([50, 50]) == Faults()


def test_damage_is_found_and_the_rest_is_judged(
    book: Book, ledger: Ledger, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A line of another length does not make those behind it wrong, now or later."""
    ours, theirs = pair
    connection = Connection(theirs, ledger, LINES)
    lines = [book.message(0, index) for index in range(6)]
    ours.sendall(LINES.encode([lines[0], b"what is this", *lines[1:3]]) + lines[3][:5])
    assert connection.read()
    ours.sendall(lines[3][5:] + b"\n" + LINES.encode(lines[4:]))
    assert connection.read()

    assert ledger.faults([6, 0]) == Faults(damaged=1)


def test_end_of_a_connection(ledger: Ledger, pair: tuple[socket.socket, socket.socket]) -> None:
    """Nothing to read yet is not the end; the end is."""
    ours, theirs = pair
    connection = Connection(theirs, ledger, LINES)

    assert connection.read()
    ours.close()
    assert not connection.read()


def test_serving_until_nobody_asks(book: Book, ledger: Ledger) -> None:
    """It takes connections, reads, rings, hears what is asked in whole lines, and ends with who asks."""
    asked, asking = os.pipe()
    rung = threading.Event()
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    quick = Quick(asked, rung.set, 4)
    quick.listen(listening, lambda sock: Connection(sock, ledger, LINES))
    thread = threading.Thread(target=quick.serve, args=(heard.append,))
    thread.start()
    try:
        with socket.create_connection(listening.getsockname()) as sender:
            sender.sendall(LINES.encode(book.messages(0)[:4]))

            assert rung.wait(BOUND)
        os.write(asking, b"one\ntw")
        os.write(asking, b"o\n")
    finally:
        os.close(asking)
        thread.join(BOUND)
        quick.close()
        os.close(asked)

    assert not thread.is_alive()
    assert heard == [b"one", b"two"]
    assert ledger.faults([4, 0]) == Faults()
