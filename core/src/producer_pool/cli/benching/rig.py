"""A relay, which is the real daemon, between the processes of the load: one measurement after the other."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.machine import confine, peak_memory
from producer_pool.cli.benching.talk import Setup
from producer_pool.cli.benching.verifying import Faults
from producer_pool.cli.benching.ways import Way
from producer_pool.cli.processes import Process, ProcessError, Processes, wait_until
from producer_pool.model.errors import ConfigurationError

__all__ = ["Rig", "Slice"]

_LOAD = "producer_pool.cli.benching"


@dataclass
class Slice:
    """What was seen while messages were sent for a while."""

    sent: int
    received: int
    """By all consumers together."""
    seconds: float
    """From the first write to the last arrival."""
    relay_cpu: float | None
    load_cpu: float
    faults: Faults
    latencies: Histogram
    late: Histogram
    """By how much the load itself was late with its writes, where they had a schedule."""


@dataclass
class Rig:
    """One relay with its load. Who made its processes ends them."""

    way: Way
    into: Way
    """How the load sends to the relay."""
    setup: Setup
    processes: Processes
    relay_options: tuple[str, ...] = ()
    _relay: Process = field(init=False)
    _generator: Process = field(init=False)
    _consumers: list[Process] = field(init=False, default_factory=list)

    def start(self, most: int) -> None:
        """
        Start everything, with *most* processes of consumers at the most.

        Raises:
            ProcessError: something does not start; the text has what it said.
        """
        setup, start = self.setup, self.processes.start
        os.mkfifo(setup.bell)
        with setup.board():
            pass  # Now it is there, and all find the same.
        count = min(most, setup.consumers)
        shared = {"setup": setup.as_json()}
        groups = [range(first, setup.consumers, count) for first in range(count)]
        self._consumers = [start("consumers", module=f"{_LOAD}.consuming", stdin=-1) for _ in groups]
        for process, numbers in zip(self._consumers, groups, strict=True):
            listen = [(number, self.way.listener_url(self._folder(f"c{number}"))) for number in numbers]
            process.write(_line({**shared, "listen": listen}))
        urls: dict[int, str] = {}
        for process, numbers in zip(self._consumers, groups, strict=True):
            urls.update(zip(numbers, _answer(process)["urls"], strict=True))
        self._relay = start(*self._relay_command(urls))
        # At once: it is the one who ends the relay if we cannot any more.
        relay = str(self._relay.pid)
        self._generator = start("generator", relay, module=f"{_LOAD}.generating", stdin=-1)
        confine(self._relay.pid, setup.relay_cores)
        listening = json.loads(_next(self._relay))["listeners"][0]["address"]
        to = self.into.producer_url(listening, self._folder("r"))
        self._generator.write(_line({**shared, "to": to}))
        _answer(self._generator)

    def _relay_command(self, urls: dict[int, str]) -> list[str]:
        setup = self.setup
        command = ["run", "--json", "--listen", self.into.listener_url(self._folder("r"))]
        for number in sorted(urls):
            url = self.way.consumer_url(urls[number], self._folder(f"c{number}"))
            command += ["--to", f"c{number}={url}"]
        for path in setup.plugins:
            command += ["--plugin", str(path)]
        return [*command, *self.relay_options]

    def _folder(self, name: str) -> Path:
        folder = self.setup.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def memory(self) -> int | None:
        """Bytes of the relay's memory, at its peak."""
        return peak_memory(self._relay.pid)

    def measure(self, unit: int, seconds: float, rate: float | None) -> Slice:
        """
        Send for a while, *unit* messages in a write, and say what was seen.

        Raises:
            ProcessError: a process is gone, or a connection.
        """
        for process in self._consumers:
            process.write(_line({"begin": unit}))
        before = sum(_answer(process)["cpu"] for process in self._consumers)
        self._generator.write(_line({"unit": unit, "seconds": seconds, "rate": rate}))
        said = _answer(self._generator, beside=(self._relay, *self._consumers), more=seconds)
        for process in self._consumers:
            process.write(_line({"report": said["sent"]}))
        reports = [_answer(process) for process in self._consumers]
        consumers = [one for report in reports for one in report["consumers"]]
        cpu = sum(report["cpu"] for report in reports)
        faults = Faults()
        for one in consumers:
            faults.add(Faults(**one["faults"]))
        last = max(one["last"] for one in consumers)
        return Slice(
            sent=sum(said["sent"]),
            received=sum(one["received"] for one in consumers),
            seconds=max(last - said["began"], 1) / 1e9,
            relay_cpu=said["relay_cpu"],
            load_cpu=said["cpu"] + cpu - before,
            faults=faults,
            latencies=Histogram.of(Histogram.from_json(one["latencies"]) for one in consumers),
            late=Histogram.from_json(said["late"]),
        )

    def counted(self) -> dict[str, dict[str, Any]]:
        """End the relay in order, and return what it counted for each consumer."""
        self._relay.signal(signal.SIGTERM)
        self._relay.ended()
        consumers: dict[str, dict[str, Any]] = json.loads(self._relay.output[-1])["consumers"]
        return consumers


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _next(process: Process, beside: tuple[Process, ...] = (), more: float = 0.0) -> str:
    """Return the next line that a process says."""

    def look() -> bool:
        for one in (process, *beside):
            if not one.runs and not process.output:
                raise one.failure("ended too early")
        return bool(process.output)

    wait_until(look, f"an answer of {process.name}", more=more)
    return process.output.pop(0)


def _answer(process: Process, beside: tuple[Process, ...] = (), more: float = 0.0) -> dict[str, Any]:
    """
    Return the answer of a process of the load.

    Raises:
        ConfigurationError: it says that what it was asked for cannot be used.
        ProcessError: it cannot do it for another reason, or gives no answer.
    """
    said: dict[str, Any] = json.loads(_next(process, beside, more))
    if "error" in said:
        raise ConfigurationError(said["error"]) if said["unusable"] else ProcessError(said["error"])
    return said
