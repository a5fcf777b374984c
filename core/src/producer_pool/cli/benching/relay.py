"""The relay that is measured: one of our own, which is the real daemon, and all that a rig asks of it."""

from __future__ import annotations

import json
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from producer_pool.cli.benching.machine import confine, peak_memory
from producer_pool.cli.benching.talk import Setup
from producer_pool.cli.benching.ways import Way
from producer_pool.cli.processes import Process, Processes

__all__ = ["OwnRelay", "Relay", "next_line"]


class Relay(ABC):
    """Stands between those who send and their consumers."""

    process: Process | None = None
    """None: it is nobody's of ours, and nothing can be said of its CPU time and its memory."""

    @abstractmethod
    def listener_url(self, number: int) -> str:
        """Return where the consumer of this number listens."""

    @abstractmethod
    def start(self, urls: Mapping[int, str]) -> None:
        """Have it forward to the consumers, which listen at *urls* by now."""

    @abstractmethod
    def url(self) -> str:
        """Return how one sends to it, once it is ready."""

    @property
    def memory(self) -> int | None:
        """Bytes of its memory, at its peak."""
        return None

    def counted(self) -> dict[str, dict[str, Any]]:
        """End it in order, and return what it counted for each consumer; nothing, if it is not ours."""
        return {}


class OwnRelay(Relay):
    """``producer-pool run``, for this bench. Who made *processes* ends it."""

    process: Process

    def __init__(
        self, way: Way, into: Way, setup: Setup, processes: Processes, options: tuple[str, ...] = ()
    ) -> None:
        """Prepare one: messages come to it by *into*, and go out by *way*; *options* are more of run."""
        self._way = way
        self._into = into
        self._setup = setup
        self._processes = processes
        self._options = options

    def listener_url(self, number: int) -> str:
        return self._way.listener_url(self._setup.place(f"c{number}"))

    def start(self, urls: Mapping[int, str]) -> None:
        command = ["run", "--json", "--listen", self._into.listener_url(self._setup.place("r"))]
        for number in sorted(urls):
            url = self._way.consumer_url(urls[number], self._setup.place(f"c{number}"))
            command += ["--to", f"c{number}={url}"]
        for path in self._setup.plugins:
            command += ["--plugin", str(path)]
        self.process = self._processes.start(*command, *self._options)

    def url(self) -> str:
        confine(self.process.pid, self._setup.relay_cores)
        listening = json.loads(next_line(self.process))["listeners"][0]["address"]
        return self._into.producer_url(listening, self._setup.place("r"))

    @property
    def memory(self) -> int | None:
        return peak_memory(self.process.pid)

    def counted(self) -> dict[str, dict[str, Any]]:
        self.process.signal(signal.SIGTERM)
        self.process.ended()
        consumers: dict[str, dict[str, Any]] = json.loads(self.process.output[-1])["consumers"]
        return consumers


def next_line(process: Process, beside: tuple[Process, ...] = (), more: float = 0.0) -> str:
    """Return the next line that a process says."""

    def look() -> bool:
        # First: an answer may be the last thing that it says.
        silent = [one for one in (process, *beside) if one.silent]
        if silent and not process.output:
            raise silent[0].failure("ended too early")
        return bool(process.output)

    process.wait_until(look, f"an answer of {process.name}", more=more)
    return process.output.pop(0)
