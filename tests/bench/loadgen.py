"""
The load generator without a C compiler: loadgen.c in Python, with the same options and the same lines.

It proves the same things about every message, at roughly a tenth of the relay's speed: it will be the limit,
and the report says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.messages import Format, Ledger

READ_SIZE = 256 * 1024
UNIX = "\0producer-pool-bench-{}"


@dataclass(slots=True, eq=False)
class Consumer:
    listening: socket.socket
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
    tail: bytes = b""


@dataclass(slots=True, eq=False)
class Source:
    """One producer's connection."""

    sock: socket.socket
    conn: int
    limit: int | None
    made: int = 0
    out: memoryview = field(default_factory=lambda: memoryview(b""))
    broken: bool = False

    def done(self) -> bool:
        return self.made == self.limit


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.format = Format(options.size)
        self.selector = selectors.DefaultSelector()
        self.sources: list[Source] = []
        self.made = self.batches = self.resets = 0
        self.latencies: list[float] = []
        self.started = self.progress = 0.0
        self.stopped = False
        self.consumers = [self._listen(i) for i in range(options.consumers)]

    def _listen(self, index: int) -> Consumer:
        if self.options.unix:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(UNIX.format(os.getpid() + (index << 22)))  # a pid has 22 bits
            listening.listen(128)
        else:
            listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        listening.setblocking(False)
        stalled = index >= self.options.consumers - self.options.stall
        consumer = Consumer(listening, Ledger(self.format, self.options.producers), stalled)
        self.selector.register(listening, selectors.EVENT_READ, consumer)
        return consumer

    def ports(self) -> list[int]:
        names = [consumer.listening.getsockname() for consumer in self.consumers]
        return [int(name.rpartition(b"-")[2]) if self.options.unix else name[1] for name in names]

    def connect(self, relay: int) -> None:
        options = self.options
        targets = self.ports() if options.ceiling else [relay]
        for conn in range(options.producers):
            share = options.count // options.producers + (conn < options.count % options.producers)
            for port in targets:
                sock = self._reach(port)
                sock.setblocking(False)
                self.sources.append(Source(sock, conn, share if options.count else None))

    def _reach(self, port: int) -> socket.socket:
        if self.options.unix:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(UNIX.format(port))
        else:
            sock = socket.create_connection(("127.0.0.1", port), timeout=5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def wanted(self) -> int:
        if self.options.consume:
            return int(self.options.count)
        return self.made // (self.options.consumers if self.options.ceiling else 1)

    def slowest(self) -> int:
        return min(consumer.ledger.unique for consumer in self.consumers if not consumer.stalled)

    def serve(self, timeout: float) -> None:
        for key, _ in self.selector.select(timeout):
            if isinstance(key.data, Consumer):
                self._accept(key.data)
            else:
                self._consume(key.data)

    def _accept(self, consumer: Consumer) -> None:
        sock, _ = consumer.listening.accept()
        sock.setblocking(False)
        connection = Connection(sock, consumer)
        consumer.connections.append(connection)
        if not consumer.stalled:  # a stalled one stays open, and is never read
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
            consumer.torn += bool(connection.tail)
            self.selector.unregister(connection.sock)
            connection.sock.close()
            return
        *lines, connection.tail = (connection.tail + got).split(b"\n")
        consumer.last = self.progress = time.monotonic()
        for line in lines:
            sent = consumer.ledger.enter(line)
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
        elif options.window and not options.ceiling:
            waiting = self.made - self.slowest()
            if waiting and waiting + options.batch > options.window:
                return
        count = options.batch if source.limit is None else min(options.batch, source.limit - source.made)
        at = int(since_start * 1e9)
        encode = self.format.encode
        lines = [encode(source.conn, source.made + i, at) for i in range(count)]
        source.out = memoryview(b"\n".join([*lines, b""]))
        source.made += count
        self.made += count

    def _push(self, source: Source) -> bool:
        if not source.out or source.broken:
            return False
        try:
            source.out = source.out[source.sock.send(source.out) :]
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


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    counts = {"producers": 1, "consumers": 1, "stall": 0, "batch": 1, "size": 128, "count": 0, "window": 0}
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    for name, seconds in {"rate": 0.0, "duration": 0.0, "bound": 60.0, "idle": 5.0, "linger": 0.1}.items():
        parser.add_argument(f"--{name}", type=float, default=seconds)
    parser.add_argument("--ceiling", action="store_true")
    parser.add_argument("--consume", action="store_true")
    parser.add_argument("--unix", action="store_true")
    return parser


def main() -> None:
    load = Load(parser().parse_args())
    say({"event": "listening", "ports": load.ports()})
    pid = 0
    if not load.options.ceiling and not load.options.consume:
        told = re.match(r"relay 127\.0\.0\.1:(\d+) (\d+)", sys.stdin.readline())
        if not told:
            return  # the runner gave up
        pid = int(told[2])
        load.connect(int(told[1]))
    elif load.options.ceiling:
        load.connect(0)
    wait_until = time.monotonic() + 1  # a relay may also connect with the first message
    while not all(consumer.connections for consumer in load.consumers) and time.monotonic() < wait_until:
        load.serve(0.02)
    say({"event": "start"})
    relay_before, own_before = cpu_of(pid), time.process_time()
    end = load.run()
    relay, own = cpu_of(pid) - relay_before, time.process_time() - own_before
    say({"event": "end"})
    until = time.monotonic() + load.options.linger
    while time.monotonic() < until:
        load.serve(0.01)  # what arrives now is doubled
    say({**load.result(end), "relay_cpu": relay, "generator_cpu": own})


if __name__ == "__main__":
    main()
