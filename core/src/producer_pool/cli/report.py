"""What the daemon says of itself: at the start, each minute, at the end; for people and as JSON."""
# Rule: nothing here reads a clock, a socket or a pool. A Snapshot in, text or plain values out.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from producer_pool.model.stats import Health, ListenerStats, PoolStats, ProducerStats, State

__all__ = ["Snapshot", "banner", "final_lines", "in_json", "is_safe", "remained", "status_line"]

BANNER: Final = 8
"""Lines that the banner has at the most."""
_LOST: Final = ("failed", "dropped", "cancelled")
NAMED: Final = 4
"""Consumers that the status line names; of more it gives the sums."""


@dataclass(frozen=True)
class Snapshot:
    """All that the daemon knows at one moment."""

    at: float
    """Seconds since the start."""
    listeners: Sequence[tuple[str, ListenerStats]]
    """Each with its real address."""
    stats: PoolStats
    health: Mapping[str, Health]
    spool: str = ""
    """The folder where messages are stored; empty if there is none."""

    @property
    def messages(self) -> int:
        """Messages that came in."""
        return sum(stats.messages for _, stats in self.listeners)


def banner(title: str, now: Snapshot) -> list[str]:
    """Return what is said at the start: at most BANNER lines, whatever is configured."""
    width = max(map(len, ("listen", *now.health)))
    listening = [f"{'listen':{width}}  {url}" for url, _ in now.listeners]
    room = BANNER - 1
    # The consumers get what the listeners leave, but two lines at least.
    listening = _cut(listening, room - min(len(now.health), 2), "listeners")
    consumers = [f"{name:{width}}  {_consumer(health)}" for name, health in now.health.items()]
    states = Counter(health.state for health in now.health.values())
    counted = ", ".join(f"{count} {state.value}" for state, count in states.items())
    return [title, *listening, *_cut(consumers, room - len(listening), f"consumers; in all {counted}")]


def _consumer(health: Health) -> str:
    why = f": {health.last_error}" if health.state is State.DOWN and health.last_error else ""
    return f"{health.address}  ack {health.ack.label}  {health.state.value}{why}"


def _cut(lines: list[str], most: int, what: str) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more {what}"]


def status_line(now: Snapshot, before: Snapshot) -> str:
    """Return how things are, in one line."""
    seconds = max(now.at - before.at, 1e-9)
    rate = (now.messages - before.messages) / seconds
    parts = [f"in {now.messages:,} messages, {rate:,.0f}/s"]
    if len(now.health) > NAMED:
        states = Counter(health.state.value for health in now.health.values())
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        down = [name for name, health in now.health.items() if not health.ok][:NAMED]
        named = f" ({', '.join(down)}{', ...' if states['down'] > len(down) else ''})" if down else ""
        parts.append(f"{len(now.health)} consumers: {counted}{named}, {_sums(_total(now.stats))}")
    else:
        for name, health in now.health.items():
            parts.append(f"{name} {health.state.value}, {_sums(now.stats.producers[name])}")
    if now.stats.storage:
        parts.append(f"spool: {now.stats.storage}")
    return "; ".join(parts)


def _total(stats: PoolStats) -> ProducerStats:
    total = ProducerStats()
    for one in stats.producers.values():
        for name in ("accepted", "delivered", "peers", *_LOST):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def _sums(stats: ProducerStats) -> str:
    return ", ".join([f"{stats.delivered:,} delivered", *_counted(stats, "pending", *_LOST, "peers")])


def _counted(stats: ProducerStats, *names: str) -> list[str]:
    """Return those of the counters that are not 0, with their names."""
    return [f"{count:,} {name}" for name in names if (count := getattr(stats, name))]


def remained(stats: ProducerStats) -> int:
    """Return how many messages the end left undelivered."""
    return stats.cancelled + stats.pending


def is_safe(stats: ProducerStats) -> bool:
    """Whether all that the end left undelivered is stored, and goes out at the next start."""
    return remained(stats) == stats.kept


def final_lines(now: Snapshot) -> list[str]:
    """Return what is said at the end: one line for each producer."""
    lines = []
    for name, stats in now.stats.producers.items():
        words = [
            f"{stats.accepted:,} accepted",
            f"{stats.delivered:,} delivered ({now.health[name].ack.label})",
        ]
        words += [f"{count:,} {word}" for word in ("failed", "dropped") if (count := getattr(stats, word))]
        left = remained(stats)
        rest = f"{left:,} remained" if left else "nothing remained"
        if stats.kept:
            all_of_it = "" if is_safe(stats) else f"{stats.kept:,} of them "
            rest += f", {all_of_it}stored in {now.spool}"
        lines.append(f"{name}: {', '.join(words)}; {rest}")
    return lines


def in_json(event: str, now: Snapshot) -> dict[str, Any]:
    """Return a snapshot as plain values."""
    return {
        "event": event,
        "seconds": round(now.at, 3),
        "spool": _spool(now),
        "listeners": [
            {"address": url, **{name: getattr(stats, name) for name in ListenerStats.__slots__}}
            for url, stats in now.listeners
        ],
        "consumers": {
            name: {
                "address": health.address,
                "state": health.state.value,
                "ack": health.ack.label,
                **{field: getattr(now.stats.producers[name], field) for field in _COUNTERS},
                "error": str(health.last_error) if health.last_error else None,
            }
            for name, health in now.health.items()
        },
    }


def _spool(now: Snapshot) -> dict[str, Any] | None:
    if not now.spool:
        return None
    return {"folder": now.spool, "trouble": now.stats.storage, "unstored": now.stats.unstored}


_COUNTERS: Final = (
    "accepted",
    "delivered",
    "failed",
    "dropped",
    "cancelled",
    "pending",
    "pending_bytes",
    "spooled",
    "kept",
    "resent",
    "connects",
    "breaks",
    "peers",
)
