"""What is measured side by side: the product with its defaults, its peers, and the C references."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench import build
from bench.certificate import certificate
from bench.peers.brokers import mosquitto, nats
from bench.peers.launch import Launch, UnavailableError, free_port, is_bound, scratch
from bench.peers.libraries import of_node, of_python, plain_python
from bench.peers.syslog import rsyslog, syslog_ng
from bench.places import unix_socket
from bench.process import Child

__all__ = ["MIXED", "RELAYS", "Relay", "UnavailableError"]

LISTENS = re.compile(
    r"listen.*?(?:(?:tcp|tls|ws|udp)://127\.0\.0\.1:|unix:\S*/producer-pool-bench-)([1-9]\d*)", re.IGNORECASE
)
START_WAIT = 20.0
MIXED = ("ws", "udp", "unix", "tcp")
"""The wires of a relay that reaches each of its consumers by another protocol."""
SPEEDUPS = "producer_pool_websocket_speedups"
WITHOUT_SPEEDUPS = (
    f"import sys; sys.modules['{SPEEDUPS}'] = None; from producer_pool.cli import main; sys.exit(main())"
)
"""The program of the product, to which they are not installed."""


@dataclass(frozen=True)
class Relay:
    """One contestant. `command` takes the consumers' ports."""

    name: str
    command: Callable[[Sequence[int]], Launch | list[str]]
    """A command alone prints a line with `listen` and its URL on standard error."""
    wire: str = "tcp"
    """How it is reached, and reaches: see Traffic."""
    tells: bool = False
    """Whether it writes lines of JSON to its standard output, and a status at SIGUSR1."""
    reaches: tuple[str, ...] = ()
    """How it reaches each consumer in turn, where that is another way."""
    encrypts: bool = False
    """Whether who connects has to speak TLS, and to trust our certificate."""

    def start(self, ports: Sequence[int], *, core: int | None, bound: float) -> tuple[Child, int]:
        """Start it towards *ports*; the process and the port on which it listens."""
        launch = Launch.of(self.command(ports))
        child = Child(launch.command, core=core, bound=bound, talks=self.tells, variables=launch.variables)
        try:
            port = launch.port
            if port is None:
                return child, int(child.wait_for(LISTENS, START_WAIT)[1])
            child.wait_until(lambda: is_bound(self.wire, port), START_WAIT)
            return child, port
        except BaseException:
            child.__exit__(None, None, None)
            raise


def _over(scheme: str, query: str = "", *, listening: str = "") -> Callable[[Sequence[int]], list[str]]:
    """Return the product over *scheme*, with options of its consumers and of its listener."""
    return lambda ports: _run(
        f"{scheme}://127.0.0.1:0{listening}", [f"{scheme}://127.0.0.1:{port}{query}" for port in ports]
    )


def _stored(sync: str) -> Callable[[Sequence[int]], list[str]]:
    """Return a relay that writes all to the disk of this checkout first, in a folder for this bench."""

    def command(ports: Sequence[int]) -> list[str]:
        return [*_over("tcp")(ports), "--spool", str(scratch("spool")), "--spool-sync", sync]

    return command


def _over_unix(ports: Sequence[int]) -> list[str]:
    urls = [f"unix:{unix_socket(port)}" for port in (free_port("unix", ports), *ports)]
    return _run(urls[0], urls[1:])


def _encrypting(ports: Sequence[int]) -> list[str]:
    pem = certificate()
    listen = f"tcp+tls://127.0.0.1:0?tls-cert={pem}&tls-key={pem}"
    return _run(listen, [f"tcp://127.0.0.1:{port}" for port in ports])


def _across(*wires: str) -> Callable[[Sequence[int]], list[str]]:
    """Return a relay that takes lines over tcp, and reaches the consumers over *wires*, one each."""

    def command(ports: Sequence[int]) -> list[str]:
        urls = [
            f"unix:{unix_socket(port)}" if wire == "unix" else f"{wire}://127.0.0.1:{port}"
            for wire, port in zip(wires, ports, strict=True)
        ]
        return _run("tcp://127.0.0.1:0", urls)

    return command


def _in_python(command: Callable[[Sequence[int]], list[str]]) -> Callable[[Sequence[int]], list[str]]:
    """Return the same relay as who installs it by default has it: without the speedups of websockets."""
    return lambda ports: [sys.executable, "-P", "-c", WITHOUT_SPEEDUPS, *command(ports)[1:]]


def _compiled(command: Callable[[Sequence[int]], list[str]]) -> Callable[[Sequence[int]], list[str]]:
    """Return the same relay with the speedups of websockets."""

    def checked(ports: Sequence[int]) -> list[str]:
        try:
            import_module(SPEEDUPS)
        except ImportError:
            raise UnavailableError(
                f"{SPEEDUPS} was not compiled; install gcc and the headers of Python, then make distclean"
            ) from None
        return command(ports)

    return checked


def _run(listen: str, consumers: Sequence[str]) -> list[str]:
    program = Path(sys.executable).parent / "producer-pool"
    if not program.exists():
        raise UnavailableError("producer-pool is not installed beside this Python; use make bench")
    targets = [part for url in consumers for part in ("--to", url)]
    return [str(program), "run", "--listen", listen, *targets]


def _reference(name: str, wire: str = "tcp") -> Callable[[Sequence[int]], list[str]]:
    """Return one of the short C loops, which are told places: a port, or a path of a unix socket."""

    def command(ports: Sequence[int]) -> list[str]:
        program = build.binary(f"references/{name}")
        if program is None:
            raise UnavailableError("no C compiler; install gcc or set CC")
        if wire == "unix":
            return [str(program), *(str(unix_socket(port)) for port in (free_port("unix", ports), *ports))]
        return [str(program), "0", *map(str, ports)]

    return command


RELAYS = {
    relay.name: relay
    for relay in (
        Relay("product", _over("tcp")),
        Relay("told", lambda ports: [*_over("tcp")(ports), "--json"], tells=True),
        Relay("written", _over("tcp", "?ack=written")),
        Relay("spool", _stored("always")),
        Relay("spool-os", _stored("os")),
        Relay("max-delay", _over("tcp", listening="?max-delay=1ms")),
        Relay("tls", _encrypting, encrypts=True),
        Relay("to-all", _in_python(_across(*MIXED)), reaches=MIXED),
        *(Relay(f"to-{wire}", _in_python(_across(wire)), reaches=(wire,)) for wire in MIXED),
        Relay("naive", plain_python("naive")),
        Relay("C", _reference("lines")),
        Relay("nats", nats, wire="nats"),
        Relay("rsyslog", rsyslog("tcp")),
        Relay("rsyslog-disk", rsyslog("tcp", stored=True)),
        Relay("syslog-ng", syslog_ng("tcp")),
        Relay("mosquitto", mosquitto, wire="mqtt"),
        Relay("unix", _over_unix, wire="unix"),
        Relay("syslog-ng-unix", syslog_ng("unix"), wire="unix"),
        Relay("C-unix", _reference("lines", "unix"), wire="unix"),
        Relay("websocket", _in_python(_over("ws")), wire="ws"),
        Relay("websocket-speedups", _compiled(_over("ws")), wire="ws"),
        Relay("naive-websocket", of_python("naive_websocket", "websockets"), wire="ws"),
        Relay("picows", of_python("with_picows", "picows"), wire="ws"),
        Relay("aiohttp", of_python("with_aiohttp", "aiohttp"), wire="ws"),
        Relay("node-ws", of_node("with_ws", "ws"), wire="ws"),
        Relay("C-websocket", _reference("websocket"), wire="ws"),
        Relay("udp", _over("udp"), wire="udp"),
        Relay("naive-udp", plain_python("naive_udp"), wire="udp"),
        Relay("rsyslog-udp", rsyslog("udp"), wire="udp"),
        Relay("C-udp", _reference("udp"), wire="udp"),
    )
}
