"""Stream sockets of both ends: connecting to one, and listening at one."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import Final

from producer_pool.plugin import (
    UNIX_ACKS,
    Binding,
    ConnectError,
    Dialer,
    Endpoint,
    LogLimit,
    Progress,
    UnixProgress,
    why,
)
from producer_pool_unix.address import Address, read_address
from producer_pool_unix.credentials import peer_of
from producer_pool_unix.place import Place, PlaceOptions

__all__ = ["UnixBinding", "UnixDialer", "why_unreachable"]

_log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_SEND_BUFFER: Final = 256 * 1024
"""
Bytes of send buffer to ask for, which Linux doubles, as far as the system allows (net.core.wmem_max).

So a batch that was read at once, of 256 KiB, is sent at once. The default buffer takes 208 KiB with all
that it keeps of them, and each batch then goes in two parts: measured, that costs half as much again.
"""
_FULL: Final = 0.02
"""Seconds until the next try when a consumer has many connections that it did not take yet."""


class UnixDialer(Dialer):
    """Connects to a stream socket of this machine."""

    acks = UNIX_ACKS

    def __init__(self, endpoint: Endpoint) -> None:
        self._address = read_address(endpoint)
        self.address = self._address.shown

    async def dial(self, timeout: float) -> socket.socket:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _make_room(sock)
            while code := sock.connect_ex(self._address.name):
                # A socket that waits would wait here, too, and nothing else tells when there is room.
                if code != errno.EAGAIN or loop.time() + _FULL > end:
                    raise ConnectError(
                        f"{self.address}: {why_unreachable(code, self._address, 'unix+dgram')}"
                    )
                await asyncio.sleep(_FULL)
        except BaseException:
            sock.close()
            raise
        return sock

    def progress(self, sock: socket.socket) -> Progress:
        return UnixProgress(sock)


def _make_room(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def why_unreachable(code: int, address: Address, other: str) -> str:
    """Say why connecting failed with *code*; *other* is the scheme for sockets of the other type."""
    # The kernel says the same of a socket that nobody listens at.
    if code == errno.ECONNREFUSED and (other_thing := address.not_a_socket()):
        return f"{other_thing} is there, and no socket; name that of the consumer"
    if code in (errno.ENOENT, errno.ECONNREFUSED):
        return f"{why(code)}; is it running?"
    if code == errno.EACCES:
        what = f"uid {os.geteuid()} has to be allowed to write to it, and to search the directories above it"
        return f"{why(code)}; {what}"
    if code == errno.EAGAIN:
        return "it does not take the connections that wait already; does it still accept?"
    if code == errno.EPROTOTYPE:
        scheme, _, place = address.shown.partition(":")
        return f"it is a socket of another type than {scheme}: needs; did you mean {other}:{place}?"
    return why(code)


class UnixBinding(Binding):
    """
    Listens at a stream socket of this machine, and asks the kernel who connects.

    *sends* is for one that connections are accepted at to be written to.
    """

    acks = UNIX_ACKS

    def __init__(self, endpoint: Endpoint, options: PlaceOptions, *, sends: bool = False) -> None:
        self._sends = sends
        self._place = Place(endpoint, options)
        self.address = self._place.address.shown
        self.lapses = self._place.lapses
        self._limit = LogLimit()

    async def bind(self) -> Sequence[socket.socket]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self._place.bind(sock, lambda: sock.listen(_BACKLOG))
        except BaseException:
            sock.close()
            raise
        return [sock]

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        return self._place.endpoint

    def admit(self, sock: socket.socket, peer: object) -> str | None:
        who = peer_of(sock)
        origin = self._place.origin(who)
        if origin is None:
            left_out = self._limit.allow("refused", asyncio.get_running_loop().time())
            if left_out is not None:
                more = f" (and {left_out} more like this)" if left_out else ""
                _log.warning(
                    "%s: connection refused: %s is not allowed; see allow-uid%s", self.address, who, more
                )
        elif self._sends:
            _make_room(sock)
        return origin

    def progress(self, sock: socket.socket) -> Progress:
        return UnixProgress(sock)

    def lapsed(self) -> str:
        return self._place.lapsed()

    def release(self) -> None:
        self._place.release()
