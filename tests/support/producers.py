"""Plain sockets that send to a listener, as programs of others do."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from support.waiting import BOUND

__all__ = ["connected", "send_lines"]


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Connect to a port of 127.0.0.1, and close in good order at the end."""
    with socket.create_connection(("127.0.0.1", port), BOUND) as sock:
        yield sock


def send_lines(port: int, messages: Iterable[bytes]) -> None:
    """Send *messages*, a line each, over one connection of their own."""
    with connected(port) as sock:
        sock.sendall(b"".join(message + b"\n" for message in messages))
