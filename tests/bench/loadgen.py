"""
The load generator without a C compiler: loadgen.c in Python, with the same options and the same lines.

It proves the same things about every message, at roughly a tenth of the relay's speed: it will be the limit,
and the report says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench import websocket
from bench.messages import Format, Ledger
from bench.places import unix_socket
from bench.websocket import FrameReader

READ_SIZE = 256 * 1024
DATAGRAMS = 64
THAWED = 0.5
"""Seconds without anything from a consumer that did not read: it has all."""
WIRES = ("tcp", "unix", "ws", "udp")


class Reader(Protocol):
    """Finds the messages in what comes on one connection."""

    answer: bytes

    @property
    def torn(self) -> bool: ...

    def feed(self, data: bytes) -> list[bytes]: ...


class LineReader:
    answer = b""

    def __init__(self) -> None:
        self._tail = b""

    @property
    def torn(self) -> bool:
        return bool(self._tail)

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._tail = (self._tail + data).split(b"\n")
        return lines


@dataclass(slots=True, eq=False)
class Consumer:
    listening: socket.socket
    wire: str
    ledger: Ledger
    stalled: bool
    connections: list[Connection] = field(default_factory=list)
    torn: int = 0
    last: float = 0.0

    def state(self, wanted: int, started: float) -> dict[str, Any]:
        ledger = self.ledger
        return {
            "received": ledger.unique,
            "lost": max(0, wanted - ledger.unique),
            "doubled": ledger.doubled,
            "reordered": ledger.reordered,
            "corrupt": ledger.corrupt,
            "torn": self.torn,
            "connections": len(self.connections),
            "stalled": self.stalled,
            "finished": max(0.0, self.last - started),
        }


@dataclass(slots=True, eq=False)
class Connection:
    sock: socket.socket
    consumer: Consumer
    reader: Reader


@dataclass(slots=True, eq=False)
class Source:
    """One producer's connection."""

    sock: socket.socket
    conn: int
    limit: int | None
    made: int = 0
    out: deque[memoryview] = field(default_factory=deque)
    """What is to be sent: in one piece, or a piece for each datagram."""
    broken: bool = False

    def done(self) -> bool:
        return self.made == self.limit


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.format = Format(options.size)
        self.mask = os.urandom(4)
        self.selector = selectors.DefaultSelector()
        self.sources: list[Source] = []
        self.made = self.batches = self.resets = 0
        self.latencies: list[float] = []
        self.started = self.progress = 0.0
        self.stopped = self.told = False
        self.quiet: list[socket.socket] = []
        reach = options.reach or (options.wire,)
        self.consumers = [self._listen(i, reach[i % len(reach)]) for i in range(options.consumers)]

    def _listen(self, index: int, wire: str) -> Consumer:
        if wire == "unix":
            listening = socket.socket(socket.AF_UNIX)
            path = unix_socket(os.getpid() + (index << 22))  # a pid has 22 bits
            path.unlink(missing_ok=True)  # of a process that had this id before
            listening.bind(str(path))
            listening.listen(128)
        elif wire == "udp":
            listening = socket.socket(type=socket.SOCK_DGRAM)
            # What is under way may lie at one consumer, and a quarter of the room is given back late.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
            listening.bind(("127.0.0.1", 0))
        else:
            listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        listening.setblocking(False)
        stalled = index >= self.options.consumers - self.options.stall
        consumer = Consumer(listening, wire, Ledger(self.format, self.options.producers), stalled)
        if not stalled or wire != "udp":  # one without connections is just never read
            self.selector.register(listening, selectors.EVENT_READ, consumer)
        return consumer

    def ports(self) -> list[int]:
        names = [consumer.listening.getsockname() for consumer in self.consumers]
        return [name[1] if isinstance(name, tuple) else int(name.rpartition("-")[2]) for name in names]

    def connect(self, relay: int) -> None:
        options = self.options
        targets = self.ports() if options.ceiling else [relay]
        for conn in range(options.producers):
            share = options.count // options.producers + (conn < options.count % options.producers)
            for port in targets:
                sock = self._reach(port)
                sock.setblocking(False)
                self.sources.append(Source(sock, conn, share if options.count else None))
        if options.quiet:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.quiet = [self._reach(relay) for _ in range(options.quiet)]

    def _reach(self, port: int) -> socket.socket:
        wire = self.options.wire
        if wire == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(unix_socket(port)))
        elif wire == "udp":
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", port))
        else:
            sock = socket.create_connection(("127.0.0.1", port), timeout=5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wire == "ws":
            self._shake_hands(sock)
        return sock

    def _shake_hands(self, sock: socket.socket) -> None:
        """Wait for the answer, and serve meanwhile: it may be our own consumer that has to give it."""
        sock.sendall(websocket.REQUEST)
        sock.setblocking(False)
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                got = sock.recv(READ_SIZE)
            except BlockingIOError:
                self.serve(0.001)
                continue
            if not got:
                break
            answer += got
        if not answer.startswith(b"HTTP/1.1 101"):
            sys.exit(f"the relay answers {answer!r}")

    def wanted(self) -> int:
        if self.options.consume:
            return int(self.options.count)
        return self.made // (self.options.consumers if self.options.ceiling else 1)

    def reached(self) -> bool:
        """Whether the relay has connected to each consumer, where there are connections."""
        return all(consumer.connections or consumer.wire == "udp" for consumer in self.consumers)

    def slowest(self) -> int:
        return min(consumer.ledger.unique for consumer in self.consumers if not consumer.stalled)

    def wait_until_told(self) -> None:
        """Serve until a line is there to be read: a relay may connect before it listens."""
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        while not self.told:
            self.serve(None)
        self.selector.unregister(sys.stdin)

    def serve(self, timeout: float | None) -> None:
        for key, _ in self.selector.select(timeout):
            if key.data is None:
                self.told = True
            elif isinstance(key.data, Connection):
                self._consume(key.data)
            elif key.data.wire == "udp":
                self._consume_datagrams(key.data)
            else:
                self._accept(key.data)

    def _accept(self, consumer: Consumer) -> None:
        sock, _ = consumer.listening.accept()
        sock.setblocking(False)
        reader = FrameReader(self.options.size) if consumer.wire == "ws" else LineReader()
        connection = Connection(sock, consumer, reader)
        consumer.connections.append(connection)
        if not consumer.stalled:  # a stalled one stays open, and is not read
            self.selector.register(sock, selectors.EVENT_READ, connection)

    def _consume(self, connection: Connection) -> None:
        consumer = connection.consumer
        try:
            got = connection.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except ConnectionError:
            got = b""
        if not got:
            consumer.torn += connection.reader.torn
            self.selector.unregister(connection.sock)
            connection.sock.close()
            return
        self._enter(consumer, connection.reader.feed(got))
        if connection.reader.answer:
            connection.sock.send(connection.reader.answer)
            connection.reader.answer = b""

    def _consume_datagrams(self, consumer: Consumer) -> None:
        messages: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(messages) < DATAGRAMS:
                messages.append(consumer.listening.recv(self.options.size + 1))
        self._enter(consumer, messages)

    def _enter(self, consumer: Consumer, messages: Iterable[bytes]) -> None:
        consumer.last = self.progress = time.monotonic()
        for message in messages:
            sent = consumer.ledger.enter(message)
            if self.options.rate and self.format.timed:
                self.latencies.append(self.progress - self.started - sent / 1e9)

    def pump(self) -> bool:
        """Write what may be written now; true if a source could take more at once."""
        more = False
        now = time.monotonic()
        for source in self.sources:
            if not source.out and not source.broken and not self.stopped and not source.done():
                self._refill(source, now - self.started)
            more |= self._push(source)
        return more

    def _refill(self, source: Source, since_start: float) -> None:
        options = self.options
        if options.rate:
            due = self.batches * options.batch / options.rate
            if due > since_start:
                return
            since_start = due  # a late batch keeps the time it was due: its wait counts as latency
            self.batches += 1
        elif options.window and (options.wire == "udp" or not options.ceiling):
            waiting = self.made - self.slowest()
            if waiting and waiting + options.batch > options.window:
                return
        count = options.batch if source.limit is None else min(options.batch, source.limit - source.made)
        at = int(since_start * 1e9)
        encode = self.format.encode
        messages = [encode(source.conn, source.made + i, at) for i in range(count)]
        if options.wire == "udp":
            source.out.extend(map(memoryview, messages))
        elif options.wire == "ws":
            frames = [websocket.frame(websocket.TEXT, message, self.mask) for message in messages]
            source.out.append(memoryview(b"".join(frames)))
        else:
            source.out.append(memoryview(b"\n".join([*messages, b""])))
        source.made += count
        self.made += count

    def _push(self, source: Source) -> bool:
        if not source.out or source.broken:
            return False
        try:
            while source.out:
                sent = source.sock.send(source.out[0])
                source.out[0] = source.out[0][sent:]
                if not source.out[0]:
                    source.out.popleft()
        except BlockingIOError:
            return False
        except ConnectionError:
            source.broken = True
            self.resets += 1
        return not source.out

    def complete(self) -> bool:
        if any(source.out or not (self.stopped or source.done()) for source in self.sources):
            return False
        return self.slowest() >= self.wanted()

    def run(self) -> str:
        options = self.options
        self.started = self.progress = time.monotonic()
        while True:
            now = time.monotonic()
            self.stopped = bool(options.duration) and now - self.started >= options.duration
            more = self.pump()
            if not more and self.complete():
                return "complete"
            self.serve(0 if more else 0.0005 if self.sources else 0.02)
            if now - self.progress > options.idle:
                return "idle"
            if now - self.started > options.bound:
                return "bound"

    def thaw(self) -> None:
        """Read what stalled consumers left, until nothing comes any more."""
        for consumer in self.consumers:
            for connection in consumer.connections if consumer.stalled else ():
                self.selector.register(connection.sock, selectors.EVENT_READ, connection)
        ended, self.progress = self.progress, time.monotonic()
        while time.monotonic() - self.progress < THAWED:
            self.serve(0.01)
        self.progress = ended

    def result(self, end: str) -> dict[str, Any]:
        consumers = [consumer.state(self.wanted(), self.started) for consumer in self.consumers]
        faults = ("lost", "doubled", "reordered", "corrupt", "torn")
        wrong = any(state[fault] for state in consumers if not state["stalled"] for fault in faults)
        return {
            "event": "result",
            "end": end,
            "sent": self.wanted() if not self.options.consume else 0,
            "elapsed": self.progress - self.started,
            "resets": self.resets,
            "consumers": consumers,
            "latency_us": self._latency(),
            "intact": not wrong and not self.resets,
        }

    def _latency(self) -> dict[str, float] | None:
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
        last = len(ordered) - 1
        return {name: round(ordered[int(share * last)] * 1e6, 1) for name, share in shares.items()}


def cpu_of(pid: int) -> float:
    """CPU seconds of process *pid*, all its threads; 0 for none."""
    return time.clock_gettime(~pid << 3 | 2) if pid else 0.0


def say(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def wires_of(names: str) -> tuple[str, ...]:
    """Read the argument of --reach."""
    wires = tuple(names.split(","))
    if not set(wires) <= set(WIRES):
        raise argparse.ArgumentTypeError(f"a wire is one of {', '.join(WIRES)}")
    return wires


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    counts = {"producers": 1, "consumers": 1, "stall": 0, "quiet": 0, "batch": 1}
    counts |= {"size": 128, "count": 0, "window": 0}
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    for name, seconds in {"rate": 0.0, "duration": 0.0, "bound": 60.0, "idle": 5.0, "linger": 0.1}.items():
        parser.add_argument(f"--{name}", type=float, default=seconds)
    parser.add_argument("--ceiling", action="store_true")
    parser.add_argument("--consume", action="store_true")
    parser.add_argument("--thaw", action="store_true")
    parser.add_argument("--wire", choices=WIRES, default="tcp")
    parser.add_argument("--reach", type=wires_of, default=())
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.ceiling and (options.reach or (options.wire == "udp" and options.consumers > 1)):
        sys.exit("no --reach for --ceiling, and one consumer over udp, please")
    load = Load(options)
    say({"event": "listening", "ports": load.ports()})
    pid = 0
    if not load.options.ceiling and not load.options.consume:
        load.wait_until_told()
        told = re.match(r"relay 127\.0\.0\.1:(\d+) (\d+)", sys.stdin.readline())
        if not told:
            return  # the runner gave up
        pid = int(told[2])
        load.connect(int(told[1]))
    elif load.options.ceiling:
        load.connect(0)
    wait_until = time.monotonic() + 1  # a relay may also connect with the first message
    while not load.reached() and time.monotonic() < wait_until:
        load.serve(0.02)
    say({"event": "start"})
    relay_before, own_before = cpu_of(pid), time.process_time()
    end = load.run()
    relay, own = cpu_of(pid) - relay_before, time.process_time() - own_before
    say({"event": "end"})
    until = time.monotonic() + load.options.linger
    while time.monotonic() < until:
        load.serve(0.01)  # what arrives now is doubled
    if options.thaw:
        load.thaw()
    say({**load.result(end), "relay_cpu": relay, "generator_cpu": own})


if __name__ == "__main__":
    main()
