"""A proxy for streams that does to the bytes what networks do: for tests of both ends, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import quote

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import UsageError
from producer_pool.testing.proxied import BACK, FORTH, Address, ProxiedConnection
from producer_pool.testing.proxy_faults import Faults, Traffic

__all__ = ["Direction", "FaultProxy"]

T = TypeVar("T")

_BACKLOG: Final = 128
_OBEYS: Final = 30.0
"""Seconds after which an order that another thread gave is an error: the proxy's loop does not run."""


class Direction(Traffic):
    """One direction of all connections through a FaultProxy: its faults, and what it carried so far."""

    def __init__(self, proxy: FaultProxy, number: int) -> None:
        super().__init__()
        self._proxy = proxy
        self._number = number
        self._faults = Faults()

    @property
    def faults(self) -> Faults:
        """What happens to the bytes. Setting it takes effect at once, in open connections and new ones."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        def suffer() -> None:
            self._faults = faults
            for connection in self._proxy.connections:
                connection.suffer(self._number, faults)

        self._proxy.order(suffer)

    def half_close(self) -> None:
        """End the stream of each open connection; what its sender says from now on is thrown away."""

        def close() -> None:
            for connection in self._proxy.connections:
                connection.half_close(self._number)

        self._proxy.order(close)


class FaultProxy:
    """
    Stands between two ends of a stream, and passes bytes on unless it is told otherwise.

    ::

        with FaultProxy("tcp://127.0.0.1:9000") as proxy:
            pool.add_producer("audit", proxy.url)
            proxy.forth.faults = Faults(delay=0.2, jitter=0.1)
            ...
            proxy.refuse()
            proxy.reset()
            ...
            proxy.recover()

    `forth` is what those who connect send, `back` what the target answers. With ``with`` it runs on a
    thread of its own; with ``async with``, on the running loop. It can be told what to do from any
    thread, and has done it when the call returns. Closing it resets what is open.

    What a connection keeps is bounded: a side that does not read makes the other side wait, as it would
    without a proxy. An end is passed on as an end, a reset as a reset. Jitter is drawn from *seed*, for
    each connection and direction apart; but how bytes are cut into reads is up to the kernel. **The
    proxy's kernel acknowledges what it takes**: to a client that asks for KERNEL, the proxy is the next
    hop, and what a fault keeps from the target counts as delivered.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        """
        Make a proxy before *target*: a ``unix:`` URL, or one with a host and a port, whatever its scheme.

        Raises:
            ConfigurationError: the URL cannot be used.
            UsageError: it is one of datagrams.
        """
        self.seed = seed
        self.forth = Direction(self, FORTH)
        """From those who connect to the target."""
        self.back = Direction(self, BACK)
        """From the target to those who connected."""
        self.accepted = 0
        """Connections so far."""
        self._target = Endpoint.parse(target)
        self._unix = self._target.scheme.partition("+")[0] == "unix"
        if self._target.scheme in ("udp", "unix+dgram"):
            raise UsageError(f"a FaultProxy is for streams; {self._target.scheme} has datagrams")
        self._addresses = self._places()
        self._url: str | None = None
        self._open: list[ProxiedConnection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._holder: socket.socket | None = None
        """Keeps the port while nobody listens there."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listening: socket.socket | None = None

    def _places(self) -> list[Address]:
        if self._unix:
            path = self._target.path
            return [(socket.AF_UNIX, f"\0{path[1:]}" if path.startswith("@") else path)]
        host, port = self._target.host, self._target.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, sockaddr) for family, _, _, _, sockaddr in found]

    # -- from any thread ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """
        Where it listens: the URL of the target, at another place. **It may hold secrets.**

        That is a free port at the target's own address, if it is one of 127.0.0.0/8; else at 127.0.0.1.
        """
        if self._url is None:
            raise UsageError("the proxy does not run; use it in a 'with' or 'async with' block")
        return self._url

    @property
    def connections(self) -> tuple[ProxiedConnection, ...]:
        """The connections that are open, in the order in which they came."""
        return tuple(self._open)

    def refuse(self) -> None:
        """Refuse connections from now on. Those that are open go on."""
        self.order(self._stop_listening)

    def reset(self) -> None:
        """Reset all open connections, on both sides."""

        def all_of_them() -> None:
            for connection in self.connections:
                connection.reset_now()

        self.order(all_of_them)

    def recover(self) -> None:
        """End all faults, and listen again if it does not. What was kept goes out."""
        self.forth.faults = Faults()
        self.back.faults = Faults()
        self.order(self._listen)

    def order(self, what: Callable[[], T]) -> T:
        """Do *what* on the loop of the proxy, and return when it is done. For the modules of this package."""
        loop = self._loop
        if loop is None:
            raise UsageError("the proxy does not run; use it in a 'with' or 'async with' block")
        if asyncio._get_running_loop() is loop:
            return what()
        done: Future[T] = Future()

        def obey() -> None:
            try:
                done.set_result(what())
            except BaseException as error:
                done.set_exception(error)

        loop.call_soon_threadsafe(obey)
        return done.result(_OBEYS)

    def close(self) -> None:
        """Reset what is open, and let go of everything. May be called twice."""
        if self._loop is None:
            return
        if self._thread is None:
            self.order(self._let_go)
        else:
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None
        self._loop = None

    def __enter__(self) -> Self:
        self._check_new()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(ready)), name="fault proxy", daemon=True
        )
        self._thread.start()
        try:
            ready.result(_OBEYS)
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check_new()
        self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy to {self._target}, {len(self._open)} connections>"

    def _check_new(self) -> None:
        if self._url is not None:
            raise UsageError("a FaultProxy is used once; make another one")

    # -- on the loop -------------------------------------------------------------------------------

    async def _live(self, ready: Future[None]) -> None:
        self._stop = asyncio.Event()
        try:
            self._begin()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._stop.wait()
        self._let_go()

    def _begin(self) -> None:
        try:
            if self._unix:
                self._folder = tempfile.TemporaryDirectory(prefix="proxy-")
                query = self._target.raw.partition("?")[1:]
                path = quote(str(Path(self._folder.name, "socket")))
                self._url = f"{self._target.scheme}://{path}{''.join(query)}"
            else:
                host = _beside(self._target.host)
                self._holder = holder = _bound((host, 0))
                # A certificate may be for this name.
                named = "localhost" if self._target.host == "localhost" else host
                self._url = self._target.at(named, holder.getsockname()[1]).raw
            self._loop = asyncio.get_running_loop()
            self._listen()
        except BaseException:
            self._let_go()
            self._loop = None
            raise

    def _listen(self) -> None:
        if self._listening is not None:
            return
        if self._folder is not None:
            path = Path(self._folder.name, "socket")
            path.unlink(missing_ok=True)
            listening = _bound(str(path))
        else:
            assert self._holder is not None
            listening = _bound(self._holder.getsockname())
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except OSError:  # It has gone again.
            return
        client.setblocking(False)
        connection = ProxiedConnection(self, self.accepted, client)
        self.accepted += 1
        self._open.append(connection)
        connection.reach(self._addresses)

    def forget(self, connection: ProxiedConnection) -> None:
        """Count *connection* as closed. For the modules of this package."""
        self._open.remove(connection)

    def _let_go(self) -> None:
        self._stop_listening()
        for connection in self.connections:
            connection.reset_now()
        if self._holder is not None:
            self._holder.close()
        if self._folder is not None:
            self._folder.cleanup()


def _beside(host: str) -> str:
    """Return the loopback address of a proxy before *host*: the same, if it is one."""
    with contextlib.suppress(ValueError):
        if IPv4Address(host).is_loopback:
            return host
    return "127.0.0.1"


def _bound(address: tuple[str, int] | str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        if not isinstance(address, str):
            # Two sockets may be bound to one port then, as long as one at most listens.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
