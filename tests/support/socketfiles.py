"""Socket files for tests: with somebody who listens, left behind, or locked by another one who starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from producer_pool.model.endpoint import Endpoint
from producer_pool_unix.address import read_address
from producer_pool_unix.socketfile import SocketFile

__all__ = ["DATAGRAM", "STREAM", "Bound", "Holder", "abandoned", "is_locked", "lock_of", "mode_of"]

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


class Bound:
    """A socket with its file."""

    def __init__(self, path: Path, *, mode: int = 0o600, kind: int = STREAM) -> None:
        self.path = path
        self.file = SocketFile(read_address(Endpoint.parse(f"unix://{path}")), mode=mode)
        self.socket = socket.socket(socket.AF_UNIX, kind)

    def listen(self) -> None:
        if self.socket.type == STREAM:
            self.socket.listen()

    async def bind(self) -> None:
        await self.file.bind(self.socket, self.listen)

    def reaches(self) -> bool:
        """Whether who connects to the path comes to this socket."""
        with socket.socket(socket.AF_UNIX, self.socket.type) as asking:
            if asking.connect_ex(str(self.path)):
                return False
            asking.send(b"here?")
            return b"here?" in self._read()

    def _read(self) -> Iterator[bytes]:
        """Yield what came in, whoever sent it."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.type == DATAGRAM:
                yield self.socket.recv(10)
            while True:
                taken, _ = self.socket.accept()
                with taken:
                    yield taken.recv(10)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def abandoned(path: Path, kind: int = STREAM) -> tuple[int, int]:
    """Leave a socket file as one does who is killed; return device and inode."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
    return path.lstat().st_dev, path.lstat().st_ino


def lock_of(one: Bound) -> Path:
    return one.path.with_name(".x.sock.producer-pool")


class Holder:
    """Another process that is starting: it holds the lock."""

    def __init__(self, one: Bound, flock: Callable[[int, int], object] = fcntl.flock) -> None:
        self.path = lock_of(one)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        flock(self.fd, fcntl.LOCK_EX)

    def let_go(self) -> None:
        self.path.unlink()
        os.close(self.fd)


def is_locked(one: Bound) -> bool:
    fd = os.open(lock_of(one), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
