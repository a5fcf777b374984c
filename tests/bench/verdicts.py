"""Whether what is to be reached was reached: each row of the table of floors, judged by the runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from statistics import median

from bench.floors import ROWS, Row
from bench.runs import Run

__all__ = ["BUSY", "Status", "Verdict", "held_up", "judge", "judge_all"]

BUSY = 0.9
"""A core that is so busy is what limits a run."""


class Status(Enum):
    """What became of a row."""

    GOAL = "goal met"
    MET = "met"
    MISSED = "missed"
    VOID = "void"
    ABSENT = "not measured"


@dataclass(frozen=True)
class Verdict:
    """A row with its value: the median of the repetitions, with the smallest and the largest."""

    row: Row
    status: Status
    values: tuple[float, ...] = ()
    at_least: bool = False
    """The load held our side up, and the true value is better."""
    reason: str = ""
    """Why it is void or was not measured."""

    @property
    def value(self) -> float:
        return median(self.values)


def judge_all(runs: Iterable[Run], rows: Sequence[Row] = ROWS) -> list[Verdict]:
    """Judge the *rows* whose workloads were measured."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.workload, []).append(run)
    return [judge(row, found[row.workload]) for row in rows if row.workload in found]


def judge(row: Row, runs: Sequence[Run]) -> Verdict:
    """Judge one row by the runs of its workload."""
    wanted = dict.fromkeys((*row.own, *row.base))
    measured = {name: _usable(row, runs, name) for name in wanted}
    for name, own in measured.items():
        if not own:
            return Verdict(row, Status.ABSENT, reason=_why(runs, name))
    values = tuple(_values(row, measured))
    if not values:
        return Verdict(row, Status.ABSENT, reason="no repetition in which all took part")
    value = median(values)
    met = row.direction.meets(value, row.floor)
    ours = [run for name in row.own for run in measured[name]]
    theirs = [run for name in row.base for run in measured[name]]
    by_rate = row.figure == "per_s" and bool(row.base)
    # What the load holds up could do more. If that is the base, the ratio is too good, and may miss even so.
    if by_rate and met and held_up(theirs):
        reason = f"{_held_up(row.against, theirs)}{_by_cost(row, runs)}"
        return Verdict(row, Status.VOID, values, reason=reason)
    at_least = by_rate and held_up(ours)
    if not met and at_least:
        reason = f"{_held_up(row.own[0], ours)}{_by_cost(row, runs)}"
        return Verdict(row, Status.VOID, values, at_least, reason)
    if not met:
        return Verdict(row, Status.MISSED, values)
    reached = row.goal is not None and row.direction.meets(value, row.goal)
    return Verdict(row, Status.GOAL if reached else Status.MET, values, at_least)


def held_up(runs: Sequence[Run]) -> bool:
    """
    Whether the load and not the relay was the limit: its core was full, and the relay's was not.

    A relay that waits for a disk, or for what is under way, leaves both cores idle, and is its own limit.
    """
    known = [run for run in runs if "relay_core" in run.figures]
    if not known:
        return False
    relay, load = (median(run.figures[name] for run in known) for name in ("relay_core", "load_core"))
    return relay < BUSY <= load


def _held_up(name: str, runs: Sequence[Run]) -> str:
    relay, load = (median(run.figures[name] for run in runs) for name in ("relay_core", "load_core"))
    return f"the load held {name} up: its core was {relay * 100:.0f} % busy, the load's {load * 100:.0f} %"


def _by_cost(row: Row, runs: Sequence[Run]) -> str:
    """What the ratio would be if both were their own limit, by what a delivery costs."""
    cost = judge(replace(row, figure="cpu_us", goal=None), runs)
    return f"; by CPU per delivery it is {1 / cost.value:.2f}" if cost.values and cost.value else ""


def _usable(row: Row, runs: Sequence[Run], name: str) -> list[Run]:
    return [run for run in runs if run.contestant == name and run.intact and row.figure in run.figures]


def _why(runs: Sequence[Run], name: str) -> str:
    own = [run for run in runs if run.contestant == name]
    if why := next((run.why for run in own if run.skipped), ""):
        return f"{name}: {why}"
    return f"{name} lost messages" if own else f"{name} did not take part"


def _values(row: Row, measured: dict[str, list[Run]]) -> list[float]:
    """The worst of ours in each repetition, by the least of theirs."""
    figures = {
        name: {run.repetition: run.figures[row.figure] for run in runs} for name, runs in measured.items()
    }
    common = set.intersection(*(set(own) for own in figures.values()))
    values = []
    for repetition in sorted(common):
        ours = row.direction.worst([figures[name][repetition] for name in row.own])
        theirs = min((figures[name][repetition] for name in row.base), default=1.0)
        if theirs > 0:
            values.append(ours / theirs)
    return values
