"""Who is at the other end, as the kernel vouches for it, and who may come."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["CREDENTIALS_SIZE", "Credentials", "may_come", "peer_of", "sender_of"]

_UCRED: Final = struct.Struct("=iII")
CREDENTIALS_SIZE: Final = socket.CMSG_SPACE(_UCRED.size) if sys.platform == "linux" else 0
"""Room for the credentials that come with a datagram."""


class Credentials(NamedTuple):
    """A process as it was when it connected, or sent, in our terms: `struct ucred`, unix(7)."""

    pid: int
    """0: it is outside of our PID namespace."""
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"pid={self.pid}&uid={self.uid}&gid={self.gid}"


def peer_of(sock: socket.socket) -> Credentials | None:
    """Return who connected; None: only Linux tells."""
    if sys.platform != "linux":
        return None
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials(*_UCRED.unpack(data))


def sender_of(ancillary: Sequence[tuple[int, int, bytes]]) -> Credentials | None:
    """Return who sent a datagram that came with *ancillary* data; None: it does not say."""
    if sys.platform == "linux":
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) == _UCRED.size:
                return Credentials(*_UCRED.unpack(data))
    return None


def may_come(who: Credentials | None, allowed: Sequence[int] | None) -> bool:
    """
    Whether *who* is one of the users *allowed*; None: all are whom the file's mode lets in.

    Our own user and root always may: they can do to this process what they like.
    """
    return allowed is None or (who is not None and who.uid in (0, os.geteuid(), *allowed))
