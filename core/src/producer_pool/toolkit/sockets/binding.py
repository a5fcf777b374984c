"""Sockets that are listened at: where they may be bound, and what to do when they cannot."""

from __future__ import annotations

import contextlib
import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ListenError
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.resolver import Address, resolve, spelled_out
from producer_pool.toolkit.sockets.tcp import TcpOptions, shown_address, why
from producer_pool.toolkit.streams.progress import TCP_ACKS, Progress, TcpProgress

__all__ = ["Binding", "HostBinding", "TcpBinding", "as_listen_error", "check_loopback", "is_loopback"]

_BACKLOG: Final = 1024
_LOOPBACK: Final = b"\x7f"
"""The first byte of 127.0.0.0/8."""
_LOOPBACK_6: Final = bytes(15) + b"\1"
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Before the four bytes of an IPv4 address that is written as one of IPv6."""
WHICH_LINK: Final = "; an address of one link needs its interface, as in [fe80::1%25eth0]"
"""What is wrong with an address that is an invalid argument."""
_PORT_TRIES: Final = 20
"""A name with several addresses gets one free port for all of them; one may have it taken."""


class Binding(ABC):
    """Makes the listening sockets of one endpoint, and knows who connected to them."""

    address: str
    """Where it listens, for people; without options and secrets."""
    acks: frozenset[Ack] = frozenset({Ack.WRITTEN})
    """The levels that its connections can be asked for, where they are written to: see progress()."""
    lapses: bool = False
    """Whether a socket can listen where nobody can come to it. Then lapsed() is asked now and then."""

    def check_now(self) -> None:  # noqa: B027 - most find out in bind()
        """
        Check what can be known before bind(), without waiting for anything.

        Raises:
            ConfigurationError: it may not be listened at, as it was told.
        """

    @abstractmethod
    async def bind(self) -> Sequence[socket.socket]:
        """
        Return non-blocking sockets that listen. Called again when those that it returned have lapsed.

        Raises:
            ListenError: there are none; the text says what to do.
        """

    @abstractmethod
    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        """Return the endpoint with the address that it really has."""

    def lapsed(self) -> str:
        """Say in a few words why nobody can come to what bind() returned; empty: they can."""
        return ""

    def admit(self, sock: socket.socket, peer: object) -> str | None:
        """Return the origin of what this connection will bring, or None to refuse it."""
        return ""

    def progress(self, sock: socket.socket) -> Progress | None:
        """Return what tells how far a connection got; None: nothing does on this platform."""
        return None

    def release(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of what bind() made besides sockets, which still listen: nobody can take over in between."""


class HostBinding(Binding):
    """
    Binds a socket at every address of a host name, on one port.

    What can be reached from other machines has to be protected or allowed: *allow_remote*.
    """

    whose: str = "ss -ltnp"
    """The command that names who has a port."""

    def __init__(self, endpoint: Endpoint, *, allow_remote: bool) -> None:
        self._endpoint = endpoint
        self._allow_remote = allow_remote
        self._host = endpoint.host
        self._port = endpoint.port
        self.address = f"{endpoint.scheme}://{shown_address(self._host, self._port)}"

    @abstractmethod
    def open(self, address: Address, *, alone: bool) -> socket.socket:
        """Return a non-blocking socket at *address*; *alone*: there are no others. OSError: it cannot be."""

    def check(self, addresses: Sequence[Address]) -> None:
        """
        Check that these addresses may be listened at.

        Raises:
            ConfigurationError: one may not, as it was told.
        """
        if not self._allow_remote:
            check_loopback(addresses, where=self.address)

    def check_now(self) -> None:
        self.check(spelled_out(self._host, self._port))

    async def bind(self) -> Sequence[socket.socket]:
        try:
            addresses = await resolve(self._host, self._port, listening=True)
        except OSError as error:
            raise ListenError(f"{self.address}: cannot look up {self._host}: {why(error)}") from None
        self.check(addresses)
        for _ in range(_PORT_TRIES):
            sockets = self._bind_all(addresses)
            if sockets:
                return sockets
        raise ListenError(f"{self.address}: no port is free at all addresses of {self._host}; name a port")

    def _bind_all(self, addresses: Sequence[Address]) -> list[socket.socket]:
        """Return a socket for each address; none if the port that the first one got is taken at another."""
        sockets: list[socket.socket] = []
        failure: OSError | None = None
        port = self._port
        try:
            for address in addresses:
                sockaddr = (address.sockaddr[0], port, *address.sockaddr[2:])
                try:
                    sockets.append(self.open(Address(address.family, sockaddr), alone=len(addresses) == 1))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE and port != self._port:
                        _close_all(sockets)
                        return []
                    # A name may have addresses that this machine does not have, such as ::1.
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    failure = error
                else:
                    port = port or sockets[0].getsockname()[1]
            if not sockets and failure is not None:
                raise failure
        except OSError as error:
            _close_all(sockets)
            raise ListenError(f"{self.address}: {why(error)}{self._next_step(error)}") from None
        return sockets

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        return self._endpoint.at(self._host, sockets[0].getsockname()[1])

    def admit(self, sock: socket.socket, peer: object) -> str:
        assert isinstance(peer, tuple)
        return f"{self._endpoint.scheme}://{shown_address(peer[0], peer[1])}"

    def _next_step(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"; stop who has it (`{self.whose}` names it), choose another port, or 0 for any free one"
        if error.errno in (errno.EACCES, errno.EPERM):
            return "; choose a port from 1024 up, or run with the capability CAP_NET_BIND_SERVICE"
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return "; choose an address of this machine (`ip address` lists them), such as 127.0.0.1"
        if error.errno == errno.EINVAL:
            return WHICH_LINK
        return ""


class TcpBinding(HostBinding):
    """
    Listens for TCP connections at every address of a host name, on one port.

    *options* are those of each connection; left out, it has the system's.
    """

    acks = TCP_ACKS

    def __init__(self, endpoint: Endpoint, *, allow_remote: bool, options: TcpOptions | None = None) -> None:
        super().__init__(endpoint, allow_remote=allow_remote)
        self._options = options

    def open(self, address: Address, *, alone: bool) -> socket.socket:
        return _listen(address.family, address.sockaddr, alone=alone)

    def admit(self, sock: socket.socket, peer: object) -> str:
        if self._options is not None:
            self._options.apply(sock)
        return super().admit(sock, peer)

    def progress(self, sock: socket.socket) -> Progress:
        return TcpProgress(sock)


def _listen(family: int, sockaddr: tuple[str | int, ...], *, alone: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Else the port stays taken for a minute after a restart.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not alone:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


@contextlib.contextmanager
def as_listen_error(where: str) -> Iterator[None]:
    """Make an error of the system, such as that there are no more descriptors, one that says where it was."""
    try:
        yield
    except ListenError:
        raise
    except OSError as error:
        raise ListenError(f"{where}: {why(error)}") from None


def check_loopback(addresses: Sequence[Address], *, where: str, tls: bool = True) -> None:
    """
    Check that only this machine can reach these addresses, for a listener that asks nobody who they are.

    *tls* says whether TLS would be another way out.

    Raises:
        ConfigurationError: others can reach one; the text names the option ``allow-remote``.
    """
    for address in addresses:
        if not is_loopback(address.host):
            raise ConfigurationError(
                f"{where}: {address.host} can be reached from other machines, and nothing here asks who they "
                f"are; listen at 127.0.0.1{', use TLS,' if tls else ''} or say allow-remote=yes in its URL"
            )


def is_loopback(host: str) -> bool:
    """Whether a numeric address can be reached from this machine only. 0.0.0.0 and :: are all addresses."""
    numeric = host.partition("%")[0]
    if ":" not in numeric:
        return socket.inet_pton(socket.AF_INET, numeric).startswith(_LOOPBACK)
    packed = socket.inet_pton(socket.AF_INET6, numeric)
    return packed == _LOOPBACK_6 or packed.startswith(_MAPPED + _LOOPBACK)
