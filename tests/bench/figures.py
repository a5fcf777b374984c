"""What is measured of a run: each figure's name, which way is better, and how people read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["FIGURES", "Direction", "Figure", "count", "micro", "percent", "ratio", "tenth"]


class Direction(Enum):
    """Which way is better; the value is how a bound is written."""

    MORE = "≥"
    LESS = "≤"

    def meets(self, value: float, bound: float) -> bool:
        return value >= bound if self is Direction.MORE else value <= bound

    def worst(self, values: list[float]) -> float:
        return min(values) if self is Direction.MORE else max(values)

    def looser(self, bound: float, by: float) -> float:
        return bound / by if self is Direction.MORE else bound * by


def count(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def micro(value: float) -> str:
    return f"{value:.3g}"


def tenth(value: float) -> str:
    return f"{value:.1f}"


def percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass(frozen=True)
class Figure:
    """How a figure is called, and shown with its unit."""

    words: str
    show: Callable[[float], str]
    unit: str = ""
    direction: Direction = Direction.LESS

    def text(self, value: float) -> str:
        return f"{self.show(value)} {self.unit}".rstrip()


FIGURES = {
    "per_s": Figure("messages/s", count, direction=Direction.MORE),
    "cpu_us": Figure("CPU per delivery", micro, "µs"),
    "latency_p50_us": Figure("p50", tenth, "µs"),
    "latency_p99_us": Figure("p99", tenth, "µs"),
    "call_us": Figure("time per call", micro, "µs"),
    "calls_per_s": Figure("calls/s", count, direction=Direction.MORE),
    "finished_s": Figure("time until the other three have all", ratio, "s"),
    "unaccounted": Figure("messages not accounted for", count),
    "idle_mb": Figure("resident, idle", tenth, "MB"),
    "connection_kib": Figure("for each idle connection", ratio, "KiB"),
    "of_stalled_limit": Figure("peak above idle, by the limit of the stalled one", ratio),
    "wall_ms": Figure("start", tenth, "ms"),
    "added_ms": Figure("added by 300 more distributions", tenth, "ms"),
}
