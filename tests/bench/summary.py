"""What was to be reached and what was, as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.report import table
from bench.verdicts import Status, Verdict
from bench.workloads import WORKLOADS

__all__ = ["head", "missed", "summary"]


def head(machine: Mapping[str, str]) -> str:
    """On what was measured."""
    return table(["on", ""], list(machine.items()))


def summary(verdicts: Sequence[Verdict]) -> str:
    """A row for each figure that is to be reached."""
    rows = []
    title = ""
    for verdict in verdicts:
        row = verdict.row
        this = WORKLOADS[row.workload].title
        goal = f"{row.direction.value} {row.text(row.goal)}" if row.goal is not None else ""
        floor = f"{row.direction.value} {row.text(row.floor)}"
        rows.append(
            [this if this != title else "", row.words, measured(verdict), floor, goal, _became(verdict)]
        )
        title = this
    return table(["workload", "figure", "median (spread)", "floor", "goal", ""], rows)


def measured(verdict: Verdict) -> str:
    """The median of a row, and the smallest and largest repetition."""
    if not verdict.values:
        return "-"
    show = verdict.row.text
    low, high = min(verdict.values), max(verdict.values)
    text = f"{'≥ ' * verdict.at_least}{show(verdict.value)}"
    return text if len(verdict.values) == 1 else f"{text} ({show(low)}..{show(high)})"


def missed(verdicts: Iterable[Verdict]) -> list[str]:
    """A line for each floor that was missed."""
    return [
        f"{verdict.row.workload}: {verdict.row.words} is {measured(verdict)},"
        f" the floor {verdict.row.direction.value} {verdict.row.text(verdict.row.floor)}"
        for verdict in verdicts
        if verdict.status is Status.MISSED
    ]


def _became(verdict: Verdict) -> str:
    said = f"**{verdict.status.value}**" if verdict.status is Status.MISSED else verdict.status.value
    return f"{said}: {verdict.reason}" if verdict.reason else said
