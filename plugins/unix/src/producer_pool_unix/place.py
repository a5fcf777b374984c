"""A place that others connect to, or send to: where it is, its options, and who may come."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from producer_pool.plugin import Endpoint, InvalidOption, ListenError, option, why
from producer_pool_unix.address import Address, read_address
from producer_pool_unix.credentials import Credentials, may_come
from producer_pool_unix.socketfile import SocketFile

__all__ = ["Place", "PlaceOptions"]

_NOBODY: Final = 2**32 - 1
"""In place of a user's number, it says that there is none: chown(2), setresuid(2)."""


@dataclass(frozen=True)
class PlaceOptions:
    """The options of everything that others connect to, or send to."""

    mode: str = option("0600", "permissions of the socket file, octal; who may write to it may connect")
    allow_uid: tuple[int, ...] = option(
        (), "users that may connect, by number, besides our own and root; left out: whom the mode lets in"
    )

    def __post_init__(self) -> None:
        if not re.fullmatch("0?[0-7]{3}", self.mode):
            raise ValueError(f"option mode: {self.mode!r} is not of the form 0600: three octal digits")
        wrong = [uid for uid in self.allow_uid if not 0 <= uid < _NOBODY]
        if wrong:
            raise ValueError(f"option allow-uid: {wrong[0]} is no user's number: from 0 to {_NOBODY - 1}")


class Place:
    """
    Where others connect, or send, to: a file with a mode, or a name without one. And who may.

    A name has no mode: anybody on this machine could connect. So there, others than our own user and
    root have to be named.
    """

    def __init__(self, endpoint: Endpoint, options: PlaceOptions) -> None:
        self.endpoint = endpoint
        self.address = read_address(endpoint)
        mode = int(options.mode, 8)
        self._file = SocketFile(self.address, mode=mode) if self.address.is_file else None
        self._allowed = _allowed(self.address, mode, options)

    async def bind(self, sock: socket.socket, listen: Callable[[], object]) -> None:
        """
        Bind *sock* to this place, and call *listen*.

        Raises:
            ListenError: it cannot be; the text says what to do.
        """
        if self._file is not None:
            await self._file.bind(sock, listen)
            return
        try:
            sock.bind(self.address.name)
            listen()
        except OSError as error:
            hint = "; stop who has it (`ss -xap` names it), or choose another name"
            step = hint if error.errno == errno.EADDRINUSE else ""
            raise ListenError(f"{self.address.shown}: {why(error)}{step}") from None

    @property
    def lapses(self) -> bool:
        """Whether it is a file: others can remove that."""
        return self._file is not None

    def lapsed(self) -> str:
        """Say why nobody can come here any more; empty: they can."""
        return "" if self._file is None else self._file.lapsed()

    def origin(self, who: Credentials | None) -> str | None:
        """Return how what comes from *who* is called, or None: they may not come."""
        if not may_come(who, self._allowed):
            return None
        return self.address.shown if who is None else f"{self.address.shown}?{who}"

    def release(self) -> None:
        """Remove the file, if there is one and it is still ours. The socket must still be open."""
        if self._file is not None:
            self._file.remove()


def _allowed(address: Address, mode: int, options: PlaceOptions) -> tuple[int, ...] | None:
    """Return the users that may come besides our own and root; None: nobody is asked who they are."""
    allowed = options.allow_uid
    if not allowed and (address.is_file or sys.platform != "linux"):
        return None
    if sys.platform != "linux":
        raise InvalidOption(f"{address.shown}: allow-uid needs Linux, which tells who connects; use mode=")
    others = sorted({*allowed} - {0, os.geteuid()})
    if others and address.is_file and not mode & 0o022:
        raise InvalidOption(
            f"{address.shown}: allow-uid lets in uid {others[0]}, and mode={options.mode} keeps it out; "
            "say mode=0660, with a group that it is in, or mode=0666"
        )
    return allowed
