"""The workloads by name: what is sent, and who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.traffic import DATAGRAMS_UNDER_WAY, Traffic

MIB = 1024 * 1024
DISTRIBUTIONS = 300


@dataclass(frozen=True)
class Case:
    """A relay under another name, because its traffic differs from that of the workload."""

    name: str
    relay: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of Traffic."""


@dataclass(frozen=True)
class Through:
    """Messages through a relay, flat out or on schedule; *contestants* alternate within a repetition."""

    title: str
    traffic: Traffic
    contestants: tuple[str | Case, ...] = ("product", "naive", "C")
    seconds: float = 1.0
    repetitions: int = 7

    def cases(self) -> list[tuple[Case, Traffic]]:
        """Each contestant with its own traffic."""
        cases = [Case(one, one) if isinstance(one, str) else one for one in self.contestants]
        return [(case, replace(self.traffic, **case.changes)) for case in cases]


@dataclass(frozen=True)
class Memory(Through):
    """One consumer never reads, until its buffer overflows; the relay's peak is compared with its limits."""

    contestants: tuple[str | Case, ...] = ("product",)
    # Peaks of memory hardly spread, and these runs are long.
    repetitions: int = 2
    buffer: int = 64 * MIB


@dataclass(frozen=True)
class Calls:
    """Calls of a program's threads; *verbs* alternate in blocks of *block* calls within one process."""

    title: str
    verbs: tuple[str, ...]
    block: int
    blocks: int = 6
    threads: int = 1
    size: int = 128
    consumers: int = 4
    repetitions: int = 5


@dataclass(frozen=True)
class Idle:
    """What a relay takes that does nothing: of memory, alone and for each of so many idle *connections*."""

    title: str
    connections: int
    contestants: tuple[str, ...]
    repetitions: int = 5


@dataclass(frozen=True)
class Start:
    """
    From the start of the process until it accepts a connection, beside what Python itself takes.

    In each repetition *runs* times in turn, of which the fastest counts: alone, and with so many
    *distributions* more installed, none of them ours.
    """

    title: str
    runs: int
    distributions: int = DISTRIBUTIONS
    repetitions: int = 5


@dataclass(frozen=True)
class Crowded:
    """Commands run to their end, without and with so many *distributions* more, none of them ours."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    runs: int
    distributions: int = DISTRIBUTIONS
    repetitions: int = 3


Workload = Through | Calls | Idle | Start | Crowded


def many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


SINGLE = Traffic(producers=64, batch=1)
RATED = Traffic(rate=10_000, batch=1)
DATAGRAMS = Traffic(wire="udp", batch=64)
# What stops the whole machine for a moment, or makes it slower for the next run, spoils one repetition: so
# there are many, of less time.
MANY_SHORT_ONES: dict[str, Any] = {"seconds": 0.7, "repetitions": 15}
# A relay that waits for its disk all the time would take minutes for what is under way to others.
BEHIND_A_DISK = {"within": 4096, "batch": 64}

WORKLOADS: dict[str, Workload] = {
    "tcp": Through(
        "tcp lines of 128 B, one fast producer, 4 consumers",
        Traffic(),
        ("product", "nats", "rsyslog", "syslog-ng", "mosquitto", "naive", "C"),
    ),
    "tcp-1": Through(
        "tcp lines of 128 B, one fast producer, 1 consumer", Traffic(consumers=1), ("product", "nats", "C")
    ),
    "tcp-16": Through(
        "tcp lines of 128 B, one fast producer, 16 consumers", Traffic(consumers=16), ("product", "nats", "C")
    ),
    "tcp-1k": Through(
        "tcp lines of 1 KiB, one fast producer, 4 consumers", Traffic(size=1024), ("product", "nats", "C")
    ),
    "many-8": Through(
        "64 producers, 8 messages of 128 B per write, 4 consumers",
        Traffic(producers=64, batch=8),
        ("product", "nats", "C"),
    ),
    "many": Through(
        "64 producers, one message of 128 B per write, 4 consumers", SINGLE, ("product", "nats", "naive", "C")
    ),
    "rate": Through(
        "10,000 single messages of 128 B a second, one producer, 4 consumers",
        RATED,
        ("product", "nats", "rsyslog", "C"),
        **MANY_SHORT_ONES,
    ),
    "rate-many": Through(
        "10,000 single messages of 128 B a second, 64 producers, 4 consumers; with max-delay=1ms",
        replace(RATED, producers=64),
        ("max-delay", "product", "C"),
        **MANY_SHORT_ONES,
    ),
    "acks": Through(
        "tcp lines of 128 B, acknowledged by the next hop (the default), and only written",
        Traffic(),
        ("written", "product"),
        **MANY_SHORT_ONES,
    ),
    "spool": Through(
        "tcp lines of 128 B, stored before they are forwarded, synced or when the system likes; or not",
        Traffic(),
        ("product", "spool", "spool-os", Case("rsyslog-disk", "rsyslog-disk", BEHIND_A_DISK)),
    ),
    "udp": Through(
        "datagrams of 128 B, one producer that waits for what it sent, 4 consumers",
        DATAGRAMS,
        ("udp", "rsyslog-udp", "naive-udp", "C-udp"),
    ),
    "udp-16": Through(
        "datagrams of 128 B, one producer that waits for what it sent, 16 consumers",
        replace(DATAGRAMS, consumers=16),
        ("udp", "rsyslog-udp", "C-udp"),
    ),
    "unix": Through(
        "unix streams, lines of 128 B, one fast producer, 4 consumers",
        Traffic(wire="unix"),
        ("unix", "product", "syslog-ng-unix", "C-unix"),
        **MANY_SHORT_ONES,
    ),
    "websocket": Through(
        "websocket text of 128 B, one fast producer, 4 consumers",
        Traffic(wire="ws"),
        (
            "websocket",
            "websocket-speedups",
            "picows",
            "node-ws",
            "aiohttp",
            "naive-websocket",
            "C-websocket",
        ),
    ),
    "cross": Through(
        "lines of 128 B in over tcp; out over websocket, udp, unix and tcp, against each alone",
        # Datagrams are among them, so no more are under way than find room.
        Traffic(batch=64, consumers=1, within=DATAGRAMS_UNDER_WAY),
        (Case("to-all", "to-all", {"consumers": 4}), "to-ws", "to-udp", "to-unix", "to-tcp"),
    ),
    "submit": Calls("submit() from one thread, 4 consumers", ("submit", "handlers", "zmq"), 20_000),
    "submit-2": Calls("submit() from 2 threads at once, 4 consumers", ("submit",), 20_000, threads=2),
    "submit-4": Calls("submit() from 4 threads at once, 4 consumers", ("submit",), 10_000, threads=4),
    "submit-8": Calls("submit() from 8 threads at once, 4 consumers", ("submit",), 5_000, threads=8),
    "await-submit": Calls("await submit() in an asyncio program, 4 consumers", ("await-submit",), 20_000),
    "forward": Calls(
        "waiting forward_to_all() against four sendall(), one thread",
        ("forward", "sendall"),
        500,
        blocks=12,
    ),
    "stalled": Through(
        "one of 4 consumers never reads: 1 KiB, 64 KiB writes; until the other three have all",
        Traffic(size=1024, count=640_000),
        (
            Case("none stalled", "told"),
            Case("one stalled", "told", {"stall": 1}),
            Case("three alone", "told", {"consumers": 3}),
        ),
    ),
    # A stalled run must offer more than the buffer holds, also where many messages share one batch.
    "stalled-1k": Memory(
        "memory with one of 4 stalled: 1 KiB, 64 KiB writes", Traffic(size=1024, stall=1, count=160_000)
    ),
    "stalled-1k-single": Memory(
        "memory with one of 4 stalled: 1 KiB, 64 producers, one per write",
        replace(SINGLE, size=1024, stall=1, count=160_000),
    ),
    "stalled-10": Memory(
        "memory with one of 4 stalled: 10 B, 64 KiB writes", Traffic(size=10, stall=1, count=12_000_000)
    ),
    "stalled-10-single": Memory(
        "memory with one of 4 stalled: 10 B, 64 producers, one per write",
        replace(SINGLE, size=10, stall=1, count=600_000),
    ),
    "idle": Idle("memory of a relay that does nothing, 4 consumers", 1000, ("product", "nats", "naive", "C")),
    "idle-ws": Idle(
        "memory of a relay that does nothing, websockets, 4 consumers",
        1000,
        ("websocket", "picows", "node-ws", "aiohttp", "naive-websocket", "C-websocket"),
    ),
    "idle-tls": Idle("memory of a relay that does nothing, producers over TLS, 4 consumers", 1000, ("tls",)),
    "start": Start("start until a connection is accepted", 5),
    "installed": Crowded(
        "commands with 300 more distributions installed",
        (("--version",), ("plugins", "list"), ("check", "--to", "tcp://127.0.0.1:9")),
        5,
    ),
    "consumers": Through(
        "tcp lines of 128 B, one fast producer, 1 to 64 consumers",
        Traffic(),
        (
            *(Case(many(count, "consumer"), "product", {"consumers": count}) for count in (1, 4, 16, 64)),
            *(Case(f"C, {many(count, 'consumer')}", "C", {"consumers": count}) for count in (1, 64)),
        ),
    ),
    "connections": Through(
        "tcp lines of 128 B, one fast producer among 1 to 1,000 connections, 4 consumers",
        Traffic(),
        tuple(Case(many(count, "connection"), "product", {"quiet": count - 1}) for count in (1, 100, 1000)),
    ),
}

PEERS = frozenset(
    (
        *("nats", "rsyslog", "rsyslog-disk", "rsyslog-udp", "syslog-ng", "syslog-ng-unix", "mosquitto"),
        *("picows", "node-ws", "aiohttp", "naive-websocket", "handlers", "zmq"),
    )
)
"""Programs of others. That one of them lost messages is said; that anything else did is a fault."""
CONTROLS = ("nats", "naive", "naive-udp", "naive-websocket", "C", "C-udp", "C-unix", "C-websocket")
"""What is written for this bench to compare with, and nats. The relays of a table are compared with these."""
