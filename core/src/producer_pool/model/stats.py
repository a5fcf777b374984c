"""Counters and states: plain numbers and words, named once, explained once."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from producer_pool.model.errors import DeliveryError
from producer_pool.model.fieldwise import Fieldwise, MutableFieldwise
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import Role

__all__ = ["Health", "ListenerStats", "PoolStats", "ProducerStats", "State"]


@dataclass(slots=True, eq=False, repr=False)
class ProducerStats(MutableFieldwise):
    """
    One producer's counters since it was added, in messages unless it says bytes.

    At every moment ``accepted == delivered + failed + dropped + cancelled + pending``.
    """

    accepted: int = 0
    """All that was meant for it, including what a bound then refused."""
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    cancelled: int = 0
    resent: int = 0
    """Handed to a client once more after a connection broke; these may have arrived twice."""
    connects: int = 0
    """Connections made."""
    breaks: int = 0
    """Connections lost, and attempts to connect that failed."""
    pending_bytes: int = 0
    """Bytes that wait or are in flight, with BATCH_OVERHEAD for each batch."""
    peers: int = 0
    """Consumers connected now, for a client that serves many."""
    spooled: int = 0
    """Of those pending, the messages that lie in the spool only, and not in memory."""
    left_stored: int = 0
    """Of those cancelled, the messages that lie in the spool, and go out at the next start."""
    dead_lettered: int = 0
    """Given up, and kept among the dead letters: on disk, or delivered to where they are sent."""
    dead_letters_lost: int = 0
    """Given up, and not kept, though dead letters are: no room, or a fault of the disk or the connection."""

    @property
    def pending(self) -> int:
        """Accepted and not settled."""
        return self.accepted - self.delivered - self.failed - self.dropped - self.cancelled


@dataclass(slots=True, eq=False, repr=False)
class ListenerStats(MutableFieldwise):
    """One listener's counters since it was started."""

    connections: int = 0
    """Open now."""
    accepted: int = 0
    """Connections taken since the start."""
    refused: int = 0
    """Connections closed at once, because as many as allowed were open; datagrams of unwanted senders."""
    evicted: int = 0
    """Connections closed for breaking a rule: too large a message, malformed frames, too slow, too quiet."""
    tails: int = 0
    """Unfinished messages at the end of a stream, discarded."""
    messages: int = 0
    bytes: int = 0
    dropped: int = 0
    """
    Datagrams that were not passed on: they came while the intake was paused and nobody could be made to
    wait, they were too long, or the kernel had no room for them. Of the last it may be more: Linux counts
    as one what it joined, up to 128 datagrams that one sender sent together.
    """


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PoolStats(Fieldwise):
    """A snapshot of a whole pool."""

    producers: Mapping[str, ProducerStats] = field(default_factory=dict)
    buffered_bytes: int = 0
    """Bytes held, each batch counted once, with BATCH_OVERHEAD for each."""
    observer_errors: int = 0
    """Exceptions that observers raised; they were logged and stopped nothing."""
    unstored: int = 0
    """Messages that the spool could not take; they were forwarded from memory."""
    storage: str | None = None
    """What keeps messages from being stored just now, in words; None: nothing does, or there is no spool."""


class State(enum.Enum):
    """What a producer can say of its consumer, from the messages it sends and not from probes."""

    IDLE = "idle"
    """Not connected, because nothing asked for it yet."""
    CONNECTING = "connecting"
    """A first attempt is made."""
    UP = "up"
    """Connected, and nothing is wrong as far as its messages tell."""
    DEGRADED = "degraded"
    """
    Connected, and within the last 30 seconds a message was refused or failed, or gave way because the
    buffer was full, or the consumer had messages and confirmed none for half of its timeout.
    """
    DOWN = "down"
    """The last connection failed or broke, and none was made since; it is tried again."""
    PAUSED = "paused"
    """
    Its source has to wait, connected or not: its buffer is full and it has Overflow.BLOCK, or the spool
    can take no more. It comes to that after a second of it, and ends with five seconds without.
    """
    CLOSED = "closed"
    """It was removed, or the pool closed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Health(Fieldwise):
    """How one consumer does, and since when. Times are in seconds of the pool's monotonic clock."""

    producer_id: str
    state: State
    since: float
    last_delivery: float | None = None
    last_error: DeliveryError | None = None
    next_retry: float | None = None
    address: str = ""
    """Where it is, for people; never with a secret."""
    ack: Ack = Ack.WRITTEN
    """The level at which its messages count as delivered."""
    reason: str = ""
    """Why the state is what it is, in words; empty for a consumer that does well."""
    role: Role = Role.REQUIRED
    """Whose business it is: that of a shadow counts nowhere."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it, as far as is known."""
        return self.state in (State.IDLE, State.CONNECTING, State.UP)
