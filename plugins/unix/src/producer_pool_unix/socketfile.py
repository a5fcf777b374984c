"""The file of a socket: made with its permissions, taken over from the dead, removed while it is ours."""
# Rule: whoever looks whether a file is left behind, removes it, and makes a new one, holds its lock.

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

from producer_pool.plugin import ListenError, why
from producer_pool_unix.address import Address

__all__ = ["SocketFile"]

_log = logging.getLogger(__name__)

_LOCK: Final = ".{}.producer-pool"
_PATIENCE: Final = 5.0
"""Seconds that somebody else may hold the lock, which takes a millisecond."""
_AGAIN: Final = 0.01
_WHO: Final = "; stop who has it (`ss -xap` names it), or choose another path"


class SocketFile:
    """
    One socket file.

    Two processes that start at the same time, and find the file of one that died, must not both
    listen: the second would remove the file of the first. So a lock is held from the look at the old
    file until somebody listens at the new one. It is a file beside it, removed afterwards; a lock on
    the directory could be held by anybody who can read it.
    """

    def __init__(self, address: Address, *, mode: int) -> None:
        self._address = address
        self._path = address.path
        self._mode = mode
        self._ours: tuple[int, int] | None = None
        """Device and inode of the file that bind() made."""
        self._maker = 0
        """The process that did."""

    async def bind(self, sock: socket.socket, listen: Callable[[], object]) -> None:
        """
        Make the file for *sock*, with its mode, and call *listen*, after which others can reach it.

        Raises:
            ListenError: somebody listens there, or something else is there, or it is not permitted.
        """
        try:
            async with self._lock():
                self._clear(sock.type)
                self._make(sock, listen)
        except ListenError:
            raise
        except OSError as error:
            raise ListenError(f"{self._address.shown}: {why(error)}{self._next_step(error)}") from None

    def lapsed(self) -> str:
        """Say why nobody can come to the socket any more; empty: they can, or who knows."""
        if self._ours is None:
            return ""
        try:
            there = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return "its file is gone"
        except OSError:
            return ""
        # As long as the socket is open, no other file can have its inode.
        return "" if _identity(there) == self._ours else "another file is in the place of its own"

    def remove(self) -> None:
        """Remove the file if it is still the one that bind() made. The socket must still be open."""
        ours, self._ours = self._ours, None
        if ours is None or self._maker != os.getpid():
            return  # a forked child is not who listens there
        try:
            # As long as the socket is open, no other file can have its inode.
            if _identity(os.lstat(self._path)) == ours:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s: the file stays: %s", self._address.shown, why(error))

    # -- making it -------------------------------------------------------------------------------------

    def _clear(self, kind: int) -> None:
        """Remove a file that nobody listens at. ListenError: somebody does, or may, or it is no socket."""
        shown = self._address.shown
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ListenError(
                f"{shown}: {_kind(found.st_mode)} is there, which is never removed; "
                "move it, or choose another path"
            )
        code = self._ask(kind)
        if code == errno.EACCES:
            raise ListenError(
                f"{shown}: a socket of uid {found.st_uid} is there, and we may not ask whether anybody "
                "listens; remove it if nobody does, or choose another path"
            )
        if code not in (errno.ECONNREFUSED, errno.ENOENT):
            raise ListenError(f"{shown}: somebody listens there already{_WHO}")
        with contextlib.suppress(FileNotFoundError):
            if _identity(os.lstat(self._path)) == _identity(found):
                os.unlink(self._path)
                _log.info("%s: nobody listened there any more; taken over", shown)

    def _ask(self, kind: int) -> int:
        """Return 0 if somebody listens, or the error that asking ended with."""
        with socket.socket(socket.AF_UNIX, kind) as asking:
            asking.setblocking(False)
            return asking.connect_ex(self._address.name)

    def _make(self, sock: socket.socket, listen: Callable[[], object]) -> None:
        # Linux gives the file the mode of the socket, less the umask, from its first moment on. To change
        # the umask would be for the whole process, all its threads.
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), self._mode)
        sock.bind(self._address.name)
        made = os.lstat(self._path)
        if not stat.S_ISSOCK(made.st_mode):
            raise self._replaced()
        try:
            if stat.S_IMODE(made.st_mode) != self._mode:
                self._change_mode(made)
            # Until now, nobody was let in to a stream, whatever the mode.
            listen()
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            raise
        self._ours, self._maker = _identity(made), os.getpid()

    def _change_mode(self, made: os.stat_result) -> None:
        """Give the file that was made its mode, and no other one to which the path may lead by now."""
        if sys.platform != "linux":
            os.chmod(self._path, self._mode, follow_symlinks=False)
            return
        # Linux changes what a link leads to, which may be anybody's. It does not follow one by a descriptor.
        fd = os.open(self._path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _identity(os.fstat(fd)) != _identity(made):
                raise self._replaced()
            os.chmod(f"/proc/self/fd/{fd}", self._mode)
        finally:
            os.close(fd)

    def _replaced(self) -> ListenError:
        folder = os.path.dirname(self._path)
        return ListenError(
            f"{self._address.shown}: somebody put another file into its place as it was made; "
            f"choose a directory in which others may not write, unlike {folder}"
        )

    # -- one at a time ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _lock(self) -> AsyncIterator[None]:
        folder, name = os.path.split(self._path)
        path = os.path.join(folder, _LOCK.format(name))
        fd = await self._locked(path)
        try:
            yield
        finally:
            # Still locked: who waits for it finds that it is no longer there, and makes a new one.
            with contextlib.suppress(OSError):
                os.unlink(path)
            os.close(fd)

    async def _locked(self, path: str) -> int:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE
        while True:
            fd = self._open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _identity(os.fstat(fd)) == _identity(os.lstat(path)):
                    return fd
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if loop.time() > give_up:
                raise ListenError(
                    f"{self._address.shown}: another process is starting there, for {_PATIENCE:g} s now: "
                    f"it holds a lock on {path} (`fuser {path}` names it)"
                )
            await asyncio.sleep(_AGAIN)

    def _open(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError:
            if os.path.lexists(path):
                raise ListenError(
                    f"{self._address.shown}: its lock, {path}, belongs to somebody else; remove it"
                ) from None
            raise

    def _next_step(self, error: OSError) -> str:
        folder = os.path.dirname(self._path)
        if error.errno == errno.EADDRINUSE:
            return _WHO
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return f": {folder}; create this directory, or choose another path"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"; uid {os.geteuid()} has to be allowed to create and remove files in {folder}"
        return ""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a file that is no socket"
