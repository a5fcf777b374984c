"""Both ends of datagrams for tests: raw consumers and producers, a unix dialer and binding, and signals."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, Rejected
from producer_pool.toolkit.datagrams.client import DatagramClient, DatagramClientOptions
from producer_pool.toolkit.datagrams.listener import DatagramListener, DatagramListenerOptions
from producer_pool.toolkit.datagrams.sockets import DatagramBinding, DatagramDialer
from producer_pool.toolkit.datagrams.udp import UdpBinding, UdpDialer, UdpListenerOptions, UdpOptions
from producer_pool.toolkit.sockets.tcp import why
from support.streams import FakeIntake, FakeSignals

TAKEN_BY_ALL = 64
"""Datagrams that every kernel takes by one call, if it takes several."""
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Mailbox:
    """A consumer of datagrams over a plain socket, which reads only what a test tells it to."""

    def __init__(
        self,
        family: int = socket.AF_INET,
        *,
        host: str = "",
        port: int = 0,
        path: Path | None = None,
        receive_buffer: int = 4 << 20,
        shared: bool = False,
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX if path else family, socket.SOCK_DGRAM)
        if shared and port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind(str(path) if path else (host or HOSTS[socket.AddressFamily(family)], port))
        if shared:  # Set before, it might be given a port that somebody shares already.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.letters: list[bytes] = []
        self.sender: tuple[str, int] = ("", 0)

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        host = self.socket.getsockname()[0]
        return f"udp://[{host}]:{self.port}" if ":" in host else f"udp://{host}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.url)

    def read(self, most: int = 1 << 30) -> list[bytes]:
        """Take what is there, and return all letters so far."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                letter, self.sender = self.socket.recvfrom(1 << 20)
                self.letters.append(letter)
        return self.letters

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def deaf(port: int, family: int = socket.AF_INET) -> socket.socket:
    """Return a socket that holds the port of a shared mailbox for it, and hears nobody."""
    holder = socket.socket(family, socket.SOCK_DGRAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOSTS[socket.AddressFamily(family)], port))
    # Connected to its own port, at an address from which nobody sends, it is sent nothing.
    holder.connect(("127.0.0.2" if family == socket.AF_INET else "::1", port))
    return holder


@contextlib.contextmanager
def vacant(family: int = socket.AF_INET) -> Iterator[Endpoint]:
    """Have an endpoint at which nobody listens, but for shared mailboxes: its port is held."""
    with Mailbox(family, shared=True) as gone, deaf(gone.port, family):
        endpoint = gone.endpoint
        gone.close()
        yield endpoint


def nobody(family: int = socket.AF_INET) -> Endpoint:
    """Return an endpoint at which nobody listens."""
    with Mailbox(family) as gone:
        return gone.endpoint


@dataclass
class DatagramSignals(FakeSignals):
    """Notes what a client says, and what it refuses."""

    refusals: list[tuple[int, Rejected]] = field(default_factory=list)

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        assert not self.starting, "a signal inside start()"
        self.refusals += [(number + more, error) for more in range(count)]


class Sending:
    """A client, connected, and what it says."""

    def __init__(self, dialer: DatagramDialer, **options: int) -> None:
        self.dialer = dialer
        self.client = DatagramClient(dialer, DatagramClientOptions(**options), protocol_name="udp")
        self.signals = DatagramSignals()

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.signals.starting = True
        taken = self.client.start(batches, offset)
        self.signals.starting = False
        return taken

    async def connect(self) -> None:
        self.signals = DatagramSignals()
        self.client.attach(self.signals)
        await self.client.connect()

    async def __aenter__(self) -> Sending:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.aclose()


def udp(endpoint: Endpoint) -> UdpDialer:
    return UdpDialer(endpoint, UdpOptions())


class SpyDialer(UdpDialer):
    """
    Notes the calls that sent several datagrams, and fails them with an error of the system's, if told to.

    It takes *most* by one call, whatever the kernel here does. *shared* is a second descriptor of the last
    socket: what it sends comes back to the client.
    """

    def __init__(self, endpoint: Endpoint, fault: int = 0) -> None:
        super().__init__(endpoint, UdpOptions())
        self.calls: list[tuple[int, int]] = []
        """(bytes, size) of each."""
        self.fault = fault
        self.most = 128
        self.shared: socket.socket | None = None

    async def dial(self, timeout: float) -> socket.socket:
        sock = await super().dial(timeout)
        self.close()
        self.shared = sock.dup()
        return sock

    def segmented(self, sock: socket.socket) -> Callable[[bytes, int], object] | None:
        send = super().segmented(sock)
        assert send is not None

        def spy(joined: bytes, size: int) -> None:
            self.calls.append((len(joined), size))
            if self.fault:
                raise OSError(self.fault, os.strerror(self.fault))
            if len(joined) > self.most * size:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            for start in range(0, len(joined), TAKEN_BY_ALL * size):
                send(joined[start : start + TAKEN_BY_ALL * size], size)

        return spy

    def close(self) -> None:
        if self.shared is not None:
            self.shared.close()


class FaultySocket(socket.socket):
    """A socket whose sends fail as often as a test says."""

    faults: Sequence[int] = ()

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        if self.faults:
            code, *self.faults = self.faults
            raise OSError(code, os.strerror(code))
        return super().send(data, flags)


class UnixDialer(DatagramDialer):
    """Connects unix sockets, of which the kernel makes senders wait."""

    max_message = 1 << 20

    def __init__(self, path: Path, *, faults: Sequence[int] = (), send_buffer: int = 0) -> None:
        self.address = f"unix+dgram://{path}"
        self._path = path
        self._faults = faults
        self._send_buffer = send_buffer

    async def dial(self, timeout: float) -> socket.socket:
        sock = FaultySocket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if self._send_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        try:
            sock.connect(str(self._path))
        except OSError as error:
            sock.close()
            raise ConnectError(f"{self.address}: {why(error)}") from None
        sock.faults = self._faults
        return sock


class UnixBinding(DatagramBinding):
    """Binds a unix socket, whose senders are one, or nobody if they are to be refused."""

    def __init__(self, path: Path, *, origin: str | None = "unix+dgram:", faults: Sequence[int] = ()) -> None:
        self.address = f"unix+dgram://{path}"
        self.released = 0
        self.socket: FaultyReceiver
        self._path = path
        self._origin = origin
        self._faults = faults

    async def bind(self) -> Sequence[socket.socket]:
        self.socket = sock = FaultyReceiver(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(str(self._path))
        sock.faults = list(self._faults)
        return [sock]

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        return Endpoint.parse(self.address)

    def admit(self, sock: socket.socket, peer: object) -> str | None:
        return self._origin

    def release(self) -> None:
        self.released += 1


class FaultyReceiver(socket.socket):
    """A socket whose receives fail as often as a test says."""

    faults: Sequence[int] = ()
    failures = 0

    def recvmsg(self, *args: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        if self.faults:
            code, *self.faults = self.faults
            self.failures += 1
            raise OSError(code, os.strerror(code))
        return super().recvmsg(*args)


class Receiving:
    """A listener that runs, its intake, and senders to it."""

    def __init__(
        self, binding: DatagramBinding | None = None, options: DatagramListenerOptions | None = None
    ) -> None:
        here = Endpoint.parse("udp://127.0.0.1:0")
        self.listener = DatagramListener(
            binding or UdpBinding(here, UdpListenerOptions()), options or DatagramListenerOptions()
        )
        self.intake = FakeIntake()
        self.stats = self.listener.stats
        self._senders: list[socket.socket] = []

    def sender(self) -> socket.socket:
        """Return a connected, blocking socket."""
        if self.endpoint.scheme == "udp":
            family = socket.AF_INET6 if ":" in self.endpoint.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.connect((self.endpoint.host, self.endpoint.port))
        else:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.connect(self.endpoint.path)
        self._senders.append(sock)
        return sock

    async def __aenter__(self) -> Receiving:
        self.endpoint = await self.listener.start(self.intake)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.listener.aclose()
        for sock in self._senders:
            sock.close()
