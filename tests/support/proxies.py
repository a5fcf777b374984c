"""Both ends of streams that go through a fault proxy: blocking sockets, and what they see."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from producer_pool.model.endpoint import Endpoint
from producer_pool.testing import FaultProxy
from support.waiting import BOUND, eventually

__all__ = [
    "Target",
    "descriptors",
    "dial",
    "fill",
    "in_thread",
    "is_silent",
    "joined",
    "kept",
    "receive",
    "receive_all",
    "send_in_vain",
]

MOST: Final = 64 * 1024 * 1024
"""Bytes that fill() sends to who takes everything."""


class Target:
    """A listening socket, of ``tcp`` or ``unix``, which accepts when a test wants to."""

    def __init__(self, scheme: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="target-")
        if scheme == "unix":
            self.listening = socket.socket(socket.AF_UNIX)
            self.listening.bind(f"{self._folder.name}/socket")
            self.url = f"unix://{self._folder.name}/socket"
        else:
            self.listening = socket.socket()
            self.listening.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{self.listening.getsockname()[1]}"
        self.listening.listen()
        self.listening.settimeout(BOUND)
        self.taken: list[socket.socket] = []

    def accept(self) -> socket.socket:
        sock, _ = self.listening.accept()
        sock.settimeout(BOUND)
        self.taken.append(sock)
        return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for sock in (self.listening, *self.taken):
            sock.close()
        self._folder.cleanup()


def dial(url: str) -> socket.socket:
    endpoint = Endpoint.parse(url)
    sock = socket.socket(socket.AF_UNIX if endpoint.scheme == "unix" else socket.AF_INET)
    sock.settimeout(BOUND)
    try:
        sock.connect(endpoint.path if endpoint.scheme == "unix" else (endpoint.host, endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def joined(proxy: FaultProxy, target: Target) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of one connection through *proxy*: the one who connected, and the target's."""
    with dial(proxy.url) as client, target.accept() as server:
        eventually(lambda: any(one.reached for one in proxy.connections), "the proxy reaches its target")
        yield client, server


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return bytes(data)


def receive_all(sock: socket.socket) -> tuple[bytes, str]:
    """Read to the end, and say how it came."""
    data = bytearray()
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        return bytes(data), "reset"
    return bytes(data), "end"


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing lies there to be read, and no end."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(BOUND)
    return False


def fill(sock: socket.socket) -> int:
    """Send until neither the kernels nor the proxy take any more, and return how many bytes they took."""
    sock.settimeout(0.3)
    size = 0
    try:
        while size < MOST:
            size += sock.send(b"x" * 65536)
    except TimeoutError:
        pass
    finally:
        sock.settimeout(BOUND)
    return size


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def kept(proxy: FaultProxy) -> int:
    """Return the bytes that the pipes of all open connections keep."""
    return sum(pipe.queued for connection in proxy.connections for pipe in connection._pipes)


def send_in_vain(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def descriptors() -> list[str]:
    """Return what this process has open, without what listing it needs."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(found)
