"""Processes of the bench: pinned to one core, read line by line, killed when their time is over."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.build import made_cache

KEPT = 400
"""Lines of standard error: with a hundred consumers, a relay says something of each before anybody looks."""
SHOWN = 40
TESTS = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A measurement could not be taken, or must not be believed."""


def cores() -> tuple[int | None, int | None]:
    """One core for what is measured and one for the load; neither where there are not two."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@contextmanager
def placed_on(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on *core*, from its first instruction."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_time(core: int | None) -> float:
    """CPU seconds that *core* has worked since the machine started, whoever asked for it."""
    if core is None:
        return 0.0
    line = next(
        line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} ")
    )
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, str]:
    """
    The caller's, without the variables that would configure a pool.

    What Python imports is compiled once, and kept, as pip does it where a package is installed.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRODUCER_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": str(made_cache() / "bytecode")}


class Child:
    """
    One process. Leaving the `with` block ends it: SIGTERM if *gentle*, SIGKILL otherwise or 5 s later.

    *bound* is the life span in seconds after which it is killed, whatever it does. Without *talks*, its
    standard input and output lead nowhere. *variables* are added to its environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int | None,
        bound: float,
        talks: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        with placed_on(core):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd=TESTS,
                env=environment() | dict(variables or {}),
            )
        self.pid = self._process.pid
        self.gentle = True
        self._errors: deque[str] = deque(maxlen=KEPT)
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self._killer = threading.Timer(bound, self._process.kill)
        self._killer.daemon = True
        self._killer.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._more:
                self._errors.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def failure(self, what: str) -> BenchError:
        """An error that shows the last lines which the process wrote."""
        with self._more:
            said = "\n  ".join(list(self._errors)[-SHOWN:])
        return BenchError(f"{self.name}: {what}; it said:\n  {said}" if said else f"{self.name}: {what}")

    def tell(self, line: str) -> None:
        """Write one line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def line(self) -> str:
        """Read the next line of its standard output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._reader.join(timeout=1)
            raise self.failure("ended too early")
        return line

    def wait_for(self, pattern: re.Pattern[str], wait: float) -> re.Match[str]:
        """Read standard error until a line matches *pattern*."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for line in self._errors if (match := pattern.search(line)))
            return bool(found) or self._ended

        with self._more:
            self._more.wait_for(look, timeout=wait)
        if not found:
            when = "before it ended" if self._ended else f"within {wait:g} s"
            raise self.failure(f"no line matched {pattern.pattern} {when}")
        return found[0]

    def wait_until(self, reached: Callable[[], bool], wait: float) -> None:
        """Look every few milliseconds until *reached* says so."""
        until = time.monotonic() + wait
        while not reached():
            if self._process.poll() is not None:
                self._reader.join(timeout=1)
                raise self.failure("ended too early")
            if time.monotonic() > until:
                raise self.failure(f"is not there after {wait:g} s")
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.gentle:
            self._process.terminate()
        else:
            self._process.kill()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._killer.cancel()
        self._reader.join(timeout=1)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def resident(pid: int) -> tuple[int, int]:
    """Resident memory of *pid* in bytes: now, and at its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    if now is None or peak is None:
        raise BenchError(f"process {pid} is gone")
    return int(now[1]) * 1024, int(peak[1]) * 1024


def context_switches(pid: int) -> int:
    """How often the threads of *pid* left the core, of their own will or not."""
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(n) for task in tasks for n in re.findall(r"ctxt_switches:\s+(\d+)", task.read_text()))
