"""The thread that has what was written safe from a power cut, and answers then, while more is written."""
# Rule: nothing of SQLite is known here, only the file of its log. So a fork() finds nothing that could close.

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from producer_pool.storage.portable import sync_data

__all__ = ["Call", "LogFile", "Syncer", "Unsafe"]

Call = Callable[[], None]


class LogFile:
    """The log of a database, as long as that is open."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._fd: int | None = None
        self._closed = False
        self._lock: Final = threading.Lock()

    def sync(self) -> None:
        """
        Have what was committed safe from a power cut. Any thread may call it.

        Raises:
            OSError: that failed, or it is closed; what was written may be lost, and a second attempt
                proves nothing.
        """
        with self._lock:
            if self._closed:
                raise OSError(f"{self._path} was closed before it was synced")
            if self._fd is None:
                # SQLite keeps this file as long as it is open, and has no lock on it that closing would lose.
                self._fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            sync_data(self._fd)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self._closed = True
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)


class Unsafe(NamedTuple):
    """What was not made safe."""

    error: OSError
    log: LogFile
    """Where that failed."""
    calls: list[Call]
    """What was to be called then, and all that had to wait for it."""


class _Written(NamedTuple):
    log: LogFile | None
    calls: Sequence[Call]


class Syncer:
    """
    Makes calls in the order in which they come, each when the log that it depends on is synced.

    If that fails, *failed* is called on the thread, and nothing more goes out until somebody took back
    what waits: see unsafe().
    """

    def __init__(self, name: str, send: Callable[[Sequence[Call]], None], failed: Call) -> None:
        self._send: Final = send
        self._failed: Final = failed
        self._written: Final[queue.SimpleQueue[_Written | None]] = queue.SimpleQueue()
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=True)
        self._quiet: Final = threading.Condition()
        self._open = 0
        """How many were given to the thread, and not sent or held back."""
        self._error: tuple[OSError, LogFile] | None = None
        self._held: list[Call] = []

    @property
    def busy(self) -> bool:
        """Whether anything has not gone out yet."""
        return bool(self._open) or self._error is not None

    def answer(self, calls: Sequence[Call], log: LogFile | None = None) -> None:
        """Have *calls* made when *log* is synced, and all that came before is out."""
        if log is None and not self.busy:
            self._send(calls)
            return
        if not self._thread.is_alive():
            self._thread.start()
        with self._quiet:
            self._open += 1
        self._written.put(_Written(log, calls))

    def wait(self, left: int = 0) -> None:
        """Wait until no more than *left* of what came is on its way: all else is out, or held back."""
        with self._quiet:
            self._quiet.wait_for(lambda: self._open <= left)

    def unsafe(self) -> Unsafe | None:
        """Take back what was not made safe, and all that came after it; None: nothing failed."""
        if self._error is None:
            return None
        self.wait()
        (error, log), self._error = self._error, None
        calls, self._held = self._held, []
        return Unsafe(error, log, calls)

    def end(self) -> None:
        """End the thread, when all is out."""
        self.wait()
        if self._thread.is_alive():
            self._written.put(None)
            self._thread.join()

    # -- the thread's side -------------------------------------------------------------------------

    def _run(self) -> None:
        while (written := self._written.get()) is not None:
            if self._error is None and written.log is not None:
                try:
                    written.log.sync()
                except OSError as error:
                    self._error = error, written.log
            if self._error is None:
                self._send(written.calls)
            else:
                self._held += written.calls
            with self._quiet:
                self._open -= 1
                self._quiet.notify_all()
            if self._error is not None:
                self._failed()
