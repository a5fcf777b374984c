"""What is to be reached: for each figure a floor that must be met, and a goal. All else reads this table."""

from __future__ import annotations

from dataclasses import dataclass

from bench.figures import FIGURES, Direction, ratio

__all__ = ["LOOSER", "ROWS", "Row"]

LOOSER = 1.5
"""How much looser than the floors --ci judges."""


@dataclass(frozen=True)
class Row:
    """
    A figure of *own* in a workload; with *base*, its ratio to that figure of *base* in the same repetition.

    Of several contestants in *own* the worst counts, and of several in *base* the one with the least.
    """

    workload: str
    figure: str
    base: tuple[str, ...]
    floor: float
    goal: float | None = None
    own: tuple[str, ...] = ("product",)
    setting: str = ""
    """For people: what of the product is not as it is by default."""

    @property
    def direction(self) -> Direction:
        return FIGURES[self.figure].direction

    @property
    def against(self) -> str:
        return f"slowest of {', '.join(self.base)}" if len(self.base) > 1 else "".join(self.base)

    @property
    def words(self) -> str:
        """What it is, for people."""
        said = FIGURES[self.figure].words
        against = f" ÷ {self.against}" if self.base else ""
        return f"{said}{against}{self.setting and f', {self.setting}'}"

    def text(self, value: float) -> str:
        """A value of this row, for people."""
        figure = FIGURES[self.figure]
        return ratio(value) if self.base else figure.text(value)


def _rows(workload: str, own: str, *figures: tuple[str, str, float, float], setting: str = "") -> list[Row]:
    """Rows of one contestant in one workload: figure, base, floor, goal."""
    return [
        Row(workload, name, (base,) if base else (), floor, goal, (own,), setting)
        for name, base, floor, goal in figures
    ]


# The same is to be reached with the speedups of websockets and without.
_WEBSOCKET = (
    ("per_s", "picows", 5.0, 20.0),
    ("per_s", "node-ws", 12.0, 50.0),
    ("per_s", "naive-websocket", 25.0, 100.0),
)

ROWS: tuple[Row, ...] = (
    *_rows(
        "tcp",
        "product",
        ("per_s", "nats", 2.0, 3.0),
        ("cpu_us", "nats", 0.5, 0.35),
        ("cpu_us", "C", 2.0, 1.4),
        ("per_s", "rsyslog", 5, 8),
    ),
    *_rows("tcp-1", "product", ("per_s", "nats", 1.8, 2.7)),
    *_rows("tcp-16", "product", ("per_s", "nats", 2.5, 3.3)),
    *_rows("tcp-1k", "product", ("per_s", "nats", 1.3, 1.8)),
    *_rows("many-8", "product", ("per_s", "C", 0.8, 1.0)),
    *_rows("many", "product", ("per_s", "C", 0.8, 1.2)),
    *_rows(
        "rate",
        "product",
        ("cpu_us", "C", 1.5, 1.15),
        ("latency_p50_us", "C", 1.5, 1.15),
        ("latency_p99_us", "C", 2, 1.2),
    ),
    *_rows("rate-many", "max-delay", ("cpu_us", "C", 0.6, 0.35)),
    *_rows("udp", "udp", ("per_s", "rsyslog-udp", 2, 3), ("cpu_us", "C-udp", 0.8, 0.4)),
    *_rows("udp-16", "udp", ("per_s", "rsyslog-udp", 2.5, 4), ("cpu_us", "C-udp", 0.8, 0.4)),
    *_rows("unix", "unix", ("per_s", "C-unix", 0.6, 0.85), ("per_s", "syslog-ng-unix", 30, 50)),
    *_rows("websocket", "websocket", *_WEBSOCKET),
    *_rows("websocket", "websocket-speedups", *_WEBSOCKET, setting="with speedups"),
    Row("cross", "per_s", ("to-ws", "to-udp", "to-unix", "to-tcp"), 0.5, 0.8, ("to-all",)),
    *_rows(
        "submit",
        "submit",
        ("call_us", "", 1.0, 0.6),
        ("calls_per_s", "handlers", 30, 45),
        ("calls_per_s", "zmq", 1.0, 1.8),
    ),
    *_rows("submit-2", "submit", ("call_us", "", 1.0, 0.6)),
    *_rows("submit-4", "submit", ("call_us", "", 1.0, 0.6)),
    *_rows("submit-8", "submit", ("call_us", "", 1.0, 0.6)),
    *_rows("forward", "forward", ("call_us", "sendall", 3, 1.2)),
    *_rows("await-submit", "await-submit", ("call_us", "", 0.6, 0.3)),
    Row("acks", "per_s", ("written",), 0.9),
    *_rows("spool", "spool", ("per_s", "product", 0.4, 0.65), ("per_s", "rsyslog-disk", 100, 400)),
    *_rows("stalled", "one stalled", ("finished_s", "none stalled", 1.1, 1.02), ("unaccounted", "", 0, 0)),
    *_rows("stalled-1k", "product", ("of_stalled_limit", "", 1.5, 1.2)),
    *_rows("stalled-1k-single", "product", ("of_stalled_limit", "", 1.5, 1.2)),
    *_rows("stalled-10", "product", ("of_stalled_limit", "", 1.5, 1.2)),
    *_rows("stalled-10-single", "product", ("of_stalled_limit", "", 1.5, 1.2)),
    *_rows("idle", "product", ("idle_mb", "", 28, 22), ("connection_kib", "", 8, 2)),
    *_rows("start", "product", ("wall_ms", "python", 11, 7), ("added_ms", "", 60, 5)),
    Row("consumers", "cpu_us", ("1 consumer",), 1.3, None, ("4 consumers", "16 consumers", "64 consumers")),
    Row("connections", "cpu_us", ("1 connection",), 1.3, None, ("100 connections", "1,000 connections")),
)
