"""The rules of delivery, as frozen values with their arithmetic."""
# Rule: nothing here reads a clock or draws a random number. Callers pass both in.

from __future__ import annotations

import enum
import math
import os
from dataclasses import dataclass, field
from typing import Final

from producer_pool.model.amounts import check_numbers
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.outcomes import Ack

__all__ = [
    "BATCH_OVERHEAD",
    "DEFAULT_TIMEOUT",
    "MESSAGE_OVERHEAD",
    "DeliveryPolicy",
    "Limits",
    "Overflow",
    "Retry",
    "Role",
    "Spool",
    "checked_limits",
    "checked_policy",
    "checked_spool",
]

MiB: Final = 1024 * 1024
GiB: Final = 1024 * MiB

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that one attempt may take, connect plus reaching the level, unless ``timeout=`` says otherwise."""

BATCH_OVERHEAD: Final = 512
"""Bytes counted for each batch in every bound, on top of its payload: what it costs in memory."""

MESSAGE_OVERHEAD: Final = 48
"""Bytes counted for each further message of a batch that came as messages one by one, and not as one wire."""


class Overflow(enum.Enum):
    """What a full outbox does with one batch more."""

    REJECT = "reject"
    """The new batch is FAILED with Full."""
    BLOCK = "block"
    """The source has to wait, and so has everyone behind the same source."""
    DROP_OLDEST = "drop-oldest"
    """The oldest *waiting* batches are DROPPED until the new one fits; what is in flight stays."""
    DROP_NEWEST = "drop-newest"
    """The new batch is DROPPED."""


class Role(enum.Enum):
    """What a producer's outcomes mean for everybody else. They are counted, logged and shown in any case."""

    REQUIRED = "required"
    """Counts: for whoever acknowledges upstream, for `Results.ok`, for the exit code, for health."""
    BEST_EFFORT = "best-effort"
    """Counts for health only: it is worth repairing, and nobody's message has failed without it."""
    SHADOW = "shadow"
    """
    Counts for nothing, and nobody waits for it: to try a consumer out with real messages. It cannot make
    its source wait, and where the pool's own bound is reached, it gives way first.
    """


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Retry(Fieldwise):
    """How often, and how soon, a consumer that failed is tried again."""

    attempts: int | None = None
    """
    How many attempts a message has; None: as many as fit before its deadline.

    With 1 there is no retry at all: what was in flight when a connection broke fails, and a message
    that finds its consumer unreachable fails with that. With more, or None, an unreachable consumer uses
    up no attempt: it only takes time. A connection that breaks uses up one of the oldest message in
    flight, and of no other: those behind it wait for it, and may be sent more often than this.
    """
    backoff: float = 0.1
    """Seconds: the first reconnect waits a random time below this; each further one, below twice as much."""
    max_backoff: float = 30.0
    """Seconds: no reconnect waits longer."""
    stable: float = 10.0
    """Seconds: a connection that lasted this long makes the backoff start anew."""

    def __post_init__(self) -> None:
        check_numbers(backoff=self.backoff, max_backoff=self.max_backoff, stable=self.stable)
        attempts: object = self.attempts
        if not (attempts is None or isinstance(attempts, int)):
            raise ConfigurationError(f"attempts is a whole number, or None for no limit, not {attempts!r}")
        if self.attempts is not None and self.attempts < 1:
            raise ConfigurationError("retry-attempts must be at least 1, or unlimited")
        if not 0 < self.backoff <= self.max_backoff:
            raise ConfigurationError("retry-backoff must be above 0 and not above retry-max-backoff")
        if not self.stable >= 0:
            raise ConfigurationError("retry-stable must not be negative")

    @property
    def holds(self) -> bool:
        """Whether messages wait for a consumer that cannot be reached."""
        return self.attempts != 1

    def ceiling(self, failures: int) -> float:
        """Return the longest wait, in seconds, after this many failures in a row."""
        return min(self.max_backoff, self.backoff * 2.0 ** min(max(failures, 1) - 1, 60))

    def delay(self, failures: int, draw: float) -> float:
        """
        Return the seconds to wait before the next connect: full jitter.

        *draw* is a random number in [0, 1). Spreading over the whole range keeps many producers
        from knocking at one reviving host in the same instant.
        """
        return self.ceiling(failures) * draw


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DeliveryPolicy(Fieldwise):
    """How one producer treats its messages. Start from ``direct()`` or ``relay()``."""

    buffer: int = 64 * MiB
    """Bytes that may wait or be in flight, each batch counted with what it costs in memory: `Batch.cost`."""
    overflow: Overflow = Overflow.REJECT
    ack: Ack | None = Ack.WRITTEN
    """The level at which a message counts as delivered; None: the best of the transport below APP."""
    deadline: float | None = None
    """Seconds from acceptance to a terminal outcome; None: the client's timeout; ``math.inf``: no limit."""
    retry: Retry = field(default_factory=Retry)
    spool_quota: int = GiB
    """Bytes that may lie in the pool's spool for this producer, beyond which `overflow` applies. So one
    consumer that is away for long cannot fill the disk for the others. Without a spool it means nothing."""
    dead_letters: str | None = field(default=None, repr=False)
    """Where messages go that were given up: a folder, or the URL of a consumer for them; None: nowhere.
    A URL may hold a password: print none of it."""
    role: Role = Role.REQUIRED
    """Who cares what becomes of its messages."""

    def __post_init__(self) -> None:
        # A word would be taken for none of the rules, and messages lost without any having asked for that.
        if not isinstance(self.overflow, Overflow):
            raise ConfigurationError(
                f"overflow is an Overflow, such as Overflow.BLOCK, not {self.overflow!r}"
            )
        if not (self.ack is None or isinstance(self.ack, Ack)):
            raise ConfigurationError(f"ack is an Ack, such as Ack.KERNEL, or None, not {self.ack!r}")
        if not isinstance(self.role, Role):
            raise ConfigurationError(f"role is a Role, such as Role.SHADOW, not {self.role!r}")
        if self.role is Role.SHADOW and self.overflow is Overflow.BLOCK:
            raise ConfigurationError(
                "overflow=block would have a shadow slow its source, which role=shadow rules out; "
                "use overflow=drop-oldest or another role"
            )
        if not isinstance(self.retry, Retry):
            raise ConfigurationError(f"retry is a Retry, such as Retry(attempts=5), not {self.retry!r}")
        check_numbers(buffer=self.buffer, spool_quota=self.spool_quota)
        if self.deadline is not None:
            check_numbers(deadline=self.deadline)
        if not self.buffer >= 1:
            raise ConfigurationError("buffer must be at least 1 byte")
        if not self.spool_quota >= 1:
            raise ConfigurationError("spool-quota must be at least 1 byte")
        dead_letters: object = self.dead_letters
        if not (dead_letters is None or (isinstance(dead_letters, str) and dead_letters)):
            raise ConfigurationError("dead-letters is the path of a folder or a URL, as a text, or None")
        if self.deadline is not None and not self.deadline > 0:
            raise ConfigurationError("deadline must be above 0 seconds")

    @classmethod
    def direct(cls) -> DeliveryPolicy:
        """
        Return the library's default: one attempt, the answer comes now, nothing happens later.

        A full outbox rejects; delivered means WRITTEN; the deadline is the client's timeout.
        """
        return cls(retry=Retry(attempts=1))

    @classmethod
    def relay(cls) -> DeliveryPolicy:
        """
        Return the daemon's default: queued while the consumer is down, retried for 24 hours.

        A full outbox drops its oldest waiting batch, counted and logged; delivered means the best
        level that the transport reaches without the consumer's help beyond the protocol.
        """
        return cls(overflow=Overflow.DROP_OLDEST, ack=None, deadline=24 * 3600.0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Limits(Fieldwise):
    """The bounds of a whole pool."""

    buffer: int = 256 * MiB
    """Bytes of all batches together, each counted once however many producers hold it."""
    drain: float = 10.0
    """Seconds that closing may wait for what is queued."""
    watchdog: float = math.inf
    """Seconds for which one call may hold up all of the pool before the log says whose code it is in;
    ``math.inf``: nobody looks."""

    def __post_init__(self) -> None:
        check_numbers(buffer=self.buffer, drain=self.drain, watchdog=self.watchdog)
        if not self.buffer >= 1:
            raise ConfigurationError("the pool's buffer must be at least 1 byte")
        if not self.drain >= 0:
            raise ConfigurationError("drain must not be negative")
        if not self.watchdog > 0:
            raise ConfigurationError("watchdog must be above 0 seconds")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spool(Fieldwise):
    """Where and how a pool stores messages before it forwards them, so that they outlive the process."""

    path: str | os.PathLike[str]
    """A folder of its own, which is made if need be. One process at a time can use it."""
    sync: float = 0.0
    """
    Seconds until what was stored is safe from a power cut: 0, before it counts as stored; above 0, so
    much may be lost by one; ``math.inf``: when the operating system likes. A killed process loses
    nothing with any of them.
    """
    size: int = 4 * GiB
    """Bytes that it may take on disk, about. Beyond it, the producer with the largest backlog gives way."""
    age: float = math.inf
    """Seconds after which a stored message is given up, whoever still waits for it."""

    def __post_init__(self) -> None:
        path: object = self.path
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ConfigurationError(f"the path of a spool is that of a folder, not {path!r}")
        check_numbers(sync=self.sync, size=self.size, age=self.age)
        if not self.sync >= 0:
            raise ConfigurationError("spool-sync must not be negative")
        if not self.size >= MiB:
            raise ConfigurationError("spool-size must be at least 1MiB")
        if not self.age > 0:
            raise ConfigurationError("spool-age must be above 0 seconds")


def checked_spool(spool: object) -> Spool | None:
    """
    Return *spool* if it is one, or that of a path.

    Raises:
        ConfigurationError: it is neither; the text says what to write.
    """
    if spool is None or isinstance(spool, Spool):
        return spool
    if isinstance(spool, str | os.PathLike):
        return Spool(spool)
    raise ConfigurationError(
        f"spool is the path of a folder, or a Spool such as Spool('spool'), not {spool!r}"
    )


def checked_policy(policy: object) -> DeliveryPolicy | None:
    """
    Return *policy* if it is one, or None.

    Raises:
        ConfigurationError: it is something else, such as the name of one; the text says what to write.
    """
    if policy is None or isinstance(policy, DeliveryPolicy):
        return policy
    raise ConfigurationError(f"policy is a DeliveryPolicy, such as DeliveryPolicy.relay(), not {policy!r}")


def checked_limits(limits: object) -> Limits | None:
    """
    Return *limits* if they are that, or None.

    Raises:
        ConfigurationError: they are something else; the text says what to write.
    """
    if limits is None or isinstance(limits, Limits):
        return limits
    raise ConfigurationError(f"limits is a Limits, such as Limits(drain=10), not {limits!r}")
