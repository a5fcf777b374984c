"""The two minutes of CI: what needs no other program and holds on a loaded machine, with looser floors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from bench.floors import LOOSER, ROWS, Row
from bench.runner import run_all
from bench.runs import Run, Settings
from bench.verdicts import Status, Verdict, judge_all

__all__ = ["CHOSEN", "STEADY", "judge_in_ci"]

CHOSEN: Mapping[str, tuple[str, ...]] = {
    "tcp": ("product", "C"),
    "many-8": ("product", "C"),
    "many": ("product", "C"),
    "rate-many": ("max-delay", "C"),
    "udp": ("udp", "C-udp"),
    "unix": ("unix", "C-unix"),
    "websocket": ("websocket", "websocket-speedups", "naive-websocket"),
    "stalled": ("none stalled", "one stalled"),
    "idle": ("product",),
    "consumers": ("1 consumer", "4 consumers", "16 consumers", "64 consumers"),
    "connections": ("1 connection", "100 connections", "1,000 connections"),
}
"""
Workloads and who takes part in them. Not `rate`: of all ratios it is the one nearest to its floor, and a busy
neighbour spreads it most.
"""
STEADY = frozenset(("cpu_us", "finished_s", "unaccounted", "idle_mb", "connection_kib", "of_stalled_limit"))
"""Figures that a busy neighbour does not spoil: ratios within a repetition, or no times at all."""
SETTINGS = Settings(repetitions=3, seconds=0.4)

Measure = Callable[[str, tuple[str, ...]], Iterable[Run]]


def _measured(workload: str, contestants: tuple[str, ...]) -> Iterable[Run]:
    return run_all([workload], replace(SETTINGS, only=contestants))


def judge_in_ci(note: Callable[[Run], None], measure: Measure = _measured) -> tuple[list[Run], list[Verdict]]:
    """
    Measure, *note* each run, and judge.

    A workload in which a row was missed is measured once more, and only that counts.
    """

    def noted(workload: str, contestants: tuple[str, ...]) -> list[Run]:
        made = []
        for run in measure(workload, contestants):
            note(run)
            made.append(run)
        return made

    runs: list[Run] = []
    verdicts: list[Verdict] = []
    for workload, contestants in CHOSEN.items():
        rows = [_looser(_by_cost(row)) for row in ROWS if row.workload == workload]
        rows = [row for row in rows if _takes_part(row, contestants)]
        own = noted(workload, contestants)
        said = judge_all(own, rows)
        if any(verdict.status is Status.MISSED for verdict in said):
            own = noted(workload, contestants)
            said = judge_all(own, rows)
        runs += own
        verdicts += said
    return runs, verdicts


def _by_cost(row: Row) -> Row:
    """Judge a throughput by what a delivery costs: that depends less on who else is busy."""
    if row.figure != "per_s":
        return row
    return replace(row, figure="cpu_us", floor=1 / row.floor)


def _looser(row: Row) -> Row:
    return replace(row, floor=row.direction.looser(row.floor, LOOSER), goal=None)


def _takes_part(row: Row, contestants: tuple[str, ...]) -> bool:
    return row.figure in STEADY and {*row.own, *row.base} <= set(contestants)
