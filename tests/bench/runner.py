"""Takes the measurements, one workload after another; within one, the contestants alternate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench import calls, daemons, through
from bench.process import BenchError
from bench.runs import Run, Settings
from bench.workloads import WORKLOADS, Calls, Crowded, Idle, Start, Workload

__all__ = ["run_all"]


def run_all(names: Iterable[str], settings: Settings) -> Iterator[Run]:
    """Measure the workloads; runs are yielded as they end. One that breaks off does not stop the others."""
    for name in names:
        try:
            yield from _measure(name, WORKLOADS[name], settings)
        except BenchError as error:
            yield Run(name, "bench", 0, False, {}, skipped=str(error))


def _measure(name: str, workload: Workload, settings: Settings) -> Iterator[Run]:
    if isinstance(workload, Calls):
        return calls.measure(name, workload, settings)
    if isinstance(workload, Idle):
        return daemons.measure_idle(name, workload, settings)
    if isinstance(workload, Start):
        return daemons.measure_start(name, workload, settings)
    if isinstance(workload, Crowded):
        return daemons.measure_crowded(name, workload, settings)
    return through.measure(name, workload, settings)
