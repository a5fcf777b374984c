"""Waiting until a consumer has read all that is on its way to it."""

from pathlib import Path
from typing import Final

from support.consumers import ProcessConsumer, Record
from support.waiting import eventually

__all__ = ["read_out", "read_to_the_ends"]

LISTENS: Final = 0x10000
"""Among the flags of a unix socket."""
READS: Final = {"01", "03", "08", "0C"}
"""States of a TCP connection that is read, or will be: open, being made, and ended by the other side."""


def read_out(consumer: Record) -> list[bytes]:
    """Return all messages as soon as it has read what its kernel has taken for it, over TCP."""
    eventually(lambda: not any(_over_tcp(consumer)), "all that has arrived is read")
    return consumer.messages


def read_to_the_ends(consumer: Record) -> list[bytes]:
    """Return all messages as soon as each connection is read to its end: whoever sent to it has closed."""
    where = _over_unix if consumer.url.startswith("unix:") else _over_tcp
    eventually(lambda: not where(consumer), "each connection is read to its end")
    return consumer.messages


def _over_tcp(consumer: Record) -> list[int]:
    """Return what is unread of each connection that is read."""
    rows = [line.split() for line in (_net(consumer) / "tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].partition(":")[2], 16)
        for row in rows
        if row[3] in READS and int(row[1].rpartition(":")[2], 16) == consumer.port
    ]


def _over_unix(consumer: Record) -> list[str]:
    """Return the connections that are read. Its own end alone has the path."""
    path = consumer.url.removeprefix("unix://")
    lines = (_net(consumer) / "unix").read_text().splitlines()
    return [line for line in lines if line.endswith(f" {path}") and not int(line.split()[3], 16) & LISTENS]


def _net(consumer: Record) -> Path:
    """Return what the kernel tells of its network, which may be one of its own."""
    return Path(f"/proc/{consumer.pid if isinstance(consumer, ProcessConsumer) else 'self'}/net")
