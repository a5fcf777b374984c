"""Thousands of connections, and no file descriptors left: who is connected does not notice."""

import resource
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger
from support.processes import Daemon, daemon
from support.producers import connected, send_lines
from support.waiting import BOUND, eventually

AT_ONCE = 500
ROUNDS = times(4, 20)

RECOVERY: Final = times(20.0, 2.0)
"""Seconds after which all is as before; tenfold where others use the machine, too."""


def from_address(address: str, port: int) -> socket.socket:
    """Connect from an address of the loopback network: each has ports of its own."""
    return socket.create_connection(("127.0.0.1", port), BOUND, source_address=(address, 0))


def test_thousands_of_connects() -> None:
    """Each of them brings its message, as does one that was there before and stays."""
    ledger = Ledger()
    longest = 0.0
    with (
        RecordingConsumer() as consumer,
        daemon("--to", f"consumer={consumer.url}") as running,
        connected(running.port) as steady,
    ):
        for number in range(ROUNDS):
            address = f"127.77.{number}.1"  # Where no other test is: its ports stay taken for a while.
            sockets = [from_address(address, running.port) for _ in range(AT_ONCE)]
            before = len(consumer.messages)
            began = time.monotonic()
            steady.sendall(ledger.write("steady") + b"\n")
            consumer.wait_for(before + 1)
            longest = max(longest, time.monotonic() - began)
            for index, sock in enumerate(sockets):
                with sock:
                    sock.sendall(ledger.write(f"{number}.{index}") + b"\n")

        verdict = ledger.judge(consumer.wait_for(ROUNDS * AT_ONCE + ROUNDS))
        eventually(lambda: counters(running)["connections"] == 1, "all are closed again")
        listener = counters(running)
        report("connects", connects=ROUNDS * AT_ONCE, lost=len(verdict.lost), steady_waited_s=longest)
        assert verdict.exact
        assert listener["accepted"] == ROUNDS * AT_ONCE + 1
        assert listener["refused"] == listener["evicted"] == 0


def counters(running: Daemon) -> dict[str, int]:
    """Return what the only listener counts, now."""
    found: dict[str, int] = running.status()["listeners"][0]
    return found


def test_more_connections_than_allowed() -> None:
    """One too many is refused at once, with one line in the log; those that are open go on."""
    ledger = Ledger()
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        listen = ("--listen", "tcp://127.0.0.1:0?max-connections=10")
        running = stack.enter_context(daemon(*listen, "--to", f"c={consumer.url}", listens=False))
        first = [stack.enter_context(connected(running.port)) for _ in range(10)]
        for index, sock in enumerate(first):
            sock.sendall(ledger.write(f"{index}") + b"\n")
        consumer.wait_for(10)
        for _ in range(50):
            assert is_refused(running.port)
        for index, sock in enumerate(first):
            sock.sendall(ledger.write(f"{index}") + b"\n")

        assert ledger.judge(consumer.wait_for(20)).exact
        assert counters(running)["refused"] == 50
        running.wait_for_line("connection refused: 10 are open; see max-connections")


def is_refused(port: int) -> bool:
    try:
        with connected(port) as sock:
            return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_file_descriptors_are_exhausted() -> None:
    """Who is connected goes on; it neither spins nor fills the log; and who waits gets in afterwards."""
    ledger = Ledger()
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        running = stack.enter_context(daemon("--to", f"consumer={consumer.url}"))
        steady = stack.enter_context(connected(running.port))
        steady.sendall(ledger.write("steady") + b"\n")
        consumer.wait_for(1)
        began = time.monotonic()
        with without_descriptors(running) as many:
            complaint = "no new connections for now: too many open files; raise `ulimit -n`"
            running.wait_for_line(complaint)
            before, waited = seconds_used(running.process.pid), time.monotonic()
            eventually(lambda: said(running, complaint) >= times(3, 11), "it says so each second")
            for _ in range(1000):
                steady.sendall(ledger.write("steady") + b"\n")
            consumer.wait_for(1001)
            used = seconds_used(running.process.pid) - before
            lines = said(running, complaint)
            now = time.monotonic()
            passed, waited = now - began, now - waited
            many.close()
            freed = time.monotonic()
            send_lines(running.port, [ledger.write("late")])
            verdict = ledger.judge(consumer.wait_for(1002))
            recovered = time.monotonic() - freed

        report(
            "descriptors",
            lost=len(verdict.lost),
            lines_per_s=lines / passed,
            cpu_share=used / waited,
            recovery_s=recovered,
        )
        assert verdict.exact
        # One at once, and one each second after that.
        assert lines <= 1 + passed
        assert used < max(1.0, waited / 10)
        assert recovered < RECOVERY


@contextmanager
def without_descriptors(running: Daemon) -> Iterator[ExitStack]:
    """Let it have 64 descriptors, and connect to it more often; what is yielded closes these connections."""
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    with ExitStack() as many:
        for _ in range(100):
            many.enter_context(connected(running.port))
        yield many


def test_consumer_is_lost_while_there_are_no_descriptors() -> None:
    """Its producer says why it cannot connect, keeps all, and delivers it when there are some again."""
    ledger = Ledger()
    with ExitStack() as stack:
        consumer, other = (stack.enter_context(RecordingConsumer()) for _ in range(2))
        quick = "retry-backoff=10ms&retry-max-backoff=100ms"
        to = ("--to", f"lost={consumer.url}?{quick}", "--to", f"other={other.url}")
        running = stack.enter_context(daemon(*to))
        steady = stack.enter_context(connected(running.port))
        steady.sendall(ledger.write() + b"\n")
        consumer.wait_for(1)
        with without_descriptors(running) as many:
            running.wait_for_line("no new connections for now")
            # The descriptor that it frees is taken by who waited to come in.
            consumer.go_away()
            running.wait_for_line("lost: .*too many open files; raise `ulimit -n`")
            consumer.come_back()
            for message in ledger.write_many(100):
                steady.sendall(message + b"\n")
            other.wait_for(101)
            many.close()
            freed = time.monotonic()
            verdict = ledger.judge(consumer.wait_for(101))
            recovered = time.monotonic() - freed

        report("descriptors, and a consumer is lost", lost=len(verdict.lost), recovery_s=recovered)
        assert verdict.complete
        assert ledger.judge(other.messages).exact
        assert recovered < RECOVERY


NAIVE: Final = """
    import asyncio, resource, sys

    async def main():
        async def serve(reader, writer):
            while await reader.read(4096):
                pass

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(float(sys.argv[1]))

    asyncio.run(main())
"""


def test_control_of_the_descriptors() -> None:
    """The server of asyncio itself writes many lines a second about it."""
    seconds = times(2.0, 5.0)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NAIVE), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, ExitStack() as many:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for _ in range(100):
            many.enter_context(connected(port))
        _, log = process.communicate("all are here\n", timeout=BOUND + seconds)

    lines = log.count("socket.accept() out of system resource")
    report("descriptors, control", lines_per_s=lines / seconds)
    assert lines / seconds > 2


def said(running: Daemon, text: str) -> int:
    """Return how many lines of the log hold *text*."""
    return sum(text in line for line in running.lines)


def seconds_used(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
