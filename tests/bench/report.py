"""Runs as Markdown tables: medians with their spread, and ratios taken within each repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from bench.runner import CEILING, Run
from bench.workloads import WORKLOADS, Crowded, Memory, Through

BUSY = 0.9
Show = Callable[[float], str]


def markdown(runs: Sequence[Run]) -> str:
    """A table per workload, in the order of the runs."""
    parts = []
    for name in dict.fromkeys(run.workload for run in runs):
        workload = WORKLOADS[name]
        chosen = [run for run in runs if run.workload == name]
        parts.append(f"### {workload.title}\n")
        if isinstance(workload, Through):
            parts.append(_through(chosen))
        elif isinstance(workload, Memory):
            parts.append(_memory(chosen))
        elif isinstance(workload, Crowded):
            parts.append(_crowded(chosen))
        else:
            parts.append(_embedded(chosen))
    return "\n".join(parts)


def faults(runs: Iterable[Run]) -> list[str]:
    """Each run in which a consumer that reads did not get every message once and in order."""
    lines = []
    for run in runs:
        if run.intact:
            continue
        wrong = [
            f"{key}={consumer[key]}"
            for consumer in run.detail["consumers"]
            if not consumer["stalled"]
            for key in ("lost", "doubled", "reordered", "corrupt", "torn")
            if consumer[key]
        ]
        found = " ".join(wrong) or "nothing missing"
        cut = f", {run.detail['resets']} producers cut off" if run.detail["resets"] else ""
        lines.append(f"{run.workload}/{run.contestant} #{run.repetition}: {found}{cut}")
    return lines


def _through(runs: list[Run]) -> str:
    measured = _by_contestant(runs)
    ceiling = measured.pop(CEILING, [])
    bases = [name for name in ("naive", "C") if name in measured] or list(measured)[: len(measured) > 1]
    rated = any("latency_p50_us" in run.figures for run in runs)
    head = [
        "relay",
        "msg/s",
        "CPU us/delivery",
        "its core busy",
        "load busy",
        "others",
        "peak RSS MiB",
        "switches/s",
    ]
    head += ["p50 us", "p99 us"] if rated else []
    for base in bases:
        head += [f"msg/s : {base}", f"CPU : {base}"]
    rows = []
    for name, own in measured.items():
        row = [name, _spread(own, "per_s", _count), _spread(own, "cpu_us", _micro)]
        row += [_spread(own, "relay_busy", _percent), _spread(own, "load_busy", _percent)]
        row += [_spread(own, "others", _percent), _spread(own, "peak_mib", _tenth)]
        row += [_spread(own, "switches_per_s", _count)]
        if rated:
            row += [_spread(own, f"latency_{share}_us", _tenth) for share in ("p50", "p99")]
        for base in bases:
            row += [_ratio(own, measured[base], "per_s"), _ratio(own, measured[base], "cpu_us")]
        rows.append(row)
    text = _table(head, rows)
    for run in ceiling:
        slow = "" if run.detail["compiled"] else " (in Python: no C compiler, so it is the limit)"
        rate = _count(run.figures["per_s"])
        text += f"\nThe load alone, each message written once and received once: {rate} msg/s{slow}.\n"
    return text + _skipped(runs)


def _memory(runs: list[Run]) -> str:
    head = ["relay", "idle MiB", "peak MiB", "above idle : one limit", "above idle : all limits", "msg/s"]
    rows = [
        [
            name,
            _spread(own, "idle_mib", _tenth),
            _spread(own, "peak_mib", _tenth),
            _spread(own, "of_stalled_limit", _ratio_text),
            _spread(own, "of_all_limits", _ratio_text),
            _spread(own, "per_s", _count),
        ]
        for name, own in _by_contestant(runs).items()
    ]
    return _table(head, rows) + _skipped(runs)


def _embedded(runs: list[Run]) -> str:
    measured = _by_contestant(runs)
    base = "sendall" if "sendall" in measured else ""
    head = ["verb", "us/call", "us/call until settled", "CPU us/call"] + (
        [f"us/call : {base}"] if base else []
    )
    rows = []
    for name, own in measured.items():
        row = [name, *(_spread(own, unit, _micro) for unit in ("call_us", "settled_us", "cpu_us"))]
        rows.append(row + ([_ratio(own, measured[base], "call_us")] if base else []))
    return _table(head, rows)


def _crowded(runs: list[Run]) -> str:
    head = ["command", "CPU ms alone", "CPU ms among them", "CPU ms added", "wall ms added"]
    rows = [
        [
            f"`producer-pool {name}`",
            _spread(own, "cpu_ms", _tenth),
            _spread(own, "among_cpu_ms", _tenth),
            *(_added(own, unit) for unit in ("cpu_ms", "wall_ms")),
        ]
        for name, own in _by_contestant(runs).items()
    ]
    return _table(head, rows)


def _added(runs: list[Run], unit: str) -> str:
    """The median of the differences within each repetition, with the smallest and the largest."""
    values = sorted(run.figures[f"among_{unit}"] - run.figures[unit] for run in runs)
    return f"{_tenth(median(values))} ({_tenth(values[0])}..{_tenth(values[-1])})"


def _by_contestant(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.figures:
            found.setdefault(run.contestant, []).append(run)
    return found


def _spread(runs: list[Run], figure: str, show: Show) -> str:
    values = sorted(run.figures[figure] for run in runs)
    middle = show(median(values))
    return middle if len(values) == 1 else f"{middle} ({show(values[0])}..{show(values[-1])})"


def _ratio(own: list[Run], base: list[Run], figure: str) -> str:
    """
    The median of the ratios within each repetition.

    A throughput is its relay's own only while nothing is left of the relay's core. Otherwise the load held it
    up: then the ratio is a lower bound, and if that happened to the base, it is void.
    """
    bases = {run.repetition: run.figures[figure] for run in base}
    pairs = [(run.figures[figure], bases.get(run.repetition, 0.0)) for run in own]
    if own is base:
        return "1"
    if not pairs or not all(other for _, other in pairs):
        return "-"
    values = sorted(value / other for value, other in pairs)
    text = f"{_ratio_text(median(values))} ({_ratio_text(values[0])}..{_ratio_text(values[-1])})"
    if figure != "per_s":
        return text
    if _held_up(base):
        return f"void: {text}"
    return f">= {text}" if _held_up(own) else text


def _held_up(runs: list[Run]) -> bool:
    return median(run.figures["relay_core"] for run in runs) < BUSY


def _skipped(runs: Iterable[Run]) -> str:
    return "".join(f"\nNot measured: {run.contestant}: {run.skipped}.\n" for run in runs if run.skipped)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _count(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _micro(value: float) -> str:
    return f"{value:.3g}"


def _tenth(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def _ratio_text(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
