"""Input that nobody should send, while a bystander sends what is right: the bystander loses nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from producer_pool import ProducerPool, bind_transport
from support.consumers import RecordingConsumer, length4, reset
from support.ledger import Ledger
from support.processes import Daemon, daemon
from support.producers import connected
from support.waiting import eventually

MIB = 1024 * 1024


class Story:
    """A daemon with one consumer, and a bystander that sends all the time."""

    def __init__(self, running: Daemon, consumer: RecordingConsumer) -> None:
        self.running = running
        self.consumer = consumer
        self.ledger = Ledger()
        self._over = threading.Event()
        self._bystander = threading.Thread(target=self._send, daemon=True)
        self._bystander.start()

    @property
    def port(self) -> int:
        return self.running.port

    @property
    def listener(self) -> dict[str, int]:
        """The listener's counters now."""
        found: dict[str, int] = self.running.status()["listeners"][0]
        return found

    def _send(self) -> None:
        with connected(self.port) as sock:
            while not self._over.is_set():
                sock.sendall(b"".join(m + b"\n" for m in self.ledger.write_many(20, "bystander", size=100)))
                self._over.wait(0.001)

    def others(self, count: int) -> list[bytes]:
        """End the bystander's sending; return what came of others, *count* messages, once all has arrived."""
        self._over.set()
        self._bystander.join()
        sent = self.ledger.sent
        record = self.consumer.wait_for(len(sent) + count)
        bystanders = [message for message in record if message.startswith(b"bystander/")]
        assert self.ledger.judge(bystanders).exact
        return [message for message in record if not message.startswith(b"bystander/")]


@contextmanager
def story(*arguments: str, query: str = "") -> Iterator[Story]:
    listen = ("--listen", f"tcp://127.0.0.1:0{query}")
    with (
        RecordingConsumer() as consumer,
        daemon(*listen, "--to", f"consumer={consumer.url}", *arguments, listens=False) as running,
    ):
        yield Story(running, consumer)


def send_until_closed(sock: socket.socket, data: bytes) -> int:
    """Send *data* again and again; return how much of it went out before the other side closed."""
    sent = 0
    while sent < 100 * MIB:
        try:
            sent += sock.send(data)
        except OSError:
            return sent
    raise AssertionError("it was never closed")


def test_oversized_message() -> None:
    """Its connection is closed, what came before it is passed on; it is counted, and logged."""
    with story() as told, connected(told.port) as bad:
        bad.sendall(b"before\n" + b"x" * (MIB + 1) + b"\n")
        send_until_closed(bad, b"after\n")

        assert told.others(1) == [b"before"]
        assert told.listener["evicted"] == 1
        told.running.wait_for_line("connection closed: message longer than 1048576 bytes; .*max-message")


def test_message_of_exactly_the_limit() -> None:
    """It is a message like others."""
    largest = b"x" * 1000
    with story(query="?max-message=1000") as told, connected(told.port) as sock:
        sock.sendall(largest + b"\n")

        assert told.others(1) == [largest]


def test_endless_line() -> None:
    """It is cut off once it is longer than a message may be, not when memory is out."""
    with story() as told, connected(told.port) as endless:
        sent = send_until_closed(endless, b"x" * 65536)

        assert sent < 20 * MIB
        assert told.others(0) == []
        assert told.listener["evicted"] == 1


def test_every_byte_but_the_newline() -> None:
    """NUL bytes, what is no UTF-8, carriage returns: all of it arrives as it was sent."""
    messages = [
        bytes(byte for byte in range(256) if byte != 10),
        b"\0",
        b"\0" * 100,
        b"\xff\xfe",
        b"\xc3\x28",
        "größer".encode("latin-1"),
        b"carriage return\r",
        b"\x1b[2J",
    ]
    with story() as told, connected(told.port) as sock:
        sock.sendall(b"".join(message + b"\n" for message in messages))

        assert told.others(len(messages)) == messages


def test_empty_messages() -> None:
    """An empty message is a message."""
    with story() as told, connected(told.port) as sock:
        sock.sendall(b"\n\nx\n\n")

        assert told.others(4) == [b"", b"", b"x", b""]


def test_empty_message_through_an_embedded_pool() -> None:
    """It arrives over lines and over length4, and octet-counting, which has none, refuses it alone."""
    with (
        RecordingConsumer() as by_lines,
        RecordingConsumer(unframe=length4) as by_length,
        RecordingConsumer() as by_octets,
        ProducerPool() as pool,
    ):
        pool.add_producer("lines", by_lines.url)
        pool.add_producer("length4", f"{by_length.url}?framing=length4")
        pool.add_producer("octets", f"{by_octets.url}?framing=octet-counting")
        results = pool.forward_to_all(b"")
        after = pool.forward_to_all("after")

        assert list(results.failed) == ["octets"]
        assert after.ok
        assert by_lines.wait_for(2) == [b"", b"after"]
        assert by_length.wait_for(2) == [b"", b"after"]


def test_connection_is_reset_inside_a_message() -> None:
    """The half is not passed on; it is counted and logged, and what came whole before it arrives."""
    with story() as told:
        with connected(told.port) as bad:
            bad.sendall(b"whole\nhalf a mess")
            eventually(lambda: b"whole" in told.consumer.messages, "the whole one arrives")
            reset(bad)
        eventually(lambda: told.listener["tails"] == 1, "the half is counted")

        assert told.others(1) == [b"whole"]
        told.running.wait_for_line("broke off inside a message, 11 bytes of it discarded$")


def test_stream_ends_inside_a_message() -> None:
    """The half is not passed on; the log says how to have it passed on."""
    with story() as told:
        with connected(told.port) as bad:
            bad.sendall(b"whole\nhalf a mess")

        eventually(lambda: told.listener["tails"] == 1, "the half is counted")
        assert told.others(1) == [b"whole"]
        told.running.wait_for_line(
            "ended inside a message, 11 bytes of it discarded; tail=deliver passes it on"
        )


def test_stream_ends_inside_a_message_and_that_is_meant() -> None:
    """With tail=deliver the rest is a message, at a clean end; after a reset it is not."""
    with story(query="?tail=deliver") as told:
        with connected(told.port) as clean:
            clean.sendall(b"whole\nlast")
        with connected(told.port) as bad:
            bad.sendall(b"another\nhalf")
            eventually(lambda: b"another" in told.consumer.messages, "the whole one arrives")
            reset(bad)
        eventually(lambda: told.listener["tails"] == 1, "the half is counted")

        assert sorted(told.others(3)) == [b"another", b"last", b"whole"]


def test_malformed_frames() -> None:
    """With a framing that counts, what cannot be a length ends that connection alone."""
    with (
        RecordingConsumer() as consumer,
        daemon(
            "--listen",
            "tcp://127.0.0.1:0?framing=octet-counting",
            "--to",
            f"consumer={consumer.url}",
            listens=False,
        ) as running,
        connected(running.port) as bad,
        connected(running.port) as good,
    ):
        bad.sendall(b"5 hello1x nonsense")
        good.sendall(b"4 good")
        assert bad.recv(1) == b""
        good.sendall(b"6 better")

        assert sorted(consumer.wait_for(3)) == [b"better", b"good", b"hello"]
        assert running.status()["listeners"][0]["evicted"] == 1


def test_message_that_a_framing_cannot_carry() -> None:
    """It is refused for that consumer alone, never split and never escaped; its neighbours arrive."""
    with (
        RecordingConsumer() as by_lines,
        RecordingConsumer(unframe=length4) as by_length,
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0?framing=length4", pool) as server,
        connected(server.endpoint.port) as sock,
    ):
        pool.add_producer("lines", by_lines.url)
        pool.add_producer("length4", f"{by_length.url}?framing=length4")
        messages = [b"one", b"t\nw\no", b"three"]
        sock.sendall(b"".join(len(message).to_bytes(4, "big") + message for message in messages))

        assert by_length.wait_for(3) == messages
        assert by_lines.wait_for(2) == [b"one", b"three"]
        assert pool.drain(wait=20)
        assert pool.stats().producers["lines"].failed == 1
