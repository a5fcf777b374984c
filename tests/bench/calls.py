"""Calls of an embedding program: one process a repetition, in which the verbs take turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from statistics import median

from bench import build
from bench.process import Child, cores
from bench.runs import BOUND, Run, Settings
from bench.traffic import LoadProcess, Traffic
from bench.verbs import VERBS
from bench.workloads import Calls

__all__ = ["measure"]


def measure(name: str, workload: Calls, settings: Settings) -> Iterator[Run]:
    """Repetitions of the program. The first block of each verb warms up."""
    verbs = [verb for verb in workload.verbs if settings.wants(verb)]
    blocks = max(2, round(workload.blocks * min(1.0, settings.seconds or 1.0))) + 1
    for verb in list(verbs):
        if missing := _missing(verb, settings):
            verbs.remove(verb)
            yield Run(name, verb, 0, True, {}, skipped=missing)
    if not verbs:
        return
    program_core, load_core = cores()
    calls = workload.block * workload.threads
    shape = ("--block", str(workload.block), "--blocks", str(blocks), "--size", str(workload.size))
    program = [sys.executable, "-m", "bench.embedded", *shape, "--threads", str(workload.threads)]
    for repetition in range(settings.repetitions or workload.repetitions):
        traffic = Traffic(
            size=workload.size,
            consumers=workload.consumers,
            producers=len(verbs) * workload.threads,
            count=len(verbs) * calls * blocks,
            idle=BOUND,
        )
        with (
            LoadProcess(
                traffic, "--consume", core=load_core, bound=BOUND, python=settings.python_load
            ) as load,
            Child(
                [*program, "--verbs", ",".join(verbs), *map(str, load.ports)], core=program_core, bound=BOUND
            ) as child,
        ):
            said = json.loads(child.line())
            if said["failed"]:
                raise child.failure(f"{name}: calls failed: {', '.join(sorted(set(said['failed'])))}")
            result = load.result()
        for verb in verbs:
            figures = {unit: median(said[unit][verb][1:]) for unit in ("call_us", "settled_us", "cpu_us")}
            figures["calls_per_s"] = 1e6 / figures["call_us"]
            yield Run(name, verb, repetition, result["intact"], figures, {**result, "program": said})


def _missing(verb: str, settings: Settings) -> str:
    if verb not in VERBS:
        return "this bench has no such verb"
    if not VERBS[verb].lines and (settings.python_load or build.compiler() is None):
        return "the load in Python takes lines only; install gcc"
    return VERBS[verb].missing()
