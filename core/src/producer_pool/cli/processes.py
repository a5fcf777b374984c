"""Processes of our own: started here, heard line by line, and ended here, whatever happens."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Final, Self

__all__ = ["PATIENCE", "Process", "ProcessError", "Processes", "wait_until"]

PATIENCE: Final = 30.0
"""Seconds that anything may take, on a machine that has much else to do."""


class ProcessError(Exception):
    """Something did not do what it was started for."""


def wait_until(condition: Callable[[], bool], what: str, *, more: float = 0.0) -> None:
    """Wait until *condition* holds, *more* seconds than usual; ProcessError names *what* did not happen."""
    patience = PATIENCE + more
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise ProcessError(f"not within {patience:g} s: {what}")
        time.sleep(0.005)


class Process:
    """One ``producer-pool`` command, or another *module*, as a process of its own, in a group of its own."""

    def __init__(
        self,
        *arguments: str,
        module: str = "producer_pool",
        stdin: int | None = None,
        record: Path | None = None,
    ) -> None:
        """Start it. Its stdout is appended to *record*, or kept in `output`; its stderr in `talk`."""
        self.name = arguments[0]
        self.talk: list[str] = []
        self.output: list[str] = []
        stdout: IO[bytes] | int = record.open("ab") if record is not None else subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env={name: value for name, value in os.environ.items() if not name.startswith("PRODUCER_")},
                # Ctrl-C in a terminal is for who started it, and ends all in order.
                process_group=0,
            )
        finally:
            if not isinstance(stdout, int):
                stdout.close()
        self.pid = self._process.pid
        self._readers = [
            self._hear(self._process.stderr, self.talk),
            self._hear(self._process.stdout, self.output),
        ]

    def _hear(self, stream: IO[bytes] | None, lines: list[str]) -> threading.Thread:
        def read() -> None:
            keep = lines.append
            for line in stream or ():
                keep(line.decode(errors="replace").rstrip("\n"))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return reader

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def said(self, start: str) -> str:
        """Wait for a line on stderr that begins with *start*, and return what follows it."""

        def look() -> bool:
            found.extend(line[len(start) :] for line in self.talk if line.startswith(start))
            if not found and not self.runs:
                raise self.failure("ended too early")
            return bool(found)

        found: list[str] = []
        wait_until(look, f"{self.name} says '{start}...'")
        return found[0]

    def write(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended too early") from None

    def close_stdin(self) -> None:
        """End its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {PATIENCE:g} s") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def failure(self, what: str) -> ProcessError:
        """Return an error with the last lines that it said."""
        return ProcessError(
            "\n    ".join([f"{self.name} (pid {self.pid}) {what}; it said:", *self.talk[-10:]])
        )

    def kill(self) -> None:
        """End it now, stopped or not, if it still runs."""
        if self.runs:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except OSError:
                return  # What was still to be written to it, nobody reads.


class Processes:
    """
    Starts processes; leaving the ``with`` block ends all that still run, each by its id.

    In the block, the first signal that would end this process raises KeyboardInterrupt instead, but never
    between the start of another one and the moment when that is known here.
    """

    def __init__(self) -> None:
        self._started: list[Process] = []
        self._holds_back = False
        self._interrupted = False

    def start(
        self,
        *arguments: str,
        module: str = "producer_pool",
        stdin: int | None = None,
        record: Path | None = None,
    ) -> Process:
        """Start one: see Process."""
        self._holds_back = True
        process = Process(*arguments, module=module, stdin=stdin, record=record)
        self._started.append(process)
        self._holds_back = False
        if self._interrupted:
            raise KeyboardInterrupt
        return process

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            return  # Whoever asks again must not stop the end that has begun.
        self._interrupted = True
        if not self._holds_back:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        # For a signal that comes when the block has ended, but not what stands below.
        atexit.register(self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holds_back = True
        self._end()

    def _end(self) -> None:
        for process in self._started:
            process.kill()
