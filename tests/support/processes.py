"""The product as processes of their own: the daemon, other commands, and small programs."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from support.waiting import BOUND, eventually

__all__ = ["Daemon", "clean_environment", "command", "daemon", "marked", "run_command", "run_program"]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without anything that configures a pool, and with *extra*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRODUCER_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **(extra or {})}


def marked(mark: str) -> list[int]:
    """Return the processes that have *mark* in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def command(*arguments: str) -> list[str]:
    """Return the command line of ``producer-pool`` with *arguments*, for the sources that are under test."""
    return [sys.executable, "-m", "producer_pool", *arguments]


def run_command(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run ``producer-pool`` to its end, whatever its exit code."""
    return subprocess.run(
        command(*arguments), env=clean_environment(env), input=stdin, capture_output=True, timeout=BOUND
    )


def run_program(source: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end, within BOUND; fail with what it said unless it ends with *code*."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join((late.stdout or b"", late.stderr or b"")).decode(errors="replace")
        raise AssertionError(f"the program did not end within {BOUND:g} s; it said:\n{said}") from None
    if ended.returncode != code:
        raise AssertionError(f"the program ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended


class Daemon:
    """A running ``producer-pool run --json``, and all that it said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        """What it said on stderr."""
        self.events: list[dict[str, Any]] = []
        """What it printed on stdout: snapshots of its counters."""
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_lines, args=(process.stderr,), daemon=True),
            threading.Thread(target=self._read_events, args=(process.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self, pipe: IO[str]) -> None:
        self.lines.extend(line.rstrip("\n") for line in pipe)

    def _read_events(self, pipe: IO[str]) -> None:
        self.events.extend(map(json.loads, pipe))

    @property
    def said(self) -> str:
        """All that it said on stderr."""
        return "\n".join(self.lines)

    @property
    def ports(self) -> list[int]:
        """The ports that it listens at, from the first thing that it printed."""
        urls = [listener["address"] for listener in self.events[0]["listeners"]]
        return [int(url.partition("?")[0].rpartition(":")[2]) for url in urls]

    @property
    def port(self) -> int:
        """The port of its only listener."""
        (port,) = self.ports
        return port

    def wait_for_line(self, pattern: str) -> str:
        """Return the first line it said that matches *pattern*, as soon as there is one."""
        found = re.compile(pattern).search
        try:
            return eventually(lambda: next(filter(found, self.lines), ""), f"a line like {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the daemon said:\n{self.said}") from None

    def status(self) -> dict[str, Any]:
        """Ask for a snapshot of its counters, and return it."""
        before = len(self.events)
        self.process.send_signal(signal.SIGUSR1)
        return eventually(lambda: self.events[before:], "a status from the daemon")[0]

    def consumer(self, name: str) -> dict[str, Any]:
        """Return the counters and the state of one consumer now."""
        found: dict[str, Any] = self.status()["consumers"][name]
        return found

    def settled(self, name: str, count: int) -> dict[str, Any]:
        """Return the counters of one consumer as soon as *count* messages have an outcome there."""

        def enough() -> dict[str, Any] | None:
            now = self.consumer(name)
            return now if now["accepted"] - now["pending"] >= count else None

        found = eventually(enough, f"{count} settled messages at {name}")
        assert found is not None
        return found

    def terminate(self) -> int:
        """Ask it to end by SIGTERM, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        try:
            code = self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon did not end; it said:\n{self.said}") from None
        for reader in self._readers:
            reader.join(BOUND)
        return code

    @property
    def last(self) -> dict[str, Any]:
        """Its last snapshot: at the end, the final counters."""
        return self.events[-1]


@contextmanager
def daemon(*arguments: str, env: Mapping[str, str] | None = None, listens: bool = True) -> Iterator[Daemon]:
    """
    Run the daemon until the end of the block; it is ready in the block.

    It listens at a free port of 127.0.0.1, unless *listens* is false: then *arguments* or *env* say where.
    """
    where = ("--listen", "tcp://127.0.0.1:0") if listens else ()
    process = subprocess.Popen(
        command("run", "--json", *where, *arguments),
        env=clean_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Daemon(process)
    try:
        try:
            eventually(lambda: running.events or process.poll() is not None, "the daemon is ready")
            if not running.events:
                running.wait()  # until all that it printed is read
            assert running.events, "the daemon ended"
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{running.said}") from None
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        running.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
