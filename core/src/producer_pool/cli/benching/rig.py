"""A relay between the processes of the load: one measurement after the other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.relay import Relay, next_line
from producer_pool.cli.benching.talk import NOBODY, Setup
from producer_pool.cli.benching.verifying import Faults
from producer_pool.cli.processes import Process, ProcessError, Processes
from producer_pool.model.endpoint import redact
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

    relay: Relay
    setup: Setup
    processes: Processes
    _generator: Process = field(init=False)
    _consumers: list[Process] = field(init=False, default_factory=list)

    def start(self, most: int) -> None:
        """
        Start everything, with *most* processes of consumers at the most.

        Raises:
            ProcessError: something does not start; the text has what it said.
        """
        setup, start, relay = self.setup, self.processes.start, self.relay
        os.mkfifo(setup.bell)
        with setup.board():
            pass  # Now it is there, and all find the same.
        count = min(most, setup.consumers)
        shared = {"setup": setup.as_json()}
        groups = [range(first, setup.consumers, count) for first in range(count)]
        self._consumers = [start("consumers", module=f"{_LOAD}.consuming", stdin=-1) for _ in groups]
        for process, numbers in zip(self._consumers, groups, strict=True):
            listen = [(number, relay.listener_url(number)) for number in numbers]
            process.write(_line({**shared, "listen": listen}))
        urls: dict[int, str] = {}
        for process, numbers in zip(self._consumers, groups, strict=True):
            urls.update(zip(numbers, _answer(process)["urls"], strict=True))
        relay.start(urls)
        # At once: it is the one who ends the relay if we cannot any more.
        ours = str(relay.process.pid) if relay.process is not None else NOBODY
        self._generator = start("generator", ours, module=f"{_LOAD}.generating", stdin=-1)
        self._generator.write(_line({**shared, "to": relay.url()}))
        _answer(self._generator)

    def knock(self, patience: float) -> None:
        """
        Send one message, and wait until all consumers have it: a relay may be about to look for them.

        Raises:
            ProcessError: one did not get it within so many seconds.
        """
        order = {"unit": 1, "seconds": 0.001, "rate": 1.0, "patience": patience}
        for number, report in enumerate(self._send(order, patience)[1]):
            for index, one in enumerate(report["consumers"]):
                if one["faults"]["lost"]:
                    place = self.relay.listener_url(number + index * len(self._consumers))
                    raise ProcessError(
                        f"a message that was sent did not arrive at {redact(place)} within {patience:g} s; "
                        "does the daemon forward to there?"
                    )

    def measure(self, unit: int, seconds: float, rate: float | None) -> Slice:
        """
        Send for a while, *unit* messages in a write, and say what was seen.

        Raises:
            ProcessError: a process is gone, or a connection.
        """
        said, reports = self._send({"unit": unit, "seconds": seconds, "rate": rate}, seconds)
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
            load_cpu=said["cpu"] + cpu,
            faults=faults,
            latencies=Histogram.of(Histogram.from_json(one["latencies"]) for one in consumers),
            late=Histogram.from_json(said["late"]),
        )

    def _send(self, order: dict[str, Any], more: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what the generator says of that order, and what the consumers do, with their CPU time."""
        for process in self._consumers:
            process.write(_line({"begin": order["unit"]}))
        before = [_answer(process)["cpu"] for process in self._consumers]
        self._generator.write(_line(order))
        ours = [self.relay.process] if self.relay.process is not None else []
        said = _answer(self._generator, beside=(*ours, *self._consumers), more=more)
        for process in self._consumers:
            process.write(_line({"report": said["sent"]}))
        reports = [_answer(process) for process in self._consumers]
        return said, [{**one, "cpu": one["cpu"] - cpu} for one, cpu in zip(reports, before, strict=True)]


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _answer(process: Process, beside: tuple[Process, ...] = (), more: float = 0.0) -> dict[str, Any]:
    """
    Return the answer of a process of the load.

    Raises:
        ConfigurationError: it says that what it was asked for cannot be used.
        ProcessError: it cannot do it for another reason, or gives no answer.
    """
    said: dict[str, Any] = json.loads(next_line(process, beside, more))
    if "error" in said:
        raise ConfigurationError(said["error"]) if said["unusable"] else ProcessError(said["error"])
    return said
