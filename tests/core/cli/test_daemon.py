"""The daemon: from the first message to the last line it says."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from support.consumers import RecordingConsumer, reserved_port
from support.processes import clean_environment, command, daemon
from support.producers import connected, send_lines
from support.taken import lines_taken
from support.waiting import BOUND, eventually


def numbered(count: int) -> list[bytes]:
    """Return numbered messages."""
    return [b"%07d" % number for number in range(count)]


def test_everything_that_arrived_is_delivered_at_the_end() -> None:
    """SIGTERM right after the last byte has come: all of it is read, delivered and told."""
    messages = numbered(100_000)
    with RecordingConsumer() as consumer, daemon("--to", consumer.url) as relay:
        lines_taken(relay.port, messages)

        assert relay.terminate() == 0
        # The consumer's kernel has them; it reads them in its own time.
        assert consumer.wait_for(len(messages)) == messages

    told = relay.last["consumers"]["consumer1"]
    assert (told["accepted"], told["delivered"], told["pending"]) == (100_000, 100_000, 0)
    assert relay.lines[-1] == "consumer1: 100,000 accepted, 100,000 delivered (kernel); nothing remained"


def test_what_remains_is_told() -> None:
    """What could not be delivered within --drain is told for each producer, and the exit code is 1."""
    with (
        reserved_port() as nobody,
        daemon(f"--to=a=tcp://127.0.0.1:{nobody.getsockname()[1]}", "--to=b=null:", "--drain=200ms") as relay,
    ):
        send_lines(relay.port, [b"one", b"two"])
        relay.settled("b", 2)

        assert relay.terminate() == 1

    told = relay.last["consumers"]["a"]
    assert told["accepted"] == 2 == told["delivered"] + told["cancelled"] + told["pending"]
    assert relay.lines[-2:] == [
        "a: 2 accepted, 0 delivered (kernel); 2 remained",
        "b: 2 accepted, 2 delivered (written); nothing remained",
    ]


def test_drain_waits_for_a_consumer_that_comes_back() -> None:
    """A consumer that returns within --drain gets what was queued, and nothing remains."""
    with (
        RecordingConsumer(listens=False) as consumer,
        daemon("--to", f"{consumer.url}?retry-max-backoff=100ms", "--drain", "30s") as relay,
    ):
        send_lines(relay.port, numbered(10))
        eventually(lambda: relay.consumer("consumer1")["pending"] == 10, "10 messages wait")
        relay.process.send_signal(signal.SIGTERM)
        relay.wait_for_line("stopping")
        consumer.come_back()

        assert relay.wait() == 0
        assert consumer.wait_for(10) == numbered(10)


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_second_signal_leaves_at_once(numbers: tuple[int, int]) -> None:
    """Long before --drain is over, the second signal ends it, and what remained is still told."""
    with (
        reserved_port() as nobody,
        daemon("--to", f"tcp://127.0.0.1:{nobody.getsockname()[1]}", "--drain", "1h") as relay,
    ):
        send_lines(relay.port, [b"one"])
        eventually(lambda: relay.consumer("consumer1")["pending"] == 1, "a message waits")
        relay.process.send_signal(numbers[0])
        relay.wait_for_line("stopping: what is queued has 1h")
        relay.process.send_signal(numbers[1])

        assert relay.wait() == 1
    assert relay.lines[-1] == "consumer1: 1 accepted, 0 delivered (kernel); 1 remained"


def test_sender_that_never_ends_cannot_keep_it() -> None:
    """Who goes on sending is cut off after half of --drain, and what came until then is delivered."""
    endless = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    endless += "while True: s.sendall(b'x' * 99 + b'\\n')"
    # A consumer that keeps nothing: it is in time for what was queued, however much that is.
    with (
        RecordingConsumer(unframe=lambda data: ([], b"")) as consumer,
        daemon("--to", consumer.url, "--drain", "6s") as relay,
    ):
        sender = subprocess.Popen([sys.executable, "-c", endless, str(relay.port)], stderr=subprocess.DEVNULL)
        try:
            relay.settled("consumer1", 1000)

            assert relay.terminate() == 0
        finally:
            sender.kill()
            sender.wait()
    told = relay.last["consumers"]["consumer1"]
    assert told["delivered"] + told["dropped"] == told["accepted"]


def test_consumer_that_is_down_gets_its_messages_later() -> None:
    """The daemon starts without its consumer, says so, and delivers in order when the consumer is there."""
    with (
        RecordingConsumer(listens=False) as late,
        RecordingConsumer() as there,
        daemon(f"--to=late={late.url}?retry-max-backoff=100ms", f"--to=there={there.url}") as relay,
    ):
        # In the first lines, or as a warning if it was found out a moment later.
        relay.wait_for_line(r"\blate\b.* down: .*connection refused")
        send_lines(relay.port, numbered(1000))
        assert there.wait_for(1000) == numbered(1000)
        late.come_back()

        assert late.wait_for(1000) == numbered(1000)
        relay.wait_for_line("INFO    late: up")
        assert relay.terminate() == 0
    assert relay.last["consumers"]["late"]["resent"] == 0


def test_consumer_that_goes_and_returns() -> None:
    """What comes again was unconfirmed when the connection broke, and is counted; nothing is missing."""
    messages = numbered(30_000)
    with (
        RecordingConsumer() as consumer,
        daemon("--to", f"{consumer.url}?retry-max-backoff=100ms") as relay,
        connected(relay.port) as sock,
    ):
        lines = [message + b"\n" for message in messages]
        sock.sendall(b"".join(lines[:10_000]))
        consumer.wait_for(1)
        consumer.go_away()
        sock.sendall(b"".join(lines[10_000:20_000]))
        relay.wait_for_line("WARNING consumer1: down")
        consumer.come_back()
        sock.sendall(b"".join(lines[20_000:]))
        relay.settled("consumer1", 30_000)
        resent = relay.consumer("consumer1")["resent"]
        got = [int(message) for stream in consumer.streams for message in stream.messages]

        assert all(one < other for stream in consumer.streams for one, other in pairwise(stream.messages))
        assert len(got) - len(set(got)) <= resent
        assert relay.terminate() == 0


def test_status_is_told_when_asked() -> None:
    """SIGUSR1 writes a line for people and an object for programs."""
    with daemon("--to", "a=null:") as relay:
        send_lines(relay.port, numbered(10))
        relay.settled("a", 10)
        told = relay.status()

        assert told["event"] == "status"
        assert told["listeners"][0]["messages"] == 10
        assert told["consumers"]["a"]["delivered"] == 10
        relay.wait_for_line(r"INFO    in 10 messages, \S+/s; a up, 10 delivered$")


def test_hangup_does_nothing() -> None:
    """SIGHUP is answered by a line; messages go on."""
    with daemon("--to", "a=null:") as relay:
        relay.process.send_signal(signal.SIGHUP)
        relay.wait_for_line("SIGHUP does nothing")
        send_lines(relay.port, [b"x"])

        assert relay.settled("a", 1)["delivered"] == 1


def test_nobody_has_to_read_its_json() -> None:
    """The program that reads the JSON may go; the messages go on, and the end is a good one."""
    process = subprocess.Popen(
        command("run", "--json", "--listen", "tcp://127.0.0.1:0", "--to", "null:"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert b'"ready"' in process.stdout.readline()
        process.stdout.close()
        for _ in range(3):
            process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)

        assert process.wait(BOUND) == 0
    finally:
        process.kill()
        process.wait()


def test_stdout_as_a_consumer() -> None:
    """``run --to stdout:`` is a pipe for messages; what it says of itself is on stderr."""
    read, write = os.pipe()
    process = subprocess.Popen(
        command("run", "--listen", "tcp://127.0.0.1:0", "--to", "stdout:"),
        env=clean_environment(),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    try:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith(b"listen"):
            assert line
        send_lines(int(line.rpartition(b":")[2]), [b"one", b"two"])
        got = b""
        while len(got) < 8:
            got += os.read(read, 100)

        assert got == b"one\ntwo\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
        process.stderr.close()
    finally:
        process.kill()
        process.wait()
        os.close(read)


def test_stderr_that_nobody_reads_makes_nobody_wait() -> None:
    """With a full pipe for its stderr, the daemon starts, forwards, and ends when it is asked to."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with RecordingConsumer() as consumer:
        try:
            while True:
                os.write(writing, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(writing, True)
        process = subprocess.Popen(
            command("run", "--json", "--listen", "tcp://127.0.0.1:0", "--to", consumer.url),
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=writing,
        )
        os.close(writing)
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            port = int(ready["listeners"][0]["address"].rpartition(":")[2])
            send_lines(port, numbered(1000))
            consumer.wait_for(1000)
            process.terminate()

            assert process.wait(BOUND) == 0
        finally:
            process.kill()
            process.communicate()
            os.close(reading)


SLEEPY = """
import sys, time
from producer_pool.plugin import Client, Transport, hookimpl

def sleep(endpoint, options):
    print("asleep", file=sys.stderr, flush=True)
    time.sleep(600)

@hookimpl
def producer_pool_transports():
    yield Transport(schemes=("sleepy",), client=sleep)
"""


def test_asked_to_end_before_it_has_begun(tmp_path: Path) -> None:
    """It ends within its bound all the same, and says that it had not begun."""
    plugin = tmp_path / "sleepy.py"
    plugin.write_text(SLEEPY)
    options = [
        "--listen",
        "tcp://127.0.0.1:0",
        "--drain",
        "0s",
        "--to",
        "sleepy://x",
        "--plugin",
        str(plugin),
    ]
    with subprocess.Popen(
        command("run", *options), stderr=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "asleep\n"
            process.terminate()
            said = process.stderr.read()

            assert process.wait(BOUND) == 1
        finally:
            process.kill()
    assert "not begun yet, and asked to end" in said
