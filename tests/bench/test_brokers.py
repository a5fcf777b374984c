"""The load speaks the protocols of the peers, and finds damage in them, too. Brokers of a test do it."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from logging.handlers import SocketHandler
from typing import Any, BinaryIO

import pytest

from bench import build
from bench.messages import Format
from bench.peers.launch import UnavailableError
from bench.traffic import LoadProcess, Traffic

COUNT = 180
TRAFFIC = Traffic(size=40, consumers=2, producers=2, batch=7, count=COUNT, idle=1.0)
"""Who has less than a second is called idle where a relay of these tests only waits for its turn."""
FAULTS = ("lost", "doubled", "reordered", "corrupt", "torn")
LARGE = 300
"""A size that MQTT writes in two bytes, and ZMTP in eight."""

# Takes the number of a message and its frame; returns what the first subscriber gets instead.
Damage = Callable[[int, bytes], list[bytes]]

pytestmark = pytest.mark.skipif(
    build.compiler() is None, reason="needs a C compiler: the load in C speaks them"
)


def intact(number: int, frame: bytes) -> list[bytes]:
    return [frame]


def found(result: dict[str, Any]) -> dict[str, int]:
    """What is wrong with the first consumer. The others have to be right."""
    first, *others = result["consumers"]
    for other in others:
        assert {name: other[name] for name in FAULTS if other[name]} == {}
    return {name: first[name] for name in FAULTS if first[name]}


# -- brokers ---------------------------------------------------------------------------------------


class Broker:
    """One thread for each connection. All that is published goes to all who subscribed."""

    def __init__(self, damage: Damage) -> None:
        self.answered = threading.Event()
        """Whether a subscriber has answered a ping."""
        self._damage = damage
        self._subscribers: list[socket.socket] = []
        self._published = 0
        self._lock = threading.Lock()

    def publish(self, frame: bytes) -> None:
        with self._lock:
            spoilt = self._damage(self._published, frame)
            self._published += 1
            for index, subscriber in enumerate(self._subscribers):
                subscriber.sendall(b"".join([frame] if index else spoilt))

    def serve_nats(self, conn: socket.socket, stream: BinaryIO) -> None:
        conn.sendall(b'INFO {"server_id": "test"}\r\n')
        while line := stream.readline():
            verb, *words = line.split()
            if verb == b"PING":
                conn.sendall(b"PONG\r\n")
            elif verb == b"PONG":
                self.answered.set()
            elif verb == b"SUB":
                self._subscribers.append(conn)
            elif verb == b"PUB":
                self.publish(b"MSG b 1 " + words[1] + b"\r\n" + stream.read(int(words[1]) + 2))

    def serve_mqtt(self, conn: socket.socket, stream: BinaryIO) -> None:
        while kind := stream.read(1):
            sizes = [stream.read(1)]
            while sizes[-1][0] & 128:
                sizes.append(stream.read(1))
            body = stream.read(sum((size[0] & 127) << 7 * place for place, size in enumerate(sizes)))
            if kind == b"\x10":
                conn.sendall(b"\x20\x02\0\0")
            elif kind == b"\x82":
                self._subscribers.append(conn)
                conn.sendall(b"\x90\x03" + body[:2] + b"\0")
            elif kind == b"\x30":
                self.publish(kind + b"".join(sizes) + body)

    def serve(self, wire: str, conn: socket.socket) -> None:
        with conn, conn.makefile("rb") as stream:
            (self.serve_nats if wire == "nats" else self.serve_mqtt)(conn, stream)


@contextmanager
def serving(wire: str, broker: Broker) -> Iterator[int]:
    """Take four connections, two of consumers and two of producers; the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        threads: list[threading.Thread] = []

        def accept() -> None:
            for _ in range(TRAFFIC.consumers + TRAFFIC.producers):
                conn, _ = server.accept()
                conn.settimeout(10)
                threads.append(threading.Thread(target=broker.serve, args=(wire, conn)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield server.getsockname()[1]
        accepting.join()
        for thread in threads:
            thread.join()


def sent_through(wire: str, damage: Damage, *, size: int = TRAFFIC.size) -> dict[str, Any]:
    with (
        serving(wire, Broker(damage)) as port,
        LoadProcess(replace(TRAFFIC, wire=wire, size=size), bound=30) as load,
    ):
        load.begin(port, 0)
        return load.result()


@pytest.mark.parametrize("wire", ["nats", "mqtt"])
@pytest.mark.parametrize("size", [TRAFFIC.size, LARGE])
def test_broker_that_loses_nothing(wire: str, size: int) -> None:
    """Consumers subscribe before the first message is published, so they get all of them."""
    result = sent_through(wire, intact, size=size)

    assert result["intact"] is True
    assert [consumer["received"] for consumer in result["consumers"]] == [COUNT, COUNT]


@pytest.mark.parametrize("wire", ["nats", "mqtt"])
def test_broker_that_loses_and_doubles(wire: str) -> None:
    """What one subscriber does not get is lost, and what it gets twice is doubled."""

    def damage(number: int, frame: bytes) -> list[bytes]:
        return [] if number in {3, 90} else [frame, frame] if number == 20 else [frame]

    assert found(sent_through(wire, damage)) == {"lost": 2, "doubled": 1}


@pytest.mark.parametrize("wire", ["nats", "mqtt"])
def test_broker_that_changes_a_byte(wire: str) -> None:
    """One byte of a message that is another one makes it corrupt; the next message is read right."""

    def damage(number: int, frame: bytes) -> list[bytes]:
        spoilt = bytearray(frame)
        spoilt[-20] ^= 1
        return [bytes(spoilt)] if number == 5 else [frame]

    assert found(sent_through(wire, damage)) == {"lost": 1, "corrupt": 1}


@pytest.mark.parametrize("wire", ["nats", "mqtt"])
def test_broker_that_says_what_nobody_understands(wire: str) -> None:
    """A message of another size is corrupt, and nothing after it is believed."""

    def damage(number: int, frame: bytes) -> list[bytes]:
        other = {"nats": b"MSG b 1 3\r\nabc\r\n", "mqtt": b"\x30\x06\0\x01babc"}[wire]
        return [other, frame] if number == 170 else [frame]

    assert found(sent_through(wire, damage)) == {"lost": COUNT - 170, "corrupt": 1}


def test_ping_of_a_broker() -> None:
    """NATS cuts off a subscriber that does not answer. It may ask between two messages."""
    broker = Broker(lambda number, frame: [frame, b"PING\r\n"] if number == 50 else [frame])
    with (
        serving("nats", broker) as port,
        LoadProcess(replace(TRAFFIC, wire="nats"), bound=30) as load,
    ):
        load.begin(port, 0)
        result = load.result()

    assert result["intact"] is True
    assert broker.answered.is_set()


def test_load_without_a_compiler() -> None:
    """The load in Python does not speak to brokers, and says how to get the one that does."""
    with pytest.raises(UnavailableError, match="does not speak nats; install gcc"):
        LoadProcess(replace(TRAFFIC, wire="nats"), python=True)


# -- libraries of programs -------------------------------------------------------------------------

CONSUMING = replace(TRAFFIC, consumers=1, producers=1, count=20)


def logged(texts: Callable[[Format], list[str]], size: int) -> dict[str, Any]:
    logger = logging.getLogger("bench.test_brokers")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with LoadProcess(replace(CONSUMING, size=size), "--consume", bound=30) as load:
        handler = SocketHandler("127.0.0.1", load.ports[0])
        logger.addHandler(handler)
        try:
            for text in texts(Format(size)):
                logger.info(text)
        finally:
            logger.removeHandler(handler)
            handler.close()
        return load.result()


@pytest.mark.parametrize("size", [TRAFFIC.size, LARGE])
def test_records_of_logging(size: int) -> None:
    """A consumer of lines takes the records of a SocketHandler, and finds the message in each."""
    result = logged(lambda form: [form.encode(0, seq).decode() for seq in range(CONSUMING.count)], size)

    assert result["intact"] is True
    assert result["consumers"][0]["received"] == CONSUMING.count


def test_wrong_records_of_logging() -> None:
    """A record with another text is corrupt, and one that comes twice is doubled."""

    def texts(form: Format) -> list[str]:
        right = [form.encode(0, seq).decode() for seq in range(CONSUMING.count)]
        return [*right[:3], "something else", right[3][:-1] + "!", *right[4:], right[7]]

    assert found(logged(texts, TRAFFIC.size)) == {"lost": 1, "corrupt": 2, "doubled": 1}


def published(messages: list[bytes], size: int) -> tuple[bytes, dict[str, Any]]:
    """Speak as a PUB socket does (ZMTP 3.0); what the consumer said, and its ledger."""
    long = size > 255
    with (
        LoadProcess(replace(CONSUMING, size=size), "--consume", bound=30) as load,
        socket.create_connection(("127.0.0.1", load.ports[0]), 10) as conn,
        conn.makefile("rb") as stream,
    ):
        conn.sendall(b"\xff" + bytes(8) + b"\x7f")
        said = stream.read(64 + 2 + 25)
        conn.sendall(b"\3\0NULL" + bytes(48) + b"\4\x19\5READY\x0bSocket-Type\0\0\0\3PUB")
        said += stream.read(3)
        for message in messages:
            conn.sendall((struct.pack("!BQ", 2, size) if long else bytes((0, size))) + message)
        conn.shutdown(socket.SHUT_WR)
        return said, load.result()


@pytest.mark.parametrize("size", [TRAFFIC.size, LARGE])
def test_zmtp(size: int) -> None:
    """A consumer of lines greets a PUB socket, subscribes once both are ready, and takes all messages."""
    form = Format(size)
    said, result = published([form.encode(0, seq) for seq in range(CONSUMING.count)], size)

    assert said[:16] == b"\xff" + bytes(7) + b"\x01\x7f\x03\0NULL"
    assert said[-5:] == b"UB" + b"\0\1\1"
    assert result["intact"] is True
    assert result["consumers"][0]["received"] == CONSUMING.count


def test_messages_dropped_by_a_publisher() -> None:
    """What a PUB socket does not send is lost."""
    form = Format(TRAFFIC.size)
    _, result = published([form.encode(0, seq) for seq in range(CONSUMING.count) if seq != 4], TRAFFIC.size)

    assert found(result) == {"lost": 1}
