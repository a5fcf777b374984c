"""UDP sockets of both ends: addresses, multicast and broadcast, and what Linux tells about lost datagrams."""
# Rule: this is the only file that knows IP_RECVERR, UDP_SEGMENT, UDP_GRO and SO_MEMINFO.

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from producer_pool.contract.options import Size, option
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ConnectError, InvalidOption
from producer_pool.model.text import format_size
from producer_pool.toolkit.datagrams.sockets import Ancillary, DatagramBinding, DatagramDialer
from producer_pool.toolkit.sockets.binding import WHICH_LINK, HostBinding, check_loopback
from producer_pool.toolkit.sockets.resolver import Address
from producer_pool.toolkit.sockets.tcp import look_up, shown_address, why

__all__ = ["UDP_MAX_MESSAGE", "UdpBinding", "UdpDialer", "UdpListenerOptions", "UdpOptions", "is_multicast"]

_log = logging.getLogger(__name__)

UDP_MAX_MESSAGE: Final = 65_507
"""
Bytes of the longest message: 65,535 of an IPv4 packet without its headers, 20 and 8.

IPv6 has 20 more, which would fit or not by the address that a name happens to have.
"""

_LINUX: Final = sys.platform == "linux"
# From linux/in.h, linux/in6.h, linux/udp.h and asm-generic/socket.h; Python has no names for them.
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
_DROPS: Final = 8
"""The place in it of the datagrams that there was no room for."""
_ICMP: Final = (2, 3)
"""Origins of errors (linux/errqueue.h) that belong to a datagram which was sent: ICMP and ICMPv6."""
_REPORTS: Final = 64
"""Errors that are read at once."""

_HINTS: Final = {
    errno.EACCES: "; say broadcast=yes, if that is meant",
    errno.ECONNREFUSED: "; is it running?",
    errno.EINVAL: WHICH_LINK,
}
"""What to do when there is no way to an address."""

_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of receive buffer to ask for where nothing is said, as far as the system allows."""
_MOST_ASKED_FOR: Final = 2**31 - 1
"""Bytes of it that can be asked for at all: a number of 32 bits with a sign."""


@dataclass(frozen=True)
class _MulticastOptions:
    """The options of both ends of a multicast group."""

    multicast: bool = option(False, "the address is that of a multicast group")
    multicast_interface: str = option(
        "", "the network interface on which that group is, such as eth0; left out: the system's choice"
    )

    def interface(self, where: str) -> int:
        """
        Return the number of the interface; 0: the system chooses.

        Raises:
            InvalidOption: there is none of that name; the text lists those that there are.
        """
        name = self.multicast_interface
        if not name:
            return 0
        try:
            return socket.if_nametoindex(name)
        except (OSError, ValueError):  # a zero byte is not even asked for
            known = ", ".join(known for _, known in socket.if_nameindex())
            raise InvalidOption(f"{where}: there is no network interface {name!r}; known: {known}") from None

    def check(self, addresses: Sequence[Address], where: str) -> None:
        """
        Check that a group is meant where one is given.

        Raises:
            ConfigurationError: it was not said, or it is none; the text names the option ``multicast``.
        """
        for address in addresses:
            if is_multicast(address.host) != self.multicast:
                wrong = "is no multicast group; leave out" if self.multicast else "is a multicast group; say"
                raise ConfigurationError(f"{where}: {address.host} {wrong} multicast=yes")


@dataclass(frozen=True)
class UdpOptions(_MulticastOptions):
    """The options of the UDP socket of a client."""

    multicast_ttl: int = option(1, "how many networks a multicast datagram may cross; 1: it stays in its own")
    broadcast: bool = option(False, "the address is that of all machines of a network")

    def apply(self, sock: socket.socket, where: str) -> None:
        """Set these options on *sock*."""
        if self.broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if not self.multicast:
            return
        interface = self.interface(where)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, self.multicast_ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self.multicast_ttl)
            if interface:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _ip_mreqn("0.0.0.0", interface))


@dataclass(frozen=True)
class UdpListenerOptions(_MulticastOptions):
    """The options of the UDP socket of a listener."""

    allow_remote: bool = option(
        False, "listen where other machines can send to, though nothing asks who they are"
    )
    receive_buffer: Size | None = option(
        None,
        "bytes that the kernel keeps until they are read (SO_RCVBUF), of which the smallest datagram takes "
        "some 400; left out: 4 MiB, or what the system allows",
    )

    def apply(self, sock: socket.socket, where: str) -> None:
        """Set the receive buffer of *sock*; what the system does not allow is logged if it was asked for."""
        wanted = _RECEIVE_BUFFER if self.receive_buffer is None else self.receive_buffer
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(wanted, _MOST_ASKED_FOR))
        given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        # socket(7): Linux doubles it, for its own bookkeeping.
        given = given // 2 if _LINUX else given
        if self.receive_buffer is not None and given < wanted:
            _log.warning(
                "%s: receive-buffer=%s, and the system gave %s; raise net.core.rmem_max (sysctl)",
                where,
                format_size(wanted),
                format_size(given),
            )


# -- clients ---------------------------------------------------------------------------------------


class UdpDialer(DatagramDialer):
    """
    Connects UDP sockets to the addresses of a name.

    A datagram that nobody takes is answered by ICMP, which Linux keeps with the beginning of that
    datagram (IP_RECVERR). Another address of the name is the next one to be tried then.
    """

    max_message = UDP_MAX_MESSAGE
    belated = True

    def __init__(self, endpoint: Endpoint, options: UdpOptions) -> None:
        self.name = endpoint.host
        self._port = endpoint.consumer_port
        self._options = options
        self.address = f"{endpoint.scheme}://{shown_address(self.name, self._port)}"
        self._skip = 0
        """Addresses at which datagrams came back."""
        self._left: list[Address] = []
        if not 0 <= options.multicast_ttl <= 255:
            raise InvalidOption(f"{self.address}: multicast-ttl must be from 0 to 255")
        options.interface(self.address)

    async def dial(self, timeout: float) -> socket.socket:
        addresses = await look_up(self.name, self._port, timeout, where=self.address)
        try:
            self._options.check(addresses, self.address)
        except ConfigurationError as error:
            raise ConnectError(f"{error}") from None
        first = self._skip % len(addresses)
        self._left = addresses[first:] + addresses[:first]
        failures: list[OSError] = []
        sock = self._next(failures)
        if sock is None:
            hint = _HINTS.get(failures[0].errno or 0, "")
            raise ConnectError(f"{self.address}: {why(failures[0])}{hint}")
        return sock

    def another(self) -> socket.socket | None:
        return self._next([])

    def _next(self, failures: list[OSError]) -> socket.socket | None:
        """Return a socket to the first address left that there is a way to."""
        while self._left:
            address = self._left.pop(0)
            try:
                sock = socket.socket(address.family, socket.SOCK_DGRAM)
            except OSError as error:
                failures.append(error)
                continue
            try:
                sock.setblocking(False)
                if _LINUX and address.family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                elif _LINUX:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
                self._options.apply(sock, self.address)
                sock.connect(address.sockaddr)
                if self._port and sock.getsockname() == sock.getpeername():
                    # The port that we get may be the one we look for: what is sent would come to ourselves.
                    # Nobody listens there, and nobody could while we hold it.
                    raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            except OSError as error:
                sock.close()
                failures.append(error)
            else:
                return sock
        return None

    def returned(self, sock: socket.socket) -> list[bytes] | None:
        if not _LINUX:
            return None
        found = []
        for _ in range(_REPORTS):
            try:
                # No more than 1,280 bytes of a datagram come back (RFC 4443, 2.4; less in IPv4).
                start, reports, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            # struct sock_extended_err: a number of 32 bits, then the origin.
            if any(report[4] in _ICMP for _, _, report in reports):
                found.append(start)
        self._skip += bool(found)
        return found

    def segmented(self, sock: socket.socket) -> Callable[[bytes, int], object] | None:
        try:
            sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
        except OSError:
            return None
        send = sock.sendmsg

        def send_segments(joined: bytes, size: int) -> None:
            send((joined,), ((socket.IPPROTO_UDP, _UDP_SEGMENT, size.to_bytes(2, sys.byteorder)),))

        return send_segments


# -- listeners -------------------------------------------------------------------------------------


class UdpBinding(HostBinding, DatagramBinding):
    """
    Binds UDP sockets at every address of a host name, on one port.

    Counts what the kernel had no room for by the counter that SO_RXQ_OVFL tells with a datagram, asked
    for at the socket: so it is up to date when no further datagram comes.
    """

    whose = "ss -lunp"
    ancillary = 64

    def __init__(self, endpoint: Endpoint, options: UdpListenerOptions) -> None:
        super().__init__(endpoint, allow_remote=options.allow_remote)
        self._options = options
        self._interface = options.interface(self.address)

    def check(self, addresses: Sequence[Address]) -> None:
        self._options.check(addresses, self.address)
        if not self._allow_remote:
            check_loopback(addresses, where=self.address, tls=False)

    def open(self, address: Address, *, alone: bool) -> socket.socket:
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if address.family == socket.AF_INET6 and not alone:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._options.apply(sock, self.address)
            if self._options.multicast:
                # Several programs may listen to one group. To anything else it would let others steal.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(_on_link(address, self._interface))
            if self._options.multicast:
                _join(sock, address, self._interface)
            _let_join(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def accompanied(self, peer: object, ancillary: Ancillary) -> tuple[object, int]:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
                return peer, int.from_bytes(data, sys.byteorder)
        return peer, 0

    def lost(self, sock: socket.socket) -> int:
        try:
            answer = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0
        return int(_MEMINFO.unpack(answer)[_DROPS]) if len(answer) == _MEMINFO.size else 0


def _let_join(sock: socket.socket) -> None:
    """Let the kernel hand over datagrams of one sender and size in one piece, where it can."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    except OSError:
        return


def _on_link(address: Address, interface: int) -> tuple[str | int, ...]:
    """Return where to bind a socket: an address of one link needs its interface, and may name it itself."""
    if address.family != socket.AF_INET6 or address.sockaddr[3]:
        return address.sockaddr
    return (*address.sockaddr[:3], interface)


def _join(sock: socket.socket, address: Address, interface: int) -> None:
    """Receive what is sent to a group, on one interface."""
    if address.family == socket.AF_INET6:
        group = socket.inet_pton(socket.AF_INET6, address.host.partition("%")[0])
        # An address such as ff02::1%eth0 says itself where it is.
        membership = group + struct.pack("=I", interface or address.sockaddr[3])
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        everything = (socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _ip_mreqn(address.host, interface))
        everything = (socket.IPPROTO_IP, _IP_MULTICAST_ALL)
    if _LINUX:
        # Else it gets what comes on the interfaces on which any other program has joined the group.
        sock.setsockopt(*everything, 0)


def _ip_mreqn(group: str, interface: int) -> bytes:
    return struct.pack("=4s4si", socket.inet_aton(group), bytes(4), interface)


def is_multicast(host: str) -> bool:
    """Whether a numeric address is that of a group."""
    return ipaddress.ip_address(host.partition("%")[0]).is_multicast
