"""Outcomes of benches that nobody ran."""

from producer_pool.cli.benching.book import Shape
from producer_pool.cli.benching.figures import Outcome
from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.plan import Load, Plan
from producer_pool.cli.benching.rig import Slice
from producer_pool.cli.benching.verifying import Faults
from producer_pool.cli.benching.ways import Way
from producer_pool.discovery.registry import Registry

__all__ = ["enter", "outcome", "seen"]


def seen(messages: int = 1_000, cpu: float | None = 0.95, latency: int = 1_000, **faults: int) -> Slice:
    """Return what a second with two consumers might look like."""
    latencies = Histogram()
    latencies.add(latency, 2 * messages)
    late = Histogram()
    late.add(10, messages)
    return Slice(messages, 2 * messages, 1.0, cpu, 0.5, Faults(**faults), latencies, late)


def outcome(*ways: str, rates: tuple[float | None, ...] = (None,)) -> Outcome:
    """Return that of a bench that has not begun."""
    loads = tuple([Load(5 if rate is None else 1, rate) for rate in rates])
    found = tuple([Way.of(way, Registry(), {}, {}) for way in ways])
    return Outcome(Plan(found, None, Shape(100, 1, 5), 2, loads, 10.0), 2)


def enter(outcome: Outcome, *slices: Slice) -> Outcome:
    """Return *outcome* with what was seen of its first way under its first load."""
    for one in slices:
        outcome.enter(0, 0, one, 1024)
        outcome.rounds += 1
    return outcome
