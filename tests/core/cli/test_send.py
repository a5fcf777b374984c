"""``producer-pool send``, as a process."""

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from producer_pool.cli.group import cli
from support.commands import started
from support.consumers import RecordingConsumer, nul, reserved_port
from support.processes import clean_environment, command, run_command
from support.waiting import BOUND


def test_text() -> None:
    """One message, and a summary on stderr that says how far it got; nothing on stdout."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, "grüße")

        assert consumer.wait_for(1) == ["grüße".encode()]
    assert done.returncode == 0
    assert done.stdout == b""
    assert done.stderr.startswith(b"1 sent: 1 delivered (kernel) in ")


def test_count_repeats_the_text() -> None:
    """--count sends the text so often."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, "x", "--count", "100000")

        assert consumer.wait_for(100_000) == [b"x"] * 100_000
    assert b"100,000 delivered" in done.stderr


def test_rate_is_kept() -> None:
    """20 messages at 100 a second take 180 ms at least: the last two are due then."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, "x", "--count", "20", "--rate", "100/s", "--json")

        assert len(consumer.wait_for(20)) == 20
    assert json.loads(done.stdout)["seconds"] >= 0.179


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_stdin_by_lines(dash: list[str]) -> None:
    """Each line is a message: empty ones, a CR at the end, and the last one without a newline as well."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, *dash, stdin=b"one\n\ntwo\r\n\xff\0\nlast")

        assert consumer.wait_for(5) == [b"one", b"", b"two\r", b"\xff\0", b"last"]
    assert done.returncode == 0


def test_stdin_with_a_rate() -> None:
    """Lines are held back as well, and keep their order."""
    lines = [b"%d" % number for number in range(30)]
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, "--rate", "200", "--json", stdin=b"\n".join(lines))

        assert consumer.wait_for(30) == lines
    assert json.loads(done.stdout)["seconds"] >= 0.14


def test_lines_are_sent_as_they_come(tmp_path: Path) -> None:
    """A line does not wait for the next one, or for the end of stdin."""
    with (
        RecordingConsumer() as consumer,
        started(tmp_path, "send", consumer.url, stdin=subprocess.PIPE) as send,
    ):
        for number in range(3):
            send.write(b"%d\n" % number)
            consumer.wait_for(number + 1)
        assert send.process.stdin is not None
        send.process.stdin.close()

        assert send.ended() == 0


def test_much_stdin() -> None:
    """Everything arrives, once and in order, in the consumer's framing."""
    lines = [b"%07d" % number for number in range(300_000)]
    with RecordingConsumer(unframe=nul) as consumer:
        done = run_command("send", f"{consumer.url}?framing=nul", stdin=b"\n".join(lines))

        assert consumer.wait_for(300_000) == lines
    assert done.returncode == 0


def test_stdin_is_read_no_faster_than_the_consumer_reads(tmp_path: Path) -> None:
    """
    A consumer that reads nothing is given up after its timeout, and until then little was read.

    What is left over is told, and the exit code is 1.
    """
    taken = 0
    with (
        RecordingConsumer(reads=False) as consumer,
        started(tmp_path, "send", f"{consumer.url}?timeout=4s", "--json", stdin=subprocess.PIPE) as send,
    ):

        def write() -> None:
            nonlocal taken
            try:
                for _ in range(128):
                    send.write(b"x" * 1023 + b"\n" + b"y" * (1024 * 1024 - 1025) + b"\n")
                    taken += 1
            except OSError:
                return  # It has given up.

        writer = threading.Thread(target=write)
        writer.start()
        assert send.ended() == 1
        writer.join()

    told = json.loads(send.printed)
    assert taken <= 32  # MiB: the buffer, those of the sockets, and what one read brings
    assert not told["complete"]
    assert told["failed"] + told["cancelled"] > 0
    assert told["accepted"] == told["delivered"] + told["failed"] + told["cancelled"]


def test_consumer_that_dies(tmp_path: Path) -> None:
    """When the connection breaks, it stops, says what was not delivered, and ends with 1."""
    with (
        RecordingConsumer() as consumer,
        started(tmp_path, "send", consumer.url, stdin=subprocess.PIPE) as send,
    ):
        send.write(b"one\n")
        consumer.wait_for(1)
        consumer.go_away()
        send.write(b"two\n")
        assert send.process.stdin is not None
        send.process.stdin.close()

        assert send.ended() == 1
    assert "1 delivered" in send.said
    assert "down: tcp://" in send.said
    assert "Traceback" not in send.said


def test_consumer_that_goes_away_when_it_has_all(tmp_path: Path) -> None:
    """That is no fault, and nothing is said of it."""
    with started(tmp_path, "sink", "tcp://127.0.0.1:0", "--count", "3") as sink:
        done = run_command("send", sink.url, "x", "--count", "3", "--json")
        sink.ended()

    assert done.returncode == 0
    assert done.stderr.startswith(b"3 sent: 3 delivered (kernel) in ")
    assert done.stderr.count(b"\n") == 1
    assert json.loads(done.stdout)["error"] is None


def test_consumer_that_goes_away_while_more_may_come(tmp_path: Path) -> None:
    """Whoever writes to stdin is told at once, and not only when the next line comes."""
    with (
        RecordingConsumer() as consumer,
        started(tmp_path, "send", consumer.url, stdin=subprocess.PIPE) as send,
    ):
        send.write(b"one\n")
        consumer.wait_for(1)
        consumer.go_away()

        assert send.wait_for(f"^producer-pool: consumer: down: {consumer.url}: ") is not None


def test_consumer_that_is_not_there() -> None:
    """One line says so, before anything is read; the exit code is 1."""
    with reserved_port() as nobody:
        url = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        done = run_command("send", url, "x")

    assert done.returncode == 1
    assert done.stderr.startswith(f"producer-pool: {url}: ".encode())
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_consumer_that_is_not_there_as_json() -> None:
    """A program is told so by the summary that it always gets."""
    with reserved_port() as nobody:
        url = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        done = run_command("send", f"{url}?ack=written", "x", "--json")

    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr == f"producer-pool: {told['error']}\n".encode()
    assert told.pop("error").startswith(f"{url}: ")
    assert told == {
        "address": url,
        "complete": False,
        "accepted": 0,
        "delivered": 0,
        "failed": 0,
        "dropped": 0,
        "cancelled": 0,
        "ack": "written",
        "seconds": 0.0,
    }


def test_message_that_is_refused() -> None:
    """One message that cannot be carried is named and counted, and the others arrive."""
    with RecordingConsumer() as consumer:
        done = run_command(
            "send", f"{consumer.url}?max-message=10", stdin=b"one\n" + b"x" * 11 + b"\nthree\n"
        )

        assert consumer.wait_for(2) == [b"one", b"three"]
    assert done.returncode == 1
    assert b"3 sent: 2 delivered (kernel), 1 failed" in done.stderr
    assert b"11 bytes" in done.stderr


def test_text_with_a_newline_is_not_split() -> None:
    """A message that the framing cannot carry is refused, and the way out is named."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, "two\nlines")

    assert done.returncode == 1
    assert b"framing=length4" in done.stderr


def test_line_without_an_end() -> None:
    """What came before an endless line is delivered; the line is an error, and memory stays bounded."""
    with RecordingConsumer() as consumer:
        done = run_command("send", consumer.url, stdin=b"one\n" + b"x" * (20 * 1024 * 1024))

        assert consumer.wait_for(1) == [b"one"]
    assert done.returncode == 1
    assert b"1 sent: 1 delivered" in done.stderr
    assert b"longer than 16777216 bytes" in done.stderr


@pytest.mark.parametrize(
    "redirection,text,code",
    [
        ("<&-", b"stdin is closed; give a TEXT, or redirect something to stdin", 2),
        ("0>/dev/null", b"stdin cannot be read: Bad file descriptor; nothing more was sent", 1),
    ],
)
def test_stdin_that_cannot_be_read(redirection: str, text: bytes, code: int) -> None:
    """It is said in a line."""
    with RecordingConsumer() as consumer:
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirection}', "sh", *command("send", consumer.url)],
            capture_output=True,
            env=clean_environment(),
            timeout=BOUND,
            check=False,
        )

    assert done.returncode == code
    assert text in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: int) -> None:
    """Whoever interrupts it is told what became of what was sent; not all was, so the exit code is 1."""
    with (
        RecordingConsumer() as consumer,
        started(tmp_path, "send", consumer.url, stdin=subprocess.PIPE) as send,
    ):
        send.write(b"one\n")
        consumer.wait_for(1)
        send.ask(number)

        assert send.ended() == 1
    assert "interrupted" in send.said
    assert "1 sent: 1 delivered" in send.said


def test_json() -> None:
    """The summary is an object with every counter."""
    with RecordingConsumer() as consumer:
        done = run_command("send", f"{consumer.url}?ack=written", "x", "--json")

    told = json.loads(done.stdout)
    assert told.pop("seconds") >= 0
    assert told == {
        "address": consumer.url,
        "complete": True,
        "accepted": 1,
        "delivered": 1,
        "failed": 0,
        "dropped": 0,
        "cancelled": 0,
        "ack": "written",
        "error": None,
    }


@pytest.mark.parametrize(
    "arguments,text,code",
    [
        (["tcp://127.0.0.1:1", "--count", "2"], "--count repeats a TEXT", 2),
        (["tcp://127.0.0.1:1", "x", "--rate", "fast"], "not a rate", 2),
        (["tcp://127.0.0.1", "x"], "names no port", 78),
        (["tcp://127.0.0.1:1?colour=red", "x"], "no option colour", 78),
        (["tpc://127.0.0.1:1", "x"], "did you mean tcp?", 78),
        (
            ["tcp://127.0.0.1:1?role=shadow", "x"],
            "tcp://127.0.0.1:1: send waits for its consumer, which role=shadow rules out; leave out role=",
            78,
        ),
        (["udp://127.0.0.1:1?ack=app", "x"], "ack=app cannot be reached here", 78),
        (["stdout:", "x", "--json"], "stdout: is where JSON is written, too (--json)", 78),
        (["null:?dead-letters=stdout:", "x", "--json"], "stdout: is where JSON is written, too", 78),
    ],
)
def test_what_cannot_work(arguments: list[str], text: str, code: int) -> None:
    """Each mistake is named, with the exit code of its kind."""
    done = CliRunner().invoke(cli, ["send", *arguments])

    assert done.exit_code == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr
