"""Latencies as a picture: how long all but a few messages took at the most, the fewer the further right."""
# Rule: histograms in, SVG out. Colours can be told on white and on black; words follow the reader's scheme.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import log10
from typing import Final

from producer_pool.cli.benching.figures import Outcome
from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.tables import duration, heading

__all__ = ["chart", "drawn"]

_WIDTH: Final = 760
_HEIGHT: Final = 420
_LEFT: Final = 70
_RIGHT: Final = 24
_TOP: Final = 76
_BOTTOM: Final = 46
_NINES: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_COLOURS: Final = ("#0a84d0", "#d9541e", "#2e9e5b", "#b05fd0", "#c08a00", "#d6408a")
_DASHES: Final = ("", "6 4")
"""A solid line for the first way, a broken one for the second."""
_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 12px; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
  .ground { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .grid { stroke: #3d444d; } .ground { fill: #0d1117; }
  }
"""


def chart(outcome: Outcome) -> str:
    """Return a picture of all that was measured."""
    lines = []
    for number, sides in outcome.measured:
        for side, figures in enumerate(sides):
            way = f", {outcome.plan.ways[side].text}" if len(sides) > 1 else ""
            name = f"{outcome.plan.loads[number].name}{way}"
            lines.append((name, figures.latencies, _COLOURS[number % len(_COLOURS)], _DASHES[side]))
    return drawn(heading(outcome.plan)[0], lines)


def drawn(title: str, lines: Sequence[tuple[str, Histogram, str, str]]) -> str:
    """Return a picture with some *lines*, each with its name, colour, and dashes."""
    found = [histogram for _, histogram, _, _ in lines if histogram.total]
    low = min((histogram.percentile(0) for histogram in found), default=1000)
    high = max((histogram.longest for histogram in found), default=low)
    bottom, top = _decade(max(low, 1), up=False), _decade(max(high, 1), up=True)
    if bottom == top:
        top *= 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Latencies: {escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="24">{escape(_short(title))}</text>',
        *_grid(bottom, top),
    ]
    at = float(_LEFT)
    for name, histogram, colour, dashes in lines:
        points = " ".join(
            f"{_x(percent):.1f},{_y(value, bottom, top):.1f}" for percent, value in _points(histogram)
        )
        look = f'stroke="{colour}" stroke-dasharray="{dashes}"'
        parts.append(f'<polyline class="line" {look} points="{points}"/>')
        parts.append(f'<line class="line" {look} x1="{at:.0f}" x2="{at + 26:.0f}" y1="46" y2="46"/>')
        parts.append(_label(at + 32, 50, name, "start"))
        at += 56 + 7 * len(name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(bottom: int, top: int) -> Iterator[str]:
    """Yield lines and words for each decade of durations, and each step of percentiles."""
    value = bottom
    while value <= top:
        y = _y(value, bottom, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _label(_LEFT - 8, y + 4, duration(value), "end")
        value *= 10
    foot = _HEIGHT - _BOTTOM
    for percent in _NINES:
        x = _x(percent)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}"/>'
        label = "fastest" if not percent else f"{percent:g} %"
        yield _label(x, foot + 18, label, "middle")
    yield _label(_WIDTH - _RIGHT, foot + 36, "of messages took no longer", "end")


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="small" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _points(histogram: Histogram) -> Iterator[tuple[float, int]]:
    total, seen = max(histogram.total, 1), 0
    for end, count in histogram:
        yield min(100.0 * seen / total, _NINES[-1]), end
        seen += count
        if 100.0 * seen / total >= _NINES[-1]:
            yield _NINES[-1], end
            return


def _x(percent: float) -> float:
    """Each step to the next nine is as wide as the one before."""
    part = -log10(1 - percent / 100) / -log10(1 - _NINES[-1] / 100)
    return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)


def _y(value: int, bottom: int, top: int) -> float:
    part = log10(max(value, 1) / bottom) / log10(top / bottom)
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _decade(value: int, *, up: bool) -> int:
    decade = 10 ** (len(str(value)) - 1)
    return decade * 10 if up and value > decade else int(decade)


def _short(title: str) -> str:
    return title if len(title) <= 96 else f"{title[:93]}..."
