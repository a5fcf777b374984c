"""``producer-pool sink``, as a process."""

import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from producer_pool.cli.group import cli
from producer_pool.cli.sinking import harmless
from support.commands import started
from support.consumers import reserved_port
from support.processes import clean_environment, command, run_command
from support.producers import connected, send_lines
from support.taken import lines_taken
from support.waiting import BOUND, eventually


def test_prints_a_line_a_message(tmp_path: Path) -> None:
    """Its first line says where it listens; it prints what comes, empty messages too, and ends when asked."""
    with started(tmp_path, "sink", "tcp://127.0.0.1:0") as sink:
        send_lines(sink.port, [b"one", b"", b"three\r", b"\xff\0"])

        assert sink.wait_for_printed(15) == b"one\n\nthree\r\n\xff\0\n"
        sink.ask()
        assert sink.ended() == 0

    first, last = sink.said.splitlines()
    assert first.startswith("listening at tcp://127.0.0.1:")
    assert last.startswith("4 messages, 15 bytes, 1 connection, ")


def test_ends_after_count(tmp_path: Path) -> None:
    """With --count it prints exactly so many, and ends by itself."""
    with started(tmp_path, "sink", "tcp://127.0.0.1:0", "--count", "2") as sink:
        send_lines(sink.port, [b"1", b"2", b"3"])

        assert sink.ended() == 0
    assert sink.printed == b"1\n2\n"


def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    """SIGINT is a good end, too."""
    with started(tmp_path, "sink", "tcp://127.0.0.1:0") as sink:
        sink.wait_for("listening")
        sink.ask(signal.SIGINT)

        assert sink.ended() == 0
    assert "0 messages" in sink.said


def test_reads_what_has_arrived_when_asked_to_end(tmp_path: Path) -> None:
    """What came before the signal is printed."""
    messages = [b"%06d" % number for number in range(50_000)]
    with started(tmp_path, "sink", "tcp://127.0.0.1:0") as sink:
        lines_taken(sink.port, messages)
        sink.ask()

        assert sink.ended() == 0
    assert sink.printed.split() == messages


def test_what_is_printed_survives_a_kill(tmp_path: Path) -> None:
    """Nothing that was read waits in a buffer of the process: after kill -9 all of it is there."""
    messages = [b"%06d" % number for number in range(1000)]
    with started(tmp_path, "sink", "tcp://127.0.0.1:0") as sink, connected(sink.port) as sock:
        sock.sendall(b"\n".join(messages) + b"\n")
        sink.wait_for_printed(7000)
        sink.ask(signal.SIGKILL)
        sink.ended()

        assert sink.printed.split() == messages


def test_json_keeps_every_byte(tmp_path: Path) -> None:
    """Each message is an object: text as text, other bytes as base64, newlines inside of it."""
    with (
        started(tmp_path, "sink", "tcp://127.0.0.1:0?framing=length4", "--json", "--count", "3") as sink,
        connected(sink.port) as sock,
    ):
        for message in (b"two\nlines", "ü".encode(), b"\xff"):
            sock.sendall(struct.pack("!I", len(message)) + message)

        assert sink.ended() == 0
    told = [json.loads(line) for line in sink.printed.splitlines()]
    assert told == [{"text": "two\nlines"}, {"text": "ü"}, {"base64": "/w=="}]


def test_quiet_only_counts(tmp_path: Path) -> None:
    """--quiet prints no message; with --json the summary is an object on stdout."""
    with started(tmp_path, "sink", "tcp://127.0.0.1:0", "--quiet", "--json", "--count", "3") as sink:
        send_lines(sink.port, [b"1", b"2", b"3"])

        assert sink.ended() == 0
    told = json.loads(sink.printed)
    assert (told["messages"], told["bytes"], told["connections"]) == (3, 6, 1)


def test_slow_takes_its_time(tmp_path: Path) -> None:
    """A slow sink prints everything in order, one message after the other."""
    messages = [b"%02d" % number for number in range(20)]
    with started(tmp_path, "sink", "tcp://127.0.0.1:0", "--slow", "10ms", "--count", "20") as sink:
        send_lines(sink.port, messages)

        assert sink.ended() == 0
    assert sink.printed.split() == messages
    assert float(sink.said.split(", ")[-1].removesuffix(" s\n")) >= 0.2


def test_reader_that_goes_ends_it_quietly(tmp_path: Path) -> None:
    """``sink | head -1`` ends with the next message, without a word."""
    process = subprocess.Popen(
        command("sink", "tcp://127.0.0.1:0"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition(b":")[2])
        with connected(port) as sock:
            sock.sendall(b"one\n")
            assert process.stdout.readline() == b"one\n"
            process.stdout.close()
            sock.sendall(b"two\n")
            assert process.wait(BOUND) == 1
        assert process.stderr.read() == b""
        process.stderr.close()
    finally:
        process.kill()
        process.wait()


def test_second_signal_ends_it_where_nobody_reads() -> None:
    """A sink that hangs in a write to a full pipe ends with the second signal."""
    process = subprocess.Popen(
        command("sink", "tcp://127.0.0.1:0"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        port = int(process.stderr.readline().rpartition(b":")[2])
        with connected(port) as sock:
            sock.sendall(b"x" * 200_000 + b"\n")
            eventually(lambda: _is_full(process), "a full pipe")
            process.send_signal(signal.SIGTERM)
            eventually(lambda: _waits_again(process), "the first signal is handled")
            process.send_signal(signal.SIGTERM)

            assert process.wait(BOUND) == 1
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _is_full(process: subprocess.Popen[bytes]) -> bool:
    """Whether its stdout, a pipe, takes nothing any more."""
    assert process.stdout is not None
    (size,) = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0\0\0\0"))
    return bool(size >= 65536)


def _waits_again(process: subprocess.Popen[bytes]) -> bool:
    """Whether no signal waits for it, and it is asleep: so the handler of the last one is done."""
    if not sys.platform.startswith("linux"):
        return True
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return status["State"][0] == "S" and not any(int(status[name][0], 16) for name in ("SigPnd", "ShdPnd"))


@pytest.mark.parametrize(
    "url,text,code",
    [
        ("127.0.0.1:9000", "did you mean tcp://127.0.0.1:9000?", 78),
        ("nothing://x", "no installed plugin handles nothing://", 78),
        ("null:", "only sends; it cannot listen", 78),
        ("tcp://127.0.0.1:0?frming=nul", "did you mean framing?", 78),
        (
            "tcp://127.0.0.1:0?ack-after=stored",
            "sink stores nothing; use ack-after=received or ack-after=delivered",
            78,
        ),
        ("tcp://user:hunter2@127.0.0.1:0", "no users and passwords", 78),
    ],
)
def test_bad_url(url: str, text: str, code: int) -> None:
    """It is one line that says what to write, and shows no password."""
    done = CliRunner().invoke(cli, ["sink", url])

    assert done.exit_code == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.output


def test_port_that_is_taken() -> None:
    """It is one line that says how to find out who has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = run_command("sink", url)

    assert done.returncode == 1
    assert b"in use" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_reserved_port_can_be_listened_at(tmp_path: Path) -> None:
    """A sink that was killed can come back to its port at once."""
    with reserved_port() as holder:
        url = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        for number in (1, 2):
            with started(tmp_path, "sink", url) as sink, connected(sink.port) as sock:
                sock.sendall(b"%d\n" % number)
                sink.wait_for_printed(2)
                sink.ask(signal.SIGKILL)
                sink.ended()


@pytest.mark.parametrize(
    "message,shown",
    [(b"plain", b"plain"), ("ü\t".encode(), "ü\t".encode()), (b"\x1b[2J\xff\0", rb"\x1b[2J\xff\x00")],
)
def test_terminal_is_not_controlled(message: bytes, shown: bytes) -> None:
    """On a terminal, what came over a network is shown and not obeyed."""
    assert harmless(message) == shown


# -- acknowledging ---------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["received", "delivered"])
def test_acknowledges(after: str, tmp_path: Path) -> None:
    """Asked to in its URL, it tells who sends what it has printed."""
    with started(tmp_path, "sink", f"tcp://127.0.0.1:0?ack-after={after}") as sink:
        with connected(sink.port) as sock:
            sock.sendall(b"one\ntwo\n")
            assert sock.recv(2) == b"2\n"
            assert sink.printed == b"one\ntwo\n"
        done = run_command("send", f"tcp://127.0.0.1:{sink.port}?ack=app", "three")

        assert b"1 delivered (app)" in done.stderr
        assert sink.printed == b"one\ntwo\nthree\n"


def test_acknowledges_slowly(tmp_path: Path) -> None:
    """A slow one acknowledges a message when it is printed, and not when it has come."""
    with (
        started(tmp_path, "sink", "tcp://127.0.0.1:0?ack-after=delivered", "--slow", "100ms") as sink,
        connected(sink.port) as sock,
    ):
        sock.sendall(b"one\ntwo\n")

        assert sock.recv(2) == b"2\n"
        assert sink.printed == b"one\ntwo\n"


def test_acknowledges_no_more_than_it_prints(tmp_path: Path) -> None:
    """What is beyond --count is not printed, and so its sender has to keep it."""
    url = "tcp://127.0.0.1:0?ack-after=delivered"
    with started(tmp_path, "sink", url, "--count", "2") as sink, connected(sink.port) as sock:
        sock.sendall(b"1\n2\n3\n")

        assert sink.ended() == 0
        assert sink.printed == b"1\n2\n"
        assert sock.recv(10) in (b"", b"0\n")


def test_has_nothing_to_store_in() -> None:
    """It has no spool: asked to acknowledge after that, it ends, and says why."""
    done = run_command("sink", "tcp://127.0.0.1:0?ack-after=stored")

    assert done.returncode == 78
    assert b"ack-after=stored cannot be had here, as sink stores nothing" in done.stderr
