"""What a bench prints for people: a table for each load, how latencies are spread, and what it means."""
# Rule: an outcome in, lines out. Nothing here reads a clock.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Final

from producer_pool import __version__
from producer_pool.cli.benching.elsewhere import Elsewhere
from producer_pool.cli.benching.figures import (
    AT_LEAST,
    BUSY,
    PERCENTILES,
    VOID,
    Figures,
    Outcome,
    Ratio,
    Spread,
)
from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.machine import described
from producer_pool.cli.benching.plan import Load, Plan
from producer_pool.cli.output import printable
from producer_pool.model.text import format_count

__all__ = ["bars", "duration", "heading", "table", "verdicts"]

_BAR: Final = 40
_STEPS: Final = (1, 2, 5)
_FAINT: Final = 0.0005
"""Part of all that is not worth a line of its own."""


def heading(plan: Plan) -> list[str]:
    """Return what is measured, and where."""
    sides = " against ".join(way.text for way in plan.ways)
    from_ = f", from {plan.into.text}" if plan.into is not None else ""
    parties = [
        format_count(plan.consumers, "consumer"),
        format_count(plan.shape.producers, "producer"),
        f"messages of {plan.shape.size:,} B",
    ]
    if plan.spool is not None:
        parties.append(f"spool in {plan.spool}, {plan.spool_sync or 'always'} synced")
    where = "on this machine alone, over its loopback"
    if any(isinstance(way, Elsewhere) for way in plan.ways):
        where = "sends and consumes on this machine"
    return [
        printable(f"{sides}{from_}: {', '.join(parties)}"),
        f"producer-pool {__version__} {where}; {described()}",
    ]


# -- the table -------------------------------------------------------------------------------------


def table(outcome: Outcome, number: int) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows for one load."""
    load, sides = outcome.plan.loads[number], outcome.figures[number]
    writes = f"{load.name}, {load.unit:,} a write"
    rows = [list(row) for row in zip(*(_cells(one) for one in sides), strict=True)]
    if len(sides) == 1:
        runs = len(sides[0].slices)
        ranges = {
            "messages/s": _range(sides[0].messages_per_s, runs),
            "load busy": f"of {format_count(sides[0].cores, 'core')}" if sides[0].cores else "",
        }
        body = [[name, one, ranges.get(name, "")] for name, [one] in zip(_NAMES, rows, strict=True)]
        return [writes, "", ""], body
    ratios = outcome.ratios(number)
    shown = {row: _ratio(ratios[name]) for row, name in _RATIOS.items() if name in ratios}
    body = [[name, *cells, shown.get(name, "")] for name, cells in zip(_NAMES, rows, strict=True)]
    return [writes, "over", "against", "ratio (from, to)"], body


_LATENCIES: Final = tuple(f"latency {name}" for name in (*PERCENTILES, "max"))
_NAMES: Final = (
    "messages/s",
    "deliveries/s",
    "MB/s delivered",
    "relay CPU a delivery",
    "relay busy",
    "load busy",
    "relay memory, peak",
    *_LATENCIES,
)
_RATIOS: Final = {
    "messages/s": "messages_per_s",
    "relay CPU a delivery": "relay_cpu_us_per_delivery",
    "latency p50": "p50",
    "latency p99": "p99",
}


def _cells(figures: Figures) -> Iterator[str]:
    yield f"{figures.messages_per_s.median:,.0f}"
    deliveries = figures.deliveries_per_s.median
    yield f"{deliveries:,.0f}"
    yield f"{deliveries * figures.size / 1e6:,.1f}"
    cpu = figures.cpu_per_delivery
    yield "-" if cpu is None else f"{cpu * 1e6:,.3g} us"
    yield "-" if figures.relay_busy is None else f"{figures.relay_busy:.0%}"
    yield f"{figures.load_busy:.0%}"
    yield "-" if figures.memory is None else f"{figures.memory / 2**20:,.1f} MiB"
    latencies = figures.latencies
    for percent in PERCENTILES.values():
        yield duration(latencies.percentile(percent))
    yield duration(latencies.longest)


def _range(spread: Spread, runs: int) -> str:
    return f"{spread.least:,.0f} to {spread.most:,.0f} in {format_count(runs, 'run')}"


def _ratio(ratio: Ratio) -> str:
    if ratio.holds == VOID:
        return VOID
    spread = ratio.spread
    least = ">= " if ratio.holds == AT_LEAST else ""
    return f"{least}{spread.median:.2f} ({spread.least:.2f}, {spread.most:.2f})"


def duration(nanoseconds: float) -> str:
    """Return a duration in the unit that suits it, to three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size * 0.9995:
            return f"{nanoseconds / size:.3g} {unit}"
    # Not in scientific notation: 999.6 us.
    return f"{nanoseconds / 1e3:.3g} us" if nanoseconds < 999.5e3 else "1 ms"


# -- the histogram ---------------------------------------------------------------------------------


def bars(histogram: Histogram) -> list[str]:
    """Return a line for each step of 1, 2, 5, 10 ... in which there is something, with a bar."""
    steps: list[tuple[int, int]] = []
    for end, count in histogram:
        upto = _step(end)
        if steps and steps[-1][0] == upto:
            count += steps.pop()[1]
        steps.append((upto, count))
    total = max(histogram.total, 1)
    most = max((count for _, count in steps), default=1)
    lines = []
    for upto, count in steps:
        part = count / total
        share = f"{part:.1%}" if part >= _FAINT else "< 0.1%"
        bar = "#" * max(round(count / most * _BAR), 1 if part >= _FAINT else 0)
        lines.append(f"  up to {duration(upto):>7}  {share:>6}  {bar}".rstrip())
    return lines


def _step(nanoseconds: int) -> int:
    size = 1000
    while True:
        for step in _STEPS:
            if nanoseconds <= step * size:
                return step * size
        size *= 10


# -- what it means ---------------------------------------------------------------------------------


def verdicts(outcome: Outcome) -> list[str]:
    """Return whether all was there, and what was the limit."""
    lines = []
    for number, sides in outcome.measured:
        load = outcome.plan.loads[number]
        for side, figures in enumerate(sides):
            if not figures.intact:
                continue  # What was lost took no time.
            which = f"{load.name}, {outcome.plan.ways[side].text}" if len(sides) > 1 else load.name
            lines += [
                f"{which}: {text}" for text in _limit(figures, load, stored=outcome.plan.spool is not None)
            ]
        if load.rate is None:
            lines.append(f"{load.name}, latency is mostly the wait in buffers; --rate shows it without")
    for number, sides in outcome.measured:
        lines += _faulty(outcome, number, sides)
    if outcome.intact:
        deliveries = sum(one.deliveries for _, sides in outcome.measured for one in sides)
        order = ", in order" if outcome.plan.ordered else ""
        lines.append(
            f"{format_count(deliveries, 'delivery', 'deliveries')}, each verified: nothing lost, nothing "
            f"twice{order}, every byte as it was sent"
        )
    return [fill(printable(line), 79, subsequent_indent="  ") for line in lines]


def _limit(figures: Figures, load: Load, *, stored: bool) -> Iterator[str]:
    busy = f"{figures.relay_busy or 0:.0%}"
    match figures.limit:
        case "relay":
            yield f"the relay was busy for {busy} of the time: it was the limit"
        case "load":
            what = "the load, or the disk," if stored else "the load"
            more = "" if stored else "; with more cores, it may do more"
            yield f"{what} was the limit: the relay was busy for {busy} of the time, not {BUSY:.0%}{more}"
        case None:
            yield "whether the relay was the limit is not known, as it is not ours; see how busy the load was"
        case "behind":
            assert load.rate is not None
            sent = figures.messages_per_s.median
            yield (
                f"the schedule was not kept: {sent:,.0f} of {load.rate:,.6g} messages/s; "
                "latencies count from when each was due"
            )
        case "schedule":
            late = [duration(figures.late.percentile(percent)) for percent in (50, 99)]
            yield f"of the latency, the load itself was late by {late[0]} (p50) and {late[1]} (p99)"


def _faulty(outcome: Outcome, number: int, sides: Sequence[Figures]) -> Iterator[str]:
    for side, figures in enumerate(sides):
        if figures.intact:
            continue
        faults = figures.faults
        counts = {
            "lost": faults.lost,
            "came twice": faults.doubled,
            "out of order": faults.late,
            "damaged": faults.damaged,
        }
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        where = f"{outcome.plan.loads[number].name}, {outcome.plan.ways[side].text}"
        yield f"NOT AS IT SHOULD BE: {where}: of {figures.deliveries + faults.lost:,} deliveries: {said}"
        counted = outcome.counted.get(side)
        if counted:
            sums = {
                name: sum(one[name] for one in counted.values())
                for name in ("delivered", "failed", "dropped", "cancelled")
            }
            relay = ", ".join(f"{count:,} {name}" for name, count in sums.items())
            yield f"  its relay counted, in all it did here: {relay}"
