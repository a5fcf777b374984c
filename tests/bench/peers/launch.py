"""How a relay is started, and how one sees that it listens."""

from __future__ import annotations

import atexit
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import build
from bench.places import unix_socket

__all__ = ["Launch", "UnavailableError", "free_port", "is_bound", "scratch"]

RELAYS_FROM = 2_000_000_000
"""Numbers of unix sockets on which relays listen begin here; those of consumers lie below."""
LISTENING, UNCONNECTED = "0A", "07"
"""The states of sockets of TCP and of UDP that somebody reads from."""
ACCEPTS = "00010000"
"""The flag of a unix socket to which one can connect."""


class UnavailableError(Exception):
    """This relay cannot run here; its text says what is missing."""


@dataclass(frozen=True)
class Launch:
    """A command. Without a *port*, it prints a line with `listen` and its URL on standard error."""

    command: Sequence[str]
    port: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set in its environment."""

    @classmethod
    def of(cls, command: Launch | Sequence[str]) -> Launch:
        return command if isinstance(command, Launch) else cls(command)


def scratch(prefix: str) -> Path:
    """Return a new folder on the disk of this checkout, which is removed at the end of this program."""
    folder = tempfile.mkdtemp(prefix=f"{prefix}-", dir=build.made_cache())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def free_port(wire: str, consumers: Sequence[int]) -> int:
    """Return a port of which nobody listens, for a relay that has to be told one."""
    if wire == "unix":
        port = RELAYS_FROM + consumers[0]
        atexit.register(unix_socket(port).unlink, missing_ok=True)
        return port
    with socket.socket(type=socket.SOCK_DGRAM if wire == "udp" else socket.SOCK_STREAM) as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


def is_bound(wire: str, port: int) -> bool:
    """Whether somebody listens on *port*. It is looked up, so that no connection is made."""
    if wire == "unix":
        path = str(unix_socket(port))
        return any(row[3] == ACCEPTS and row[-1] == path for row in _sockets("unix"))
    kind, state = ("udp", UNCONNECTED) if wire == "udp" else ("tcp", LISTENING)
    return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in _sockets(kind))


def _sockets(kind: str) -> list[list[str]]:
    """All of this kind on the machine, as the columns of proc_net(5)."""
    lines = Path(f"/proc/net/{kind}").read_text().splitlines()
    return [line.split() for line in lines[1:]]
