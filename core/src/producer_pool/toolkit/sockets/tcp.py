"""TCP connections to others: reaching them, the options they get, and the two ways to end one."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import os
import select
import socket
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol

from producer_pool.contract.options import Duration, option
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.resolver import Address, resolve
from producer_pool.toolkit.streams.progress import TCP_ACKS, Progress, TcpProgress

__all__ = [
    "Dialer",
    "Ending",
    "TcpDialer",
    "TcpOptions",
    "has_ended",
    "look_up",
    "part",
    "reset",
    "shown_address",
    "wait_readable",
    "wait_writable",
    "why",
]

KEEPALIVE_IDLE: Final = 10
KEEPALIVE_INTERVAL: Final = 3
KEEPALIVE_PROBES: Final = 3
"""A quiet connection whose other side is gone is found out after 10 + 3 * 3 = 19 seconds."""

_MOST_MILLISECONDS: Final = 2**31 - 1
"""What the system takes for a time: 24 days."""
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)
_ABORT: Final = struct.pack("ii", 1, 0)
_SCRATCH: Final = bytearray(64 * 1024)
"""What is read only to be thrown away goes here, whoever reads it."""


@dataclass(frozen=True, eq=False, repr=False)
class TcpOptions(Fieldwise):
    """The options of a TCP connection that we make."""

    nodelay: bool = option(True, "send at once instead of collecting small segments (TCP_NODELAY)")
    keepalive: bool = option(True, "find out within 19 seconds that a quiet consumer is gone")
    user_timeout: Duration = option(
        20.0,
        "how long sent bytes may stay unacknowledged, or a consumer with full buffers may read nothing, "
        "before the connection is given up (TCP_USER_TIMEOUT); 0: the system's default, about 15 minutes",
    )

    def apply(self, sock: socket.socket) -> None:
        """Set these options on *sock*, as far as the platform has them."""
        if self.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
                ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
                ("TCP_KEEPCNT", KEEPALIVE_PROBES),
            ):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if self.user_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = min(max(1, int(self.user_timeout * 1000)), _MOST_MILLISECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class Dialer(ABC):
    """Makes connected, non-blocking stream sockets to one consumer."""

    address: str
    """Where it leads, for people; without options and secrets."""
    name: str = ""
    """The host's name, which its certificate has to hold."""
    acks: frozenset[Ack] = frozenset({Ack.WRITTEN})
    """The levels that its connections can be asked for: more than WRITTEN takes progress()."""

    @abstractmethod
    async def dial(self, timeout: float) -> socket.socket:
        """
        Connect, and return the socket, which belongs to the caller. If cancelled, none is left open.

        Raises:
            ConnectError: it cannot be reached; *timeout* seconds are shared by all that is tried.
        """

    def progress(self, sock: socket.socket) -> Progress | None:
        """Return what tells how far a connection got; None: nothing does on this platform."""
        return None


class TcpDialer(Dialer):
    """Connects over TCP to each address of a name in turn, until one answers."""

    acks = TCP_ACKS

    def __init__(self, endpoint: Endpoint, options: TcpOptions) -> None:
        self.name = endpoint.host
        self._port = endpoint.consumer_port
        self._options = options
        self.address = f"{endpoint.scheme}://{shown_address(self.name, self._port)}"

    async def dial(self, timeout: float) -> socket.socket:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        addresses = await look_up(self.name, self._port, timeout, where=self.address)
        failures = []
        for number, address in enumerate(addresses):
            # One that swallows every packet leaves an equal share of the time to each of the others.
            share = (end - loop.time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share):
                    return await _connect(address, self._options)
            except TimeoutError:
                failures.append((address.host, f"no answer within {share:.3g} s"))
            except OSError as error:
                failures.append((address.host, why(error)))
        if len(failures) == 1:
            hint = "; is it running?" if failures[0][1] == why(errno.ECONNREFUSED) else ""
            raise ConnectError(f"{self.address}: {failures[0][1]}{hint}")
        tried = ", ".join(f"{host}: {reason}" for host, reason in failures)
        raise ConnectError(f"{self.address}: none of its addresses answers ({tried})")

    def progress(self, sock: socket.socket) -> Progress:
        return TcpProgress(sock)


async def look_up(name: str, port: int, timeout: float, *, where: str) -> list[Address]:
    """
    Return the addresses of a consumer, in the order in which they should be tried, within *timeout* seconds.

    Raises:
        ConnectError: there are none; *where* says in its text what they are needed for.
    """
    try:
        async with asyncio.timeout(timeout):
            return await resolve(name, port)
    except TimeoutError:
        reason = f"no answer within {timeout:.3g} s"
    except OSError as error:
        reason = why(error)
    raise ConnectError(f"{where}: cannot look up {name}: {reason}") from None


async def _connect(address: Address, options: TcpOptions) -> socket.socket:
    """Connect to one address. loop.sock_connect() will not do: it may ask the loop's own resolver."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        options.apply(sock)
        code = sock.connect_ex(address.sockaddr)
        if code == errno.EINPROGRESS:
            await wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():
            # TCP connects to itself if the port we get is the one we look for (RFC 9293, simultaneous
            # open): nobody is listening there, and nobody could while we hold it.
            reset(sock)
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock


class HasFileno(Protocol):
    """What the event loop can watch."""

    def fileno(self) -> int:
        """Return the file descriptor."""


async def wait_writable(sock: socket.socket) -> None:
    """Wait until *sock* takes bytes, or has an error to tell."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _finish, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


async def wait_readable(sock: HasFileno) -> None:
    """Wait until *sock* has bytes, an end or an error to tell."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _finish, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def reset(sock: socket.socket) -> None:
    """
    Close by a reset: the other side gets an error instead of a clean end, and both sides forget unsent bytes.

    This is how to stop inside a frame, so that half a message cannot be taken for a whole one.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    except OSError:
        pass  # it is gone already
    finally:
        sock.close()


class Ending(enum.Enum):
    """What the other side did when it was told that nothing follows."""

    CLEAN = "clean"
    """It ended, too: so it has read everything. A kernel resets what is closed with bytes unread."""
    RESET = "reset"
    """It closed before it had read everything, or it died."""
    UNKNOWN = "unknown"
    """It did not end in time, or was not waited for."""


async def part(sock: socket.socket, linger: float) -> Ending:
    """
    Close in good order: all that was written still goes out, then the other side sees a clean end.

    Bytes that come in after a close make the kernel answer with a reset, which destroys what the
    other side has not read yet (RFC 2525, 2.17). So wait up to *linger* seconds for its end, and
    throw away what it says until then. If cancelled, the socket is closed at once.
    """
    ending = None
    try:
        with contextlib.suppress(OSError):  # it is gone already; how, reading it tells
            sock.shutdown(socket.SHUT_WR)
        if linger:
            ending = _discard(sock)
            async with asyncio.timeout(linger):
                while ending is None:
                    await wait_readable(sock)
                    ending = _discard(sock)
    except TimeoutError:
        pass
    finally:
        sock.close()
    return ending or Ending.UNKNOWN


def _discard(sock: socket.socket) -> Ending | None:
    """Throw away what came in, a bounded part of it. Return how the other side has ended, if it has."""
    try:
        for _ in range(64):
            if not sock.recv_into(_SCRATCH):
                return Ending.CLEAN
    except (BlockingIOError, InterruptedError):
        return None
    except ConnectionResetError:
        return Ending.RESET
    except OSError:
        return Ending.UNKNOWN
    return None


def has_ended(sock: socket.socket | None) -> bool:
    """Whether poll() really means an end. Without POLLRDHUP it may just be something to read."""
    if hasattr(select, "POLLRDHUP") or sock is None:
        return True
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EINTR)


def shown_address(host: str, port: int) -> str:
    """Write host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def why(error: OSError | int) -> str:
    """Say what the system said, in the house's style."""
    number = error if isinstance(error, int) else error.errno
    text = os.strerror(error) if isinstance(error, int) else error.strerror or str(error)
    step = "; raise `ulimit -n`" if number in _OUT_OF_FILES else ""
    return (text[:1].lower() + text[1:] if text[1:2].islower() else text) + step
