"""What is measured side by side: the product with its defaults, the naive control, the C reference."""

from __future__ import annotations

import atexit
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import build
from bench.process import Child

HERE = Path(__file__).resolve().parent
LISTENS = re.compile(
    r"listen.*?(?:(?:tcp|ws|udp)://127\.0\.0\.1:|unix:@producer-pool-bench-)([1-9]\d*)", re.IGNORECASE
)
START_WAIT = 20.0
MIXED = ("ws", "udp", "unix", "tcp")
"""The wires of a relay that reaches each of its consumers by another protocol."""


class UnavailableError(Exception):
    """This relay cannot run here; its text says what is missing."""


@dataclass(frozen=True)
class Relay:
    """One contestant. `command` takes the consumers' ports; it prints `listen` and its URL on stderr."""

    name: str
    command: Callable[[Sequence[int]], list[str]]
    wire: str = "tcp"
    """How it is reached, and reaches: see Traffic."""
    reaches: tuple[str, ...] = ()
    """How it reaches each consumer in turn, where that is another way."""

    def start(self, ports: Sequence[int], *, core: int | None, bound: float) -> tuple[Child, int]:
        """Start it towards *ports*; the process and the port on which it listens."""
        child = Child(self.command(ports), core=core, bound=bound, talks=False)
        try:
            return child, int(child.wait_for(LISTENS, START_WAIT)[1])
        except BaseException:
            child.__exit__(None, None, None)
            raise


def _over(scheme: str, query: str = "") -> Callable[[Sequence[int]], list[str]]:
    return lambda ports: _run(
        f"{scheme}://127.0.0.1:0", [f"{scheme}://127.0.0.1:{port}{query}" for port in ports]
    )


def _stored(sync: str) -> Callable[[Sequence[int]], list[str]]:
    """Return a relay that writes all to the disk of this checkout first, in a folder for this bench."""

    def command(ports: Sequence[int]) -> list[str]:
        folder = tempfile.mkdtemp(prefix="spool-", dir=build.made_cache())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return [*_over("tcp")(ports), "--spool", folder, "--spool-sync", sync]

    return command


def _over_unix(ports: Sequence[int]) -> list[str]:
    urls = [f"unix:@producer-pool-bench-{port}" for port in (2_000_000_000 + ports[0], *ports)]
    return _run(urls[0], urls[1:])


def _across(*wires: str) -> Callable[[Sequence[int]], list[str]]:
    """Return a relay that takes lines over tcp, and reaches the consumers over *wires*, one each."""

    def command(ports: Sequence[int]) -> list[str]:
        urls = [
            f"unix:@producer-pool-bench-{port}" if wire == "unix" else f"{wire}://127.0.0.1:{port}"
            for wire, port in zip(wires, ports, strict=True)
        ]
        return _run("tcp://127.0.0.1:0", urls)

    return command


def _run(listen: str, consumers: Sequence[str]) -> list[str]:
    program = Path(sys.executable).parent / "producer-pool"
    if not program.exists():
        raise UnavailableError("producer-pool is not installed beside this Python; use make bench")
    targets = [part for url in consumers for part in ("--to", url)]
    return [str(program), "run", "--listen", listen, *targets]


def _naive(name: str) -> Callable[[Sequence[int]], list[str]]:
    program = [sys.executable, str(HERE / f"{name}.py")]
    return lambda ports: [*program, *(f"127.0.0.1:{port}" for port in ports)]


def _not_here(program: str) -> Callable[[Sequence[int]], list[str]]:
    """Return a peer that is not set up on this machine."""

    def command(ports: Sequence[int]) -> list[str]:
        raise UnavailableError(f"{program} is not set up here, for {len(ports)} consumers")

    return command


def _reference(ports: Sequence[int]) -> list[str]:
    program = build.binary("relay")
    if program is None:
        raise UnavailableError("no C compiler; install gcc or set CC")
    return [str(program), *(f"127.0.0.1:{port}" for port in ports)]


RELAYS = {
    relay.name: relay
    for relay in (
        Relay("product", _over("tcp")),
        Relay("written", _over("tcp", "?ack=written")),
        Relay("spool", _stored("always")),
        Relay("spool-os", _stored("os")),
        Relay("max-delay", _over("tcp", "?max-delay=1ms")),
        Relay("to-all", _across(*MIXED), reaches=MIXED),
        *(Relay(f"to-{wire}", _across(wire), reaches=(wire,)) for wire in MIXED),
        Relay("naive", _naive("naive")),
        Relay("C", _reference),
        Relay("unix", _over_unix, wire="unix"),
        Relay("websocket", _over("ws"), wire="ws"),
        Relay("naive-websocket", _naive("naive_websocket"), wire="ws"),
        Relay("udp", _over("udp"), wire="udp"),
        Relay("naive-udp", _naive("naive_udp"), wire="udp"),
        Relay("nats", _not_here("nats-server")),
        Relay("rsyslog", _not_here("rsyslogd")),
        Relay("rsyslog-disk", _not_here("rsyslogd")),
        Relay("rsyslog-udp", _not_here("rsyslogd"), wire="udp"),
        Relay("syslog-ng", _not_here("syslog-ng")),
        Relay("syslog-ng-unix", _not_here("syslog-ng"), wire="unix"),
        Relay("mosquitto", _not_here("mosquitto")),
        Relay("picows", _not_here("picows"), wire="ws"),
        Relay("aiohttp", _not_here("aiohttp"), wire="ws"),
        Relay("node-ws", _not_here("ws of node"), wire="ws"),
        Relay("C-udp", _not_here("the C reference"), wire="udp"),
        Relay("C-unix", _not_here("the C reference"), wire="unix"),
        Relay("C-websocket", _not_here("the C reference"), wire="ws"),
    )
}
