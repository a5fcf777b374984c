"""What the daemon says of itself: at the start, each minute, at the end; for people and as JSON."""
# Rule: nothing here reads a clock, a socket or a pool. A Snapshot in, text or plain values out.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from producer_pool.model.policies import Role
from producer_pool.model.stats import Health, ListenerStats, PoolStats, ProducerStats, State
from producer_pool.model.text import format_count

__all__ = ["Snapshot", "banner", "ended_well", "final_lines", "in_json", "is_safe", "remained", "status_line"]

BANNER: Final = 8
"""Lines that the banner has at the most."""
_LOST: Final = ("failed", "dropped", "cancelled")
_LETTERS: Final = {"dead_lettered": "kept as dead letters", "dead_letters_lost": "dead letters lost"}
"""Of what was lost: what a line for people calls these."""
NAMED: Final = 4
"""Consumers that the status line names; of more it gives the sums."""


class Snapshot(NamedTuple):
    """All that the daemon knows at one moment."""

    at: float
    """Seconds since the start."""
    listeners: Sequence[tuple[str, ListenerStats]]
    """Each with its real address."""
    stats: PoolStats
    health: Mapping[str, Health]
    spool: str = ""
    """The folder where messages are stored; empty if there is none."""
    clock: float = 0.0
    """The time by the clock that health is told in."""

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
    role = "" if health.role is Role.REQUIRED else f"  {health.role.value}"
    why = f": {health.reason}" if health.reason else ""
    return f"{health.address}  ack {health.ack.label}{role}  {health.state.value}{why}"


def _with_role(name: str, role: Role) -> str:
    return name if role is Role.REQUIRED else f"{name} ({role.value})"


def _cut(lines: list[str], most: int, what: str) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more {what}"]


def status_line(now: Snapshot, before: Snapshot) -> str:
    """Return how things are, in one line."""
    seconds = max(now.at - before.at, 1e-9)
    rate = (now.messages - before.messages) / seconds
    parts = [f"in {format_count(now.messages, 'message')}, {rate:,.0f}/s"]
    if len(now.health) > NAMED:
        counting = {name: one for name, one in now.health.items() if one.role is not Role.SHADOW}
        states = Counter(health.state.value for health in counting.values())
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        ill = [name for name, health in counting.items() if not health.ok]
        more = ", ..." if len(ill) > NAMED else ""
        named = f" ({', '.join(ill[:NAMED])}{more})" if ill else ""
        shadows = len(now.health) - len(counting)
        aside = f", {format_count(shadows, 'shadow')}" if shadows else ""
        parts.append(f"{len(now.health)} consumers: {counted}{named}{aside}, {_sums(_total(now.stats))}")
    else:
        for name, health in now.health.items():
            # A consumer that is down has had its line, with each attempt.
            told = f" ({health.reason})" if health.state in (State.DEGRADED, State.PAUSED) else ""
            which = f"{_with_role(name, health.role)} {health.state.value}{told}"
            parts.append(f"{which}, {_sums(now.stats.producers[name])}")
    if now.stats.storage:
        parts.append(f"spool: {now.stats.storage}")
    return "; ".join(parts)


def _total(stats: PoolStats) -> ProducerStats:
    total = ProducerStats()
    for one in stats.producers.values():
        for name in ("accepted", "delivered", "peers", *_LOST, *_LETTERS):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def _sums(stats: ProducerStats) -> str:
    counted = _counted(stats, "pending", *_LOST, *_LETTERS, "peers")
    return ", ".join([f"{stats.delivered:,} delivered", *counted])


def _counted(stats: ProducerStats, *names: str) -> list[str]:
    """Return those of the counters that are not 0, with their names."""
    return [f"{count:,} {_LETTERS.get(name, name)}" for name in names if (count := getattr(stats, name))]


def remained(stats: ProducerStats) -> int:
    """Return how many messages the end left undelivered."""
    return stats.cancelled + stats.pending


def is_safe(stats: ProducerStats) -> bool:
    """Whether all that the end left undelivered is stored, and goes out at the next start."""
    return remained(stats) == stats.left_stored


def ended_well(now: Snapshot) -> bool:
    """Whether nothing remained of what was for required producers, but what is stored."""
    return all(
        is_safe(stats)
        for name, stats in now.stats.producers.items()
        if name not in now.health or now.health[name].role is Role.REQUIRED
    )


def final_lines(now: Snapshot) -> list[str]:
    """Return what is said at the end: one line for each producer."""
    lines = []
    for name, stats in now.stats.producers.items():
        words = [
            f"{stats.accepted:,} accepted",
            f"{stats.delivered:,} delivered ({now.health[name].ack.label})",
        ]
        words += _counted(stats, "failed", "dropped", *_LETTERS)
        left = remained(stats)
        rest = f"{left:,} remained" if left else "nothing remained"
        if stats.left_stored:
            all_of_it = "" if is_safe(stats) else f"{stats.left_stored:,} of them "
            rest += f", {all_of_it}stored in {now.spool}"
        lines.append(f"{_with_role(name, now.health[name].role)}: {', '.join(words)}; {rest}")
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
                "reason": health.reason or None,
                "role": health.role.value,
                "ack": health.ack.label,
                "seconds_in_state": round(now.clock - health.since, 3),
                "seconds_since_delivery": _seconds(now.clock, health.last_delivery),
                "seconds_to_retry": _seconds(health.next_retry, now.clock),
                **{field: getattr(now.stats.producers[name], field) for field in _COUNTERS},
                "error": str(health.last_error) if health.last_error else None,
            }
            for name, health in now.health.items()
        },
    }


def _seconds(later: float | None, earlier: float | None) -> float | None:
    """Return how much later it is; 0 for what is due, None where there is one time only."""
    if later is None or earlier is None:
        return None
    return round(max(later - earlier, 0.0), 3)


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
    "left_stored",
    "resent",
    "connects",
    "breaks",
    "peers",
    "dead_lettered",
    "dead_letters_lost",
)
