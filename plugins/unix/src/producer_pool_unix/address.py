"""Where a socket is, as a URL says it and as the kernel wants it."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from producer_pool.plugin import Endpoint, InvalidEndpoint

__all__ = ["Address", "read_address"]

_ROOM: Final = 108 if sys.platform == "linux" else 104
"""Bytes of `sun_path`, the zero that ends a path, or begins a name, included: unix(7)."""


@dataclass(frozen=True)
class Address:
    """The place of a socket: a file, or on Linux a name without one."""

    name: bytes
    """A path, or a zero byte and a name: what bind() and connect() take."""
    shown: str
    """The URL without its options, for people."""

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return not self.name.startswith(b"\0")

    @property
    def path(self) -> str:
        """The file's path."""
        return os.fsdecode(self.name)

    def not_a_socket(self) -> str:
        """Say what stands there instead of a socket; empty: nothing does, or nobody may know."""
        try:
            mode = os.stat(self.path).st_mode if self.is_file else stat.S_IFSOCK
        except OSError:
            return ""
        if stat.S_ISDIR(mode):
            return "a directory"
        return "" if stat.S_ISSOCK(mode) else "another file"


def read_address(endpoint: Endpoint) -> Address:
    """
    Return the address that a URL names: ``unix:///run/x.sock``, ``unix:/run/x.sock`` or ``unix:@name``.

    Raises:
        InvalidEndpoint: it names none, or one that cannot be.
    """
    endpoint.no_more_than_path()
    shown = f"{endpoint.without(endpoint.options)}"
    scheme = endpoint.scheme
    path = endpoint.path
    if "\0" in path:
        raise InvalidEndpoint(f"{shown}: a socket's name holds no zero byte (%00)")
    if path.startswith("@"):
        if path == "@":
            raise InvalidEndpoint(f"{shown} names no socket; write it as {scheme}:@name")
        if sys.platform != "linux":
            raise InvalidEndpoint(f"{shown}: only Linux has names without files; write {scheme}:///path")
        return _fitting(Address(b"\0" + os.fsencode(path[1:]), shown), "name", f"{scheme}:@short-name")
    if not path:
        raise InvalidEndpoint(
            f"{shown} names no socket; write it as {scheme}:///run/name.sock, or {scheme}:@name for no file"
        )
    if not path.startswith("/"):
        raise InvalidEndpoint(
            f"{shown}: a path begins with '/', and a name without a file with '@'; "
            f"write it as {scheme}://{quote(os.path.abspath(path))}, or {scheme}:@{quote(path)}"
        )
    return _fitting(Address(os.fsencode(path), shown), "path", f"{scheme}:///run/name.sock")


def _fitting(address: Address, what: str, example: str) -> Address:
    # A path has its zero at the end, which the system adds, and a name at the beginning.
    size = len(address.name) + address.is_file
    if size > _ROOM:
        raise InvalidEndpoint(
            f"{address.shown}: a socket's {what} has at most {_ROOM - 1} bytes, and this one has {size - 1}; "
            f"choose a shorter one, such as {example}"
        )
    return address
