"""Takes the measurements: one run of one contestant, and repetitions in which the contestants alternate."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from bench.installed import crowd, timed
from bench.process import BenchError, Child, context_switches, cores, resident
from bench.relays import RELAYS, UnavailableError
from bench.traffic import LoadProcess, Traffic
from bench.workloads import WORKLOADS, Crowded, Embedded, Memory, Through

BOUND = 60.0
CEILING = "ceiling"


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    repetitions: int = 5
    seconds: float = 2.0
    python_load: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of one contestant: figures for the table, and all that the load generator said."""

    workload: str
    contestant: str
    repetition: int
    intact: bool
    figures: dict[str, float]
    detail: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    def json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def smaller(settings: Settings) -> Settings:
    """Enough to see that everything works; too little to quote."""
    return replace(settings, repetitions=2, seconds=0.5)


def run_all(names: list[str], settings: Settings) -> Iterator[Run]:
    """Measure the workloads one after another; runs are yielded as they end."""
    for name in names:
        workload = WORKLOADS[name]
        if isinstance(workload, Embedded):
            yield from _embedded(name, workload, settings)
            continue
        if isinstance(workload, Crowded):
            yield from _crowded(name, workload, settings)
            continue
        if isinstance(workload, Through):
            yield _ceiling(name, workload.traffic, settings)
        wanted = [c for c in workload.contestants if not settings.only or c in settings.only]
        # Peaks of memory hardly spread, and their runs are long.
        repetitions = min(settings.repetitions, 2 if isinstance(workload, Memory) else settings.repetitions)
        for repetition in range(repetitions):
            for contestant in list(wanted):
                try:
                    yield _through(name, workload, (contestant, repetition), settings)
                except UnavailableError as error:
                    wanted.remove(contestant)
                    yield Run(name, contestant, repetition, True, {}, skipped=str(error))


def _through(name: str, workload: Through | Memory, turn: tuple[str, int], settings: Settings) -> Run:
    contestant, repetition = turn
    pair = relay_core, load_core = cores()
    traffic = replace(workload.traffic.lasting(settings.seconds), wire=RELAYS[contestant].wire)
    with LoadProcess(traffic, core=load_core, bound=BOUND, python=settings.python_load) as load:
        child, port = RELAYS[contestant].start(load.ports, core=relay_core, bound=BOUND + 30)
        with child:
            # Draining towards a consumer that never reads would take the relay's whole bound.
            child.gentle = not traffic.stall
            idle, _ = resident(child.pid)
            switches = context_switches(child.pid)
            load.begin(port, child.pid)
            try:
                result = load.result(*pair)
                _, peak = resident(child.pid)
                switches = context_switches(child.pid) - switches
            except (BenchError, OSError) as error:
                raise child.failure(f"{name}: {error}") from error
    figures = _figures(result, traffic) | {"idle_mib": idle / 2**20, "peak_mib": peak / 2**20}
    figures["switches_per_s"] = switches / max(result["elapsed"], 1e-9)
    if isinstance(workload, Memory):
        figures["of_stalled_limit"] = (peak - idle) / workload.buffer
        figures["of_all_limits"] = (peak - idle) / (workload.buffer * traffic.consumers)
    return Run(name, contestant, repetition, result["intact"], figures, result)


def _ceiling(name: str, traffic: Traffic, settings: Settings) -> Run:
    """Without a relay: the load process writes each message once, to a consumer of its own."""
    relay_core, load_core = cores()
    traffic = replace(traffic, consumers=1).lasting(min(settings.seconds, 1.0))
    with LoadProcess(traffic, "--ceiling", core=load_core, bound=BOUND, python=settings.python_load) as load:
        result = load.result(relay_core, load_core)
    figures = _figures(result, traffic)
    return Run(name, CEILING, 0, result["intact"], figures, {**result, "compiled": load.compiled})


def _figures(result: dict[str, Any], traffic: Traffic) -> dict[str, float]:
    """
    What a table shows of one run.

    `others` is what other programs took of the relay's or of the load's core, whichever is more.
    """
    elapsed = max(result["elapsed"], 1e-9)
    receiving = sum(not consumer["stalled"] for consumer in result["consumers"])
    deliveries = max(1, sum(consumer["received"] for consumer in result["consumers"]))
    relay, load = result["relay_cpu"] / elapsed, result["generator_cpu"] / elapsed
    core = result["relay_core_busy"] / elapsed
    figures = {
        "per_s": deliveries / receiving / elapsed,
        "cpu_us": result["relay_cpu"] / deliveries * 1e6,
        "relay_busy": relay,
        "load_busy": load,
        "others": max(0.0, core - relay, result["load_core_busy"] / elapsed - load),
        "relay_core": max(relay, core),
    }
    for name, value in (result["latency_us"] or {}).items() if traffic.rate else ():
        figures[f"latency_{name}_us"] = value
    return figures


def _embedded(name: str, workload: Embedded, settings: Settings) -> Iterator[Run]:
    """One process a repetition; the verbs alternate in blocks, and the first block of each warms up."""
    program_core, load_core = cores()
    blocks = max(2, round(workload.blocks * min(1.0, settings.seconds / Settings.seconds))) + 1
    traffic = Traffic(
        size=workload.size,
        consumers=workload.consumers,
        producers=len(workload.verbs),
        count=len(workload.verbs) * workload.block * blocks,
        idle=BOUND,
    )
    shape = ("--block", str(workload.block), "--blocks", str(blocks), "--size", str(workload.size))
    program = [sys.executable, "-m", "bench.embedded", "--verbs", ",".join(workload.verbs), *shape]
    for repetition in range(settings.repetitions):
        with (
            LoadProcess(
                traffic, "--consume", core=load_core, bound=BOUND, python=settings.python_load
            ) as load,
            Child([*program, *map(str, load.ports)], core=program_core, bound=BOUND) as child,
        ):
            said = json.loads(child.line())
            if said["failed"]:
                raise child.failure(f"{name}: calls failed: {', '.join(sorted(set(said['failed'])))}")
            result = load.result()
        for verb in workload.verbs:
            figures = {unit: median(said[unit][verb][1:]) for unit in ("call_us", "settled_us", "cpu_us")}
            yield Run(name, verb, repetition, result["intact"], figures, {**result, "program": said})


def _crowded(name: str, workload: Crowded, settings: Settings) -> Iterator[Run]:
    """Each command alternates between both; of the runs of a repetition the fastest counts."""
    with crowd(workload.distributions) as folder:
        for repetition in range(settings.repetitions):
            for command in workload.commands:
                alone, among = [], []
                for _ in range(workload.runs):
                    alone.append(timed(command, {}))
                    among.append(timed(command, {"PYTHONPATH": str(folder)}))
                figures = {unit: min(run[unit] for run in alone) for unit in alone[0]}
                figures |= {f"among_{unit}": min(run[unit] for run in among) for unit in among[0]}
                yield Run(name, " ".join(command), repetition, True, figures)
