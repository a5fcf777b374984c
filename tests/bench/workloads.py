"""The workloads by name: what is sent, who is measured, and how often the relays run for one ratio."""

from __future__ import annotations

from dataclasses import dataclass

from bench.traffic import Traffic

MIB = 1024 * 1024


@dataclass(frozen=True)
class Through:
    """Messages through a relay, flat out or on schedule; *contestants* alternate within a repetition."""

    title: str
    traffic: Traffic
    contestants: tuple[str, ...] = ("product", "naive", "C")


@dataclass(frozen=True)
class Memory:
    """One consumer never reads, until its buffer overflows; the relay's peak is compared with its limits."""

    title: str
    traffic: Traffic
    buffer: int = 64 * MIB
    contestants: tuple[str, ...] = ("product",)


@dataclass(frozen=True)
class Embedded:
    """Calls from one thread of a program; *verbs* alternate in blocks of *block* calls within one process."""

    title: str
    verbs: tuple[str, ...]
    block: int
    blocks: int
    size: int = 128
    consumers: int = 4


@dataclass(frozen=True)
class Crowded:
    """Commands run to their end, without and with so many *distributions* more, none of them ours."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    distributions: int
    runs: int


Workload = Through | Memory | Embedded | Crowded

# A stalled run must offer more than the buffer holds, also where many messages share one batch.
WORKLOADS: dict[str, Workload] = {
    "tcp": Through("tcp lines of 128 B, one fast producer, 4 consumers", Traffic()),
    "many": Through(
        "64 producers, one message of 128 B per write, 4 consumers", Traffic(producers=64, batch=1)
    ),
    "acks": Through(
        "tcp as above: acknowledged by the next hop (the default), and only written",
        Traffic(),
        contestants=("written", "product"),
    ),
    "spool": Through(
        "tcp as above: stored before it is forwarded, synced each time, or when the system likes",
        Traffic(),
        contestants=("product", "spool", "spool-os"),
    ),
    "unix": Through(
        "the product over unix and over tcp, as tcp above", Traffic(), contestants=("product", "unix")
    ),
    "websocket": Through(
        "websocket text of 128 B, one fast producer, 4 consumers",
        Traffic(wire="ws"),
        contestants=("naive-websocket", "websocket"),
    ),
    "udp": Through(
        "datagrams of 128 B, one producer that waits for what it sent, 4 consumers",
        Traffic(wire="udp", batch=64),
        contestants=("naive-udp", "udp"),
    ),
    "submit": Embedded("submit() from one thread, 4 consumers", ("submit",), 50_000, 6),
    "forward": Embedded(
        "waiting forward_to_all() against four sendall(), one thread", ("forward", "sendall"), 500, 12
    ),
    "stalled-1k": Memory(
        "one of 4 never reads: 1 KiB, 64 KiB writes", Traffic(size=1024, stall=1, count=160_000)
    ),
    "stalled-1k-single": Memory(
        "one of 4 never reads: 1 KiB, 64 producers, one per write",
        Traffic(size=1024, stall=1, producers=64, batch=1, count=160_000),
    ),
    "stalled-10": Memory(
        "one of 4 never reads: 10 B, 64 KiB writes", Traffic(size=10, stall=1, count=12_000_000)
    ),
    "stalled-10-single": Memory(
        "one of 4 never reads: 10 B, 64 producers, one per write",
        Traffic(size=10, stall=1, producers=64, batch=1, count=600_000),
    ),
    "installed": Crowded(
        "commands with 300 more distributions installed",
        (("--version",), ("plugins", "list"), ("check", "--to", "tcp://127.0.0.1:9")),
        300,
        5,
    ),
}
