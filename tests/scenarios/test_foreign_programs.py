"""Programs that know nothing of us, as producers and consumers: nc, socat, sockets and loggers of Python."""

import logging
import logging.handlers
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer_pool import ProducerPool, bind_transport
from support.consumers import RecordingConsumer, lines, nul, reserved_port
from support.ledger import Ledger
from support.processes import daemon
from support.producers import send_lines
from support.waiting import BOUND, eventually

QUICK = "retry-backoff=20ms&retry-max-backoff=50ms"


@contextmanager
def foreign_consumer(output: Path, *command: str) -> Iterator[str]:
    """Run a program that listens at ``PORT``, in its command, and writes to *output*; yield its URL."""
    with reserved_port() as holder, output.open("wb") as file:
        port = str(holder.getsockname()[1])
        process = subprocess.Popen([word.replace("PORT", port) for word in command], stdout=file)
        try:
            yield f"tcp://127.0.0.1:{port}?{QUICK}"
        finally:
            process.kill()
            process.wait(BOUND)


def written(output: Path, count: int) -> list[bytes]:
    """Return the lines in *output* as soon as there are *count*."""
    eventually(lambda: output.read_bytes().count(b"\n") >= count, f"{count} lines")
    return lines(output.read_bytes())[0]


NC_LISTENS = ("nc", "-l", "-k", "127.0.0.1", "PORT")
NC_SENDS = ("nc", "-N", "127.0.0.1", "PORT")
SOCAT_SENDS = ("socat", "-u", "-", "TCP:127.0.0.1:PORT")
SOCAT_LISTENS = ("socat", "-u", "TCP-LISTEN:PORT,bind=127.0.0.1,reuseaddr,fork", "STDOUT")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(NC_LISTENS, marks=pytest.mark.needs("nc"), id="nc"),
        pytest.param(SOCAT_LISTENS, marks=pytest.mark.needs("socat"), id="socat"),
    ],
)
def test_foreign_consumer(command: tuple[str, ...], tmp_path: Path) -> None:
    """It prints each message as a line, once and in order."""
    ledger = Ledger()
    output = tmp_path / "output"
    with foreign_consumer(output, *command) as url, daemon("--to", f"foreign={url}") as running:
        send_lines(running.port, ledger.write_many(2000, size=100))
        record = written(output, 2000)

        assert ledger.judge(record).exact
        assert running.terminate() == 0


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("nc", "-N", "127.0.0.1", "PORT"), marks=pytest.mark.needs("nc"), id="nc"),
        pytest.param(
            ("socat", "-u", "-", "TCP:127.0.0.1:PORT"), marks=pytest.mark.needs("socat"), id="socat"
        ),
    ],
)
def test_foreign_producer(command: tuple[str, ...]) -> None:
    """What is piped into it arrives, once and in order."""
    ledger = Ledger()
    with RecordingConsumer() as consumer, daemon("--to", f"consumer={consumer.url}") as running:
        text = b"".join(message + b"\n" for message in ledger.write_many(5000, size=100))
        words = [word.replace("PORT", str(running.port)) for word in command]
        subprocess.run(words, input=text, check=True, timeout=BOUND)

        assert ledger.judge(consumer.wait_for(5000)).exact


@pytest.mark.needs("nc", "socat")
def test_foreign_programs_at_both_ends(tmp_path: Path) -> None:
    """``echo | nc`` goes in, and comes out of socat."""
    output = tmp_path / "output"
    with foreign_consumer(output, *SOCAT_LISTENS) as url, daemon("--to", f"foreign={url}") as running:
        subprocess.run(
            ["nc", "-N", "127.0.0.1", str(running.port)], input=b"hello\n", check=True, timeout=BOUND
        )

        assert written(output, 1) == [b"hello"]


def test_plain_sockets() -> None:
    """Ten lines with socket alone are a producer, and ten more a consumer."""
    received = bytearray()

    def consume() -> None:
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(4096):
                received.extend(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=consume, daemon=True)
        thread.start()
        with daemon("--to", f"tcp://127.0.0.1:{listening.getsockname()[1]}") as running:
            with socket.create_connection(("127.0.0.1", running.port)) as sock:
                sock.sendall(b"one\ntw")
                eventually(lambda: received == b"one\n", "the first one arrives, and no half of the second")
                sock.sendall(b"o\nthree\n")
            assert running.terminate() == 0
        thread.join(BOUND)

    assert bytes(received) == b"one\ntwo\nthree\n"


def warning(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"levelname": "WARNING", "msg": text})


def test_syslog_handler() -> None:
    """Python's SysLogHandler ends its messages with NUL: framing=nul takes them, and lines pass them on."""
    with (
        RecordingConsumer() as by_lines,
        RecordingConsumer(unframe=nul) as by_nul,
        daemon(
            "--listen",
            "tcp://127.0.0.1:0?framing=nul",
            "--to",
            f"by-lines={by_lines.url}",
            "--to",
            f"by-nul={by_nul.url}?framing=nul",
            listens=False,
        ) as running,
    ):
        handler = logging.handlers.SysLogHandler(("127.0.0.1", running.port), socktype=socket.SOCK_STREAM)
        expected = []
        for number in range(100):
            handler.emit(warning(f"event {number}, größer"))
            expected.append(f"<12>event {number}, größer".encode())
        handler.emit(warning("two\nlines"))
        handler.close()

        assert by_lines.wait_for(100) == expected
        assert by_nul.wait_for(101) == [*expected, b"<12>two\nlines"]
        # What cannot be a line is refused for the one whose framing is lines, and for nobody else.
        assert running.settled("by-lines", 101)["failed"] == 1
        assert running.settled("by-nul", 101)["delivered"] == 101
        running.wait_for_line("by-lines: 1 message failed: .*framing=length4")


def test_syslog_handler_into_a_program() -> None:
    """The same with a server bound to an embedded pool."""
    seen: list[bytes] = []
    with (
        RecordingConsumer() as consumer,
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0?framing=nul", pool, on_message=seen.append) as server,
    ):
        pool.add_producer("consumer", consumer.url)
        address = ("127.0.0.1", server.endpoint.port)
        handler = logging.handlers.SysLogHandler(address, socktype=socket.SOCK_STREAM)
        handler.emit(warning("it burns"))
        handler.close()

        assert consumer.wait_for(1) == [b"<12>it burns"]
        eventually(lambda: seen == [b"<12>it burns"], "the callback sees it")
