"""What the measurements come to: medians, percentiles, ratios, and what was the limit."""
# Rule: nothing here reads a clock or prints. Slices in, numbers out.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.plan import Plan
from producer_pool.cli.benching.rig import Slice
from producer_pool.cli.benching.verifying import Faults

__all__ = ["AT_LEAST", "BUSY", "PERCENTILES", "VOID", "Figures", "Outcome", "Ratio", "Spread"]

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
BUSY: Final = 0.9
"""A relay that works for less of the time is not the limit."""
EXACT: Final = "exactly"
AT_LEAST: Final = "at least"
VOID: Final = "void"
"""How a ratio holds."""
_KEPT: Final = 0.98
"""A schedule counts as kept if so much of it was sent."""


@dataclass(frozen=True)
class Spread:
    """The middle of several numbers, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Return that of *numbers*, of which there is one at the least."""
        return cls(median(numbers), min(numbers), max(numbers))

    def as_json(self) -> dict[str, float]:
        """Return it as plain values."""
        return {name: float(f"{number:.6g}") for name, number in vars(self).items()}


@dataclass(frozen=True)
class Ratio:
    """What the first of two ways has for each one of the second, within each round."""

    spread: Spread
    holds: str = EXACT
    """Whether it is exact, at least so much, or void: the load held up one of them, or the second one."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**self.spread.as_json(), "holds": self.holds}


@dataclass
class Figures:
    """What one way came to under one load."""

    size: int
    cores: int
    """On which the load ran."""
    rate: float | None
    ordered: bool
    slices: list[Slice] = field(default_factory=list)
    memory: int | None = None

    @property
    def seconds(self) -> float:
        """Seconds of all runs together."""
        return sum(one.seconds for one in self.slices)

    @property
    def messages(self) -> int:
        """Messages that were sent."""
        return sum(one.sent for one in self.slices)

    @property
    def deliveries(self) -> int:
        """Messages that consumers received, each counted for itself."""
        return sum(one.received for one in self.slices)

    @property
    def messages_per_s(self) -> Spread:
        """From the first write to the last arrival."""
        return Spread.of([one.sent / one.seconds for one in self.slices])

    @property
    def deliveries_per_s(self) -> Spread:
        """The same for what arrived."""
        return Spread.of([one.received / one.seconds for one in self.slices])

    @property
    def relay_cpu(self) -> float | None:
        """CPU seconds of the relay; None: the system does not tell."""
        parts = [one.relay_cpu for one in self.slices if one.relay_cpu is not None]
        return sum(parts) if len(parts) == len(self.slices) else None

    @property
    def cpu_per_delivery(self) -> float | None:
        """Seconds of it for one message to one consumer."""
        return None if self.relay_cpu is None else self.relay_cpu / max(self.deliveries, 1)

    @property
    def relay_busy(self) -> float | None:
        """Part of the time in which the relay worked; more than 1: several of its threads did."""
        return None if self.relay_cpu is None else self.relay_cpu / self.seconds

    @property
    def load_busy(self) -> float:
        """The same for the load, of all cores that it has."""
        return sum(one.load_cpu for one in self.slices) / self.seconds / max(self.cores, 1)

    @property
    def latencies(self) -> Histogram:
        """How long messages were under way."""
        return Histogram.of(one.latencies for one in self.slices)

    @property
    def late(self) -> Histogram:
        """By how much the load was late with its writes."""
        return Histogram.of(one.late for one in self.slices)

    @property
    def faults(self) -> Faults:
        """What went wrong."""
        faults = Faults()
        for one in self.slices:
            faults.add(one.faults)
        return faults

    @property
    def intact(self) -> bool:
        """Whether every message arrived once, unchanged, and in order if the protocol has one."""
        faults = vars(self.faults)
        return not any(count for name, count in faults.items() if name != "late" or self.ordered)

    @property
    def limit(self) -> str | None:
        """
        What held the messages up: ``relay`` or ``load``, which is all but the relay; None: nobody knows.

        By a schedule: ``schedule`` if it was kept, and ``behind`` if not.
        """
        if self.rate is not None:
            return "schedule" if self.messages_per_s.median >= self.rate * _KEPT else "behind"
        if self.relay_busy is None:
            return None
        return "relay" if self.relay_busy >= BUSY else "load"

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        latencies = self.latencies
        cpu, busy = self.cpu_per_delivery, self.relay_busy
        return {
            "runs": len(self.slices),
            "seconds": round(self.seconds, 3),
            "messages": self.messages,
            "deliveries": self.deliveries,
            "messages_per_s": self.messages_per_s.as_json(),
            "deliveries_per_s": self.deliveries_per_s.as_json(),
            "bytes_per_s": round(self.deliveries_per_s.median * self.size),
            "relay_cpu_us_per_delivery": None if cpu is None else round(cpu * 1e6, 4),
            "relay_busy": None if busy is None else round(busy, 3),
            "load_busy": round(self.load_busy, 3),
            "relay_memory_bytes": self.memory,
            "limit": self.limit,
            "latency_us": _in_us(latencies),
            "histogram_us": [[end / 1e3, count] for end, count in latencies],
            "load_late_us": _in_us(self.late) if self.rate is not None else None,
            "faults": vars(self.faults),
        }


def _in_us(histogram: Histogram) -> dict[str, float]:
    known = {name: histogram.percentile(percent) / 1e3 for name, percent in PERCENTILES.items()}
    return {**known, "max": histogram.longest / 1e3}


@dataclass
class Outcome:
    """Everything that was measured so far."""

    plan: Plan
    cores: int
    rounds: int = 0
    """How often everything was measured."""
    counted: dict[int, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """What the relay of each way counted itself, for each consumer."""
    figures: list[list[Figures]] = field(init=False)
    """By load and way."""

    def __post_init__(self) -> None:
        plan = self.plan
        self.figures = [
            [Figures(plan.shape.size, self.cores, load.rate, plan.ordered) for _ in plan.ways]
            for load in plan.loads
        ]

    def enter(self, load: int, side: int, one: Slice, memory: int | None) -> None:
        """Enter what was seen, and the memory of the relay at its peak until then."""
        figures = self.figures[load][side]
        figures.slices.append(one)
        figures.memory = memory

    @property
    def measured(self) -> list[tuple[int, list[Figures]]]:
        """The loads of which there is something for each way."""
        return [(n, sides) for n, sides in enumerate(self.figures) if all(one.slices for one in sides)]

    @property
    def intact(self) -> bool:
        """Whether nothing went wrong."""
        return all(one.intact for sides in self.figures for one in sides)

    def glance(self, load: int) -> str:
        """Return the rate that was seen last under a load, for who waits."""
        slices = self.figures[load][0].slices
        return f", {slices[-1].sent / slices[-1].seconds:,.0f} messages/s" if slices else ""

    def ratios(self, load: int) -> dict[str, Ratio]:
        """
        Return how the first way compares with the second, if there are two.

        Where something else than the relay was the limit, no rate tells what the relay can do. Flat out, no
        latency is worth a comparison: it is the wait in buffers.
        """
        if len(self.figures[load]) < 2:
            return {}
        first, second = self.figures[load]
        pairs = list(zip(first.slices, second.slices, strict=False))

        def spread(of: Callable[[Slice], float]) -> Spread:
            return Spread.of([of(one) / max(of(other), 1e-9) for one, other in pairs])

        ratios = {}
        if first.rate is None:
            holds = EXACT if first.limit == "relay" else AT_LEAST
            ratios["messages_per_s"] = Ratio(
                spread(lambda one: one.sent / one.seconds), holds if second.limit == "relay" else VOID
            )
        else:
            ratios["p50"] = Ratio(spread(lambda one: one.latencies.percentile(PERCENTILES["p50"])))
            ratios["p99"] = Ratio(spread(lambda one: one.latencies.percentile(PERCENTILES["p99"])))
        if first.relay_cpu is not None and second.relay_cpu is not None:
            cpu = spread(lambda one: (one.relay_cpu or 0.0) / max(one.received, 1) * 1e9)
            ratios["relay_cpu_us_per_delivery"] = Ratio(cpu)
        return ratios
