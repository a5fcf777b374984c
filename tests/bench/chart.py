"""A bar chart of what relays forward, as SVG: a panel for each protocol, with a scale of its own."""
# Rule: nothing here measures or reads a file. Runs in, text out.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from bench.figures import count
from bench.runs import Run
from bench.workloads import WORKLOADS

__all__ = ["PANELS", "Bar", "Panel", "called", "chart", "panels"]

PANELS = ("tcp", "tcp-1k", "many", "unix", "udp", "websocket")
"""The workloads that are drawn."""
NAMES = {
    "unix/product": "Producer Pool over tcp",
    "product": "Producer Pool",
    "unix": "Producer Pool",
    "udp": "Producer Pool",
    "websocket": "Producer Pool",
    "websocket-speedups": "Producer Pool, with speedups",
    "naive": "asyncio streams",
    "naive-udp": "asyncio datagrams",
    "naive-websocket": "websockets",
    "node-ws": "ws for node",
    "nats": "nats-server",
    "rsyslog-udp": "rsyslog",
    "syslog-ng-unix": "syslog-ng",
    "C": "C loop",
    "C-unix": "C loop",
    "C-udp": "C loop, sendmmsg",
    "C-websocket": "C loop",
}
"""What contestants are called for readers, where that is not their name; some only in one workload."""

WIDTH, NAME, VALUE, LINE, GAP = 760, 190, 190, 22, 46
OURS = "Producer Pool"
STYLE = """
    svg { font: 13px system-ui, sans-serif; }
    .paper { fill: #ffffff; } text { fill: #24292f; } .small { fill: #57606a; font-size: 12px; }
    .title { font-weight: 600; } .ours { fill: #2f5fb3; } .theirs { fill: #a8b3bf; }
    .spread { stroke: #24292f; stroke-width: 1.2; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #161b22; } text { fill: #e6edf3; } .small { fill: #9da7b1; }
      .ours { fill: #6ea0ff; } .theirs { fill: #5b6570; } .spread { stroke: #e6edf3; }
    }
"""


@dataclass(frozen=True)
class Bar:
    """One relay: the median of its repetitions, and the smallest and the largest."""

    name: str
    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{count(self.value)} ({count(self.low)} to {count(self.high)})"


@dataclass(frozen=True)
class Panel:
    """Bars with one scale."""

    title: str
    bars: Sequence[Bar]


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Return a panel for each drawn workload that was measured, the fastest relay first."""
    found = []
    for workload in PANELS:
        rates: dict[str, list[float]] = {}
        for run in runs:
            if run.workload == workload and run.intact and run.detail.get("compiled") is None:
                rates.setdefault(called(run), []).extend(_rate(run.figures))
        bars = [
            Bar(name, median(values), min(values), max(values)) for name, values in rates.items() if values
        ]
        if bars:
            bars.sort(key=lambda bar: -bar.value)
            found.append(Panel(WORKLOADS[workload].title, bars))
    return found


def called(run: Run) -> str:
    """Return what readers know the contestant of *run* by."""
    known = NAMES.get(run.contestant, run.contestant)
    return NAMES.get(f"{run.workload}/{run.contestant}", known)


def _rate(figures: Mapping[str, float]) -> list[float]:
    return [figures["per_s"]] if "per_s" in figures else []


def chart(shown: Sequence[Panel], title: str) -> str:
    """Draw the panels below one another. All that is drawn can be read as text, too."""
    height = 44 + sum(GAP + LINE * len(panel.bars) for panel in shown)
    told = "; ".join(
        f"{panel.title}: {', '.join(f'{bar.name} {bar.text}' for bar in panel.bars)}" for panel in shown
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-labelledby="title told">',
        f'  <title id="title">{escape(title)}</title>',
        f'  <desc id="told">{escape(told)}</desc>',
        f"  <style>{STYLE}  </style>",
        f'  <rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'  <text class="title" x="16" y="28">{escape(title)}</text>',
    ]
    top = 44
    for panel in shown:
        lines += _panel(panel, top)
        top += GAP + LINE * len(panel.bars)
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    scale = (WIDTH - NAME - VALUE) / max(bar.high for bar in panel.bars)
    lines = [f'  <text class="small" x="16" y="{top + 24}">{escape(panel.title)}</text>']
    for number, bar in enumerate(panel.bars):
        y = top + 34 + LINE * number
        kind = "ours" if bar.name.startswith(OURS) else "theirs"
        weight = ' class="title"' if bar.name == OURS else ""
        low, high = NAME + bar.low * scale, NAME + bar.high * scale
        lines += [
            f'  <text{weight} x="{NAME - 8}" y="{y + 13}" text-anchor="end">{escape(bar.name)}</text>',
            f'  <rect class="{kind}" x="{NAME}" y="{y}" width="{bar.value * scale + 1:.1f}" height="16"/>',
            f'  <path class="spread" d="M{low:.1f} {y + 8}H{high:.1f}"/>',
            f'  <text x="{high + 8:.1f}" y="{y + 13}">{escape(bar.text)}</text>',
        ]
    return lines
