"""Sending until the receiver's kernel has everything: of what lies in our own, no receiver knows."""

import fcntl
import struct
import termios
from collections.abc import Iterable

from support.producers import connected
from support.waiting import eventually

__all__ = ["lines_taken"]


def lines_taken(port: int, messages: Iterable[bytes]) -> None:
    """Send *messages*, a line each, over one connection; return when the receiver's kernel has them."""
    with connected(port) as sock:
        sock.sendall(b"".join(message + b"\n" for message in messages))
        eventually(
            lambda: struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))) == (0,),
            "the receiver's kernel takes what it is sent",
        )
