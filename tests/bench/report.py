"""Runs as Markdown tables: medians with their spread, and ratios taken within each repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from bench.figures import count, micro, percent, ratio, tenth
from bench.runs import CEILING, Run
from bench.verdicts import held_up
from bench.workloads import CONTROLS, PEERS, WORKLOADS, Calls, Crowded, Idle, Memory, Start

__all__ = ["faults", "markdown", "spread", "table", "within"]

Show = Callable[[float], str]


def markdown(runs: Sequence[Run]) -> str:
    """A table per workload, in the order of the runs."""
    parts = []
    for name in dict.fromkeys(run.workload for run in runs):
        workload = WORKLOADS[name]
        chosen = [run for run in runs if run.workload == name]
        parts.append(f"### {workload.title}\n")
        if isinstance(workload, Memory):
            parts.append(_memory(chosen))
        elif isinstance(workload, Calls):
            parts.append(_calls(chosen))
        elif isinstance(workload, Idle):
            parts.append(_idle(chosen))
        elif isinstance(workload, Start):
            parts.append(_start(chosen))
        elif isinstance(workload, Crowded):
            parts.append(_crowded(chosen))
        else:
            parts.append(_through(chosen))
        parts.append(_lossy(chosen))
    return "\n".join(filter(None, parts))


def faults(runs: Iterable[Run]) -> list[str]:
    """Each run, but of peers, that could not be made, or in which a consumer that reads missed a message."""
    return [
        f"{run.workload}/{run.contestant} #{run.repetition}: {_wrong(run)}"
        for run in runs
        if not run.intact and run.contestant not in PEERS
    ]


def _wrong(run: Run) -> str:
    if run.skipped:
        return run.skipped
    wrong = [
        f"{key}={consumer[key]}"
        for consumer in run.detail["consumers"]
        if not consumer["stalled"]
        for key in ("lost", "doubled", "reordered", "corrupt", "torn")
        if consumer[key]
    ]
    found = " ".join(wrong) or "nothing missing"
    return f"{found}, {run.detail['resets']} producers cut off" if run.detail["resets"] else found


def _lossy(runs: Iterable[Run]) -> str:
    """What peers lost: such runs are in no ratio."""
    found = [run for run in runs if not run.intact and run.contestant in PEERS and not run.skipped]
    return "".join(f"Not counted: {run.contestant} #{run.repetition}: {_wrong(run)}.\n" for run in found)


def _through(runs: list[Run]) -> str:
    measured = _by_contestant(runs)
    ceiling = measured.pop(CEILING, [])
    bases = [name for name in measured if name in CONTROLS] or list(measured)[: len(measured) > 1]
    rated = any("latency_p50_us" in run.figures for run in runs)
    told = any("unaccounted" in run.figures for run in runs)
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
    head += ["s until three have all", "not accounted for"] if told else []
    for base in bases:
        head += [f"msg/s : {base}", f"CPU : {base}"]
    rows = []
    for name, own in measured.items():
        row = [name, spread(own, "per_s", count), spread(own, "cpu_us", micro)]
        row += [spread(own, "relay_busy", percent), spread(own, "load_busy", percent)]
        row += [spread(own, "others", percent), spread(own, "peak_mib", tenth)]
        row += [spread(own, "switches_per_s", count)]
        if rated:
            row += [spread(own, f"latency_{share}_us", tenth) for share in ("p50", "p99")]
        if told:
            row += [spread(own, "finished_s", ratio), spread(own, "unaccounted", count)]
        for base in bases:
            row += [_ratio(own, measured[base], "per_s"), _ratio(own, measured[base], "cpu_us")]
        rows.append(row)
    text = table(head, rows)
    for run in ceiling:
        slow = "" if run.detail["compiled"] else " (in Python: no C compiler, so it is the limit)"
        rate = count(run.figures["per_s"])
        text += f"\nThe load alone, each message written once and received once: {rate} msg/s{slow}.\n"
    return text + _skipped(runs)


def _memory(runs: list[Run]) -> str:
    head = ["relay", "idle MiB", "peak MiB", "above idle : one limit", "above idle : all limits", "msg/s"]
    rows = [
        [
            name,
            spread(own, "idle_mib", tenth),
            spread(own, "peak_mib", tenth),
            spread(own, "of_stalled_limit", ratio),
            spread(own, "of_all_limits", ratio),
            spread(own, "per_s", count),
        ]
        for name, own in _by_contestant(runs).items()
    ]
    return table(head, rows) + _skipped(runs)


def _calls(runs: list[Run]) -> str:
    measured = _by_contestant(runs)
    bases = list(measured)[1:]
    head = [
        "verb",
        "us/call",
        "us/call until settled",
        "CPU us/call",
        *(f"us/call : {base}" for base in bases),
    ]
    rows = []
    for name, own in measured.items():
        row = [name, *(spread(own, unit, micro) for unit in ("call_us", "settled_us", "cpu_us"))]
        rows.append(row + [_ratio(own, measured[base], "call_us") for base in bases])
    return table(head, rows) + _skipped(runs)


def _idle(runs: list[Run]) -> str:
    rows = [
        [name, spread(own, "idle_mb", tenth), spread(own, "connection_kib", ratio)]
        for name, own in _by_contestant(runs).items()
    ]
    return table(["relay", "resident MB", "KiB for each idle connection"], rows) + _skipped(runs)


def _start(runs: list[Run]) -> str:
    measured = _by_contestant(runs)
    rows = []
    for name, own in measured.items():
        among = [spread(own, f, tenth) if f in own[0].figures else "-" for f in ("among_ms", "added_ms")]
        rows.append([name, spread(own, "wall_ms", tenth), _ratio(own, measured["python"], "wall_ms"), *among])
    return table(["program", "ms", "ms : python", "ms among 300 more distributions", "ms added"], rows)


def _crowded(runs: list[Run]) -> str:
    head = ["command", "CPU ms alone", "CPU ms among them", "CPU ms added", "wall ms added"]
    rows = [
        [
            f"`producer-pool {name}`",
            spread(own, "cpu_ms", tenth),
            spread(own, "among_cpu_ms", tenth),
            *(_added(own, unit) for unit in ("cpu_ms", "wall_ms")),
        ]
        for name, own in _by_contestant(runs).items()
    ]
    return table(head, rows)


def _added(runs: list[Run], unit: str) -> str:
    """The median of the differences within each repetition, with the smallest and the largest."""
    values = sorted(run.figures[f"among_{unit}"] - run.figures[unit] for run in runs)
    return f"{tenth(median(values))} ({tenth(values[0])}..{tenth(values[-1])})"


def _by_contestant(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.figures:
            found.setdefault(run.contestant, []).append(run)
    return found


def spread(runs: Sequence[Run], figure: str, show: Show) -> str:
    """The median of a figure, with the smallest and the largest."""
    values = sorted(run.figures[figure] for run in runs if figure in run.figures)
    middle = show(median(values))
    return middle if len(values) == 1 else f"{middle} ({show(values[0])}..{show(values[-1])})"


def within(own: Sequence[Run], base: Sequence[Run], figure: str) -> list[float]:
    """The ratios within each repetition, from the smallest to the largest."""
    bases = {run.repetition: run.figures[figure] for run in base if run.intact}
    return sorted(run.figures[figure] / bases[run.repetition] for run in own if bases.get(run.repetition))


def _ratio(own: list[Run], base: list[Run], figure: str) -> str:
    """
    The median of the ratios within each repetition.

    If the load held a relay up, its throughput is a lower bound, and so is the ratio; if that happened to the
    base, the ratio is void.
    """
    if own is base:
        return "1"
    values = within(own, base, figure)
    if not values:
        return "-"
    text = f"{ratio(median(values))} ({ratio(values[0])}..{ratio(values[-1])})"
    if figure != "per_s":
        return text
    if held_up(base):
        return f"void: {text}"
    return f">= {text}" if held_up(own) else text


def _skipped(runs: Iterable[Run]) -> str:
    return "".join(f"\nNot measured: {run.contestant}: {run.why}.\n" for run in runs if run.skipped)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
