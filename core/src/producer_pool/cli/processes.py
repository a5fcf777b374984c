"""Processes of our own: started here, heard line by line, and ended here, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from producer_pool.cli.signals import Interrupts

__all__ = ["PATIENCE", "Process", "ProcessError", "Processes"]

PATIENCE: Final = 30.0
"""Seconds that anything may take, on a machine that has much else to do."""
_LOOK: Final = 0.005


class ProcessError(Exception):
    """Something did not do what it was started for."""


class Process:
    """One ``producer-pool`` command, or another *module*, as a process of its own, in a group of its own."""

    def __init__(
        self,
        *arguments: str,
        interrupts: Interrupts,
        module: str = "producer_pool",
        stdin: int | None = None,
        record: Path | None = None,
    ) -> None:
        """
        Start it. Its stdout is appended to *record*, or kept in `output`; its stderr in `talk`.

        Who waits for it is interrupted by *interrupts*.
        """
        self._interrupts = interrupts
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
            if stream is None:
                return
            keep = lines.append
            with stream:
                for line in stream:
                    keep(line.decode(errors="replace").rstrip("\n"))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return reader

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def silent(self) -> bool:
        """Whether it has ended, and all that it said has been heard."""
        return not self.runs and not any(reader.is_alive() for reader in self._readers)

    def wait_until(self, condition: Callable[[], bool], what: str, *, more: float = 0.0) -> None:
        """Wait until *condition* holds, *more* seconds than usual; ProcessError names *what* did not."""
        patience = PATIENCE + more
        give_up = time.monotonic() + patience
        while not condition():
            if time.monotonic() > give_up:
                raise ProcessError(f"not within {patience:g} s: {what}")
            self._interrupts.wait(seconds=_LOOK)

    def said(self, start: str) -> str:
        """Wait for a line on stderr that begins with *start*, and return what follows it."""

        def look() -> bool:
            silent = self.silent  # first: that may be the last thing that it says
            found.extend(line[len(start) :] for line in self.talk if line.startswith(start))
            if not found and silent:
                raise self.failure("ended too early")
            return bool(found)

        found: list[str] = []
        self.wait_until(look, f"{self.name} says '{start}...'")
        return found[0]

    def write(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self._process.stdin is not None
        try:
            with self._interrupts.raised():
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
            self.wait_until(lambda: not self.runs, "its end")
        except ProcessError:
            raise self.failure(f"did not end within {PATIENCE:g} s") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return self._process.wait()

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

    A signal of *interrupts* is raised where this one waits for another process, or writes to it, and nowhere
    else: so each one that was started is known here, and nothing that ends it is in the middle of anything.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self.interrupts = interrupts
        self._started: list[Process] = []

    def start(
        self,
        *arguments: str,
        module: str = "producer_pool",
        stdin: int | None = None,
        record: Path | None = None,
    ) -> Process:
        """Start one: see Process."""
        process = Process(*arguments, interrupts=self.interrupts, module=module, stdin=stdin, record=record)
        self._started.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()
