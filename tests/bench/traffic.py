"""What is sent through a relay, and the process that sends and verifies it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from bench import build
from bench.peers.launch import UnavailableError
from bench.places import unix_socket
from bench.process import BenchError, Child, busy_time

# What a queue may be charged for a batch beyond its bytes. The window counts every message as its own batch:
# so no run fills a buffer of 64 MiB. Measured is the relay flat out, and not what it does when it is full.
OVERHEAD = 512
WINDOW_BYTES = 32 * 1024 * 1024
WRITE_SIZE = 64 * 1024
# A datagram that finds no room is lost. So many of 128 bytes find it in a receive buffer as it is by default.
DATAGRAMS_UNDER_WAY = 192


COMPILED = ("nats", "mqtt")
"""Wires that only the load in C speaks."""


@dataclass(frozen=True)
class Traffic:
    """Messages of *size* bytes, *batch* a write (0: 64 KiB), for *duration* seconds or *count* in all."""

    size: int = 128
    producers: int = 1
    consumers: int = 4
    batch: int = 0
    stall: int = 0
    count: int = 0
    duration: float = 0.0
    rate: float = 0.0
    idle: float = 5.0
    wire: str = "tcp"
    """tcp, unix, ws or udp; nats or mqtt. With unix, a port is the number of a socket: see places.py."""
    reach: tuple[str, ...] = ()
    """The wires of the consumers in turn, where they are not the producers'."""
    quiet: int = 0
    """Connections besides those of the producers, on which nothing is ever sent."""
    thaw: bool = False
    """Whether stalled consumers read what is left for them, once all others have everything."""
    within: int = 0
    """The most messages under way, if that is to be less than usual."""

    @property
    def per_write(self) -> int:
        """Messages in one write, or datagrams in one call."""
        return self.batch or max(1, WRITE_SIZE // (self.size + 1))

    @property
    def window(self) -> int:
        """The most messages under way to the slowest consumer that reads."""
        datagrams = "udp" in (self.wire, *self.reach)
        bound = DATAGRAMS_UNDER_WAY if datagrams else self.within or WINDOW_BYTES // (self.size + OVERHEAD)
        return max(bound, self.per_write)

    def lasting(self, seconds: float) -> Traffic:
        """The same for *seconds*, unless it is told by the count."""
        return self if self.count else replace(self, duration=seconds)

    def arguments(self) -> list[str]:
        """The options of loadgen.c and loadgen.py."""
        names = (
            "size",
            "producers",
            "consumers",
            "stall",
            "count",
            "duration",
            "rate",
            "idle",
            "window",
            "quiet",
        )
        pairs = [(name, getattr(self, name)) for name in names]
        pairs += [("batch", self.per_write), ("wire", self.wire)]
        if self.reach:
            pairs.append(("reach", ",".join(self.reach)))
        return [part for name, value in pairs for part in (f"--{name}", str(value))] + ["--thaw"] * self.thaw


class LoadProcess:
    """A running load generator. `python=True` takes the slow one even if there is a compiler."""

    def __init__(
        self, traffic: Traffic, *mode: str, core: int | None = None, bound: float = 60.0, python: bool = False
    ) -> None:
        compiled = None if python else build.binary("load/loadgen")
        self.compiled = compiled is not None
        if compiled is None and traffic.wire in COMPILED:
            raise UnavailableError(f"the load in Python does not speak {traffic.wire}; install gcc")
        program = [str(compiled)] if compiled else [sys.executable, "-m", "bench.loadgen"]
        arguments = [*traffic.arguments(), "--bound", str(bound), *mode]
        self.child = Child([*program, *arguments], core=core, bound=bound + 30)
        self.child.gentle = False
        self.ports: list[int] = self._event("listening")["ports"]

    def _event(self, name: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.child.line())
        if event["event"] != name:
            raise BenchError(f"the load generator said {event['event']}, expected {name}")
        return event

    def begin(self, port: int, pid: int) -> None:
        """Send to the relay with this listening *port* and process *pid* (0: unknown)."""
        self.child.tell(f"relay 127.0.0.1:{port} {pid}")

    def result(self, relay_core: int | None = None, load_core: int | None = None) -> dict[str, Any]:
        """
        Wait for the end; each consumer's ledger, and what it cost.

        `relay_core_busy` and `load_core_busy` are the seconds for which anybody used these cores meanwhile.
        """
        self._event("start")
        before = busy_time(relay_core), busy_time(load_core)
        self._event("end")
        relay_busy, load_busy = busy_time(relay_core) - before[0], busy_time(load_core) - before[1]
        return {**self._event("result"), "relay_core_busy": relay_busy, "load_core_busy": load_busy}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.__exit__(kind, error, trace)
        for port in self.ports:
            unix_socket(port).unlink(missing_ok=True)
