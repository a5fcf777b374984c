"""Thousands of connections, silent ones, and no file descriptors left: who is connected does not notice."""

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.processes import Daemon, daemon
from support.producers import connected, send_lines
from support.waiting import BOUND, eventually

AT_ONCE = 500
ROUNDS = 20


def from_address(address: str, port: int) -> socket.socket:
    """Connect from an address of the loopback network: each has ports of its own."""
    return socket.create_connection(("127.0.0.1", port), BOUND, source_address=(address, 0))


def test_ten_thousand_connects() -> None:
    """Each of them brings its message, as does one that was there before and stays."""
    ledger = Ledger()
    with (
        RecordingConsumer() as consumer,
        daemon("--to", f"consumer={consumer.url}") as running,
        connected(running.port) as steady,
    ):
        for number in range(ROUNDS):
            address = f"127.0.{number}.1"
            sockets = [from_address(address, running.port) for _ in range(AT_ONCE)]
            steady.sendall(ledger.write("steady") + b"\n")
            for index, sock in enumerate(sockets):
                with sock:
                    sock.sendall(ledger.write(f"{number}.{index}") + b"\n")

        assert ledger.judge(consumer.wait_for(ROUNDS * AT_ONCE + ROUNDS)).exact
        eventually(lambda: counters(running)["connections"] == 1, "all are closed again")
        listener = counters(running)
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
            return is_closed(sock)
    except ConnectionResetError:
        return True


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_that_say_nothing() -> None:
    """They cost nobody anything, and are closed when they were idle for too long."""
    ledger = Ledger()
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        listen = ("--listen", "tcp://127.0.0.1:0?idle-timeout=1s")
        running = stack.enter_context(daemon(*listen, "--to", f"c={consumer.url}", listens=False))
        silent = [stack.enter_context(connected(running.port)) for _ in range(200)]
        half = [stack.enter_context(connected(running.port)) for _ in range(50)]
        for sock in half:
            sock.sendall(b"half")
        for number in range(10):
            send_lines(running.port, ledger.write_many(100, f"{number}"))
        assert ledger.judge(consumer.wait_for(1000)).exact

        for sock in (*silent, *half):
            assert is_closed(sock)
        listener = counters(running)
        assert (listener["evicted"], listener["connections"]) == (250, 0)
        running.wait_for_line("connection closed: no message within .*; see idle-timeout")


def test_file_descriptors_are_exhausted() -> None:
    """Who is connected goes on; it neither spins nor fills the log; and who waits gets in afterwards."""
    ledger = Ledger()
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        running = stack.enter_context(daemon("--to", f"consumer={consumer.url}"))
        steady = stack.enter_context(connected(running.port))
        steady.sendall(ledger.write("steady") + b"\n")
        consumer.wait_for(1)
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        with ExitStack() as many:
            for _ in range(100):
                many.enter_context(connected(running.port))
            complaint = "no new connections for now: too many open files; raise `ulimit -n`"
            running.wait_for_line(complaint)
            before = seconds_used(running)
            eventually(lambda: said(running, complaint) >= 3, "it says so each second")
            used = seconds_used(running) - before
            for _ in range(1000):
                steady.sendall(ledger.write("steady") + b"\n")
            consumer.wait_for(1001)

            assert said(running, complaint) < 20
            assert used < 1
        send_lines(running.port, [ledger.write("late")])

        assert ledger.judge(consumer.wait_for(1002)).exact


def said(running: Daemon, text: str) -> int:
    """Return how many lines of the log hold *text*."""
    return sum(text in line for line in running.lines)


def seconds_used(running: Daemon) -> float:
    """Return the processor time that the daemon has used."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
