"""What the kernel tells of a connection: the bytes that it took for a process which has not read them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["unread"]

_ESTABLISHED = "01"


def unread(port: int, table: Path = Path("/proc/net/tcp")) -> int | None:
    """
    Return the bytes in the receive buffers of connections to local *port*; None: the system does not tell.

    proc_net_tcp(5): local and remote address, state, and ``tx_queue:rx_queue``, all hexadecimal.
    """
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return None
    total = 0
    for line in lines:
        _, local, _, state, queues, *_ = line.split()
        if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            total += int(queues.rpartition(":")[2], 16)
    return total
