"""What happened to a message, per consumer, and how far it got."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from producer_pool.model.errors import ConfigurationError, DeliveryError
from producer_pool.model.fieldwise import Fieldwise

__all__ = ["Ack", "ForwardResult", "Outcome", "Results", "resolve_ack"]


class Ack(enum.IntEnum):
    """
    How far a message got: a ladder, each rung includes the ones below.

    None of them says that the consumer has *handled* the message, except APP, and none says that
    it is stored: durability is another axis.
    """

    WRITTEN = 1
    """Our kernel took every byte. A broken connection or a killed peer may still lose it."""
    KERNEL = 2
    """The next hop's TCP acknowledged it; on unix sockets, the peer process read it. **The next hop
    may be a proxy**, and a peer that dies loses what it had not read yet."""
    PEER = 3
    """The peer's protocol layer answered, for example by a websocket pong."""
    APP = 4
    """The application answered: a 2xx, a broker's acknowledgement, an acknowledging consumer."""

    @property
    def label(self) -> str:
        """Its name in URLs, tables and logs."""
        return self.name.lower()

    def __str__(self) -> str:
        return self.label


def resolve_ack(asked: Ack | None, offered: Iterable[Ack]) -> Ack:
    """
    Return the level of those *offered* that meets what is *asked*: the lowest that is at least as high.

    None asks for the best that comes without the application's help: the highest below APP. What
    needs that help is chosen only if it is asked for by name, or where there is nothing else.

    Raises:
        ConfigurationError: *asked* is more than any of them. Nothing is downgraded silently.
    """
    levels = sorted(offered)
    if not levels:
        raise ConfigurationError("no level of acknowledgement is offered")
    alone = [level for level in levels if level < Ack.APP]
    if asked is None:
        return max(alone, default=Ack.APP)
    # A consumer that does not cooperate never answers: who asked for less would wait for ever.
    for level in alone if alone and asked < Ack.APP else levels:
        if level >= asked:
            return level
    reached = ", ".join(level.label for level in levels)
    raise ConfigurationError(
        f"ack={asked.label} cannot be reached here, only {reached}; use ack=best or less"
    )


class Outcome(enum.Enum):
    """What became of one message at one producer. All but PENDING are terminal."""

    PENDING = "pending"
    """Accepted, and not settled yet."""
    DELIVERED = "delivered"
    """It reached the level of acknowledgement that its producer asks for."""
    FAILED = "failed"
    """It was given up; the result's error says why, and whether it may have arrived."""
    DROPPED = "dropped"
    """A rule removed it: an overflow policy, or a stage."""
    CANCELLED = "cancelled"
    """The producer was removed, or the pool closed, before it was delivered."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ForwardResult(Fieldwise):
    """What happened to one message at one producer."""

    producer_id: str
    outcome: Outcome
    ack: Ack | None = None
    """The level that was reached; None unless delivered."""
    error: DeliveryError | None = None
    """Why it was not delivered; None if it was, or while it is pending."""
    attempts: int = 0
    """How often it was handed to a client. More than one: it may have arrived more than once."""
    dead_lettered: bool = False
    """Whether it was put among the dead letters of its producer. Not any more if those could not be kept."""

    @property
    def ok(self) -> bool:
        """Whether it was delivered."""
        return self.outcome is Outcome.DELIVERED

    def check(self) -> ForwardResult:
        """
        Return this result if the message was delivered.

        Raises:
            DeliveryError: it was not, or not yet.
        """
        if self.ok:
            return self
        # Many results share one error: each raise would make its traceback longer.
        raise self._error().with_traceback(None)

    def _error(self) -> DeliveryError:
        if self.error is not None:
            return self.error
        hint = "; wait longer, or ask the receipt again" if self.outcome is Outcome.PENDING else ""
        return DeliveryError(f"{self.producer_id}: {self.outcome.value}{hint}")


class Results(Mapping[str, ForwardResult]):
    """
    One message's results by producer id, in the order in which the producers were added.

    It holds those of all producers. `ok`, `failed` and check() look at the required ones only: a
    message that a best-effort producer or a shadow did not deliver has not failed.
    """

    __slots__ = ("_by_id", "_ok", "_optional")

    def __init__(self, by_id: Mapping[str, ForwardResult], optional: Collection[str] = ()) -> None:
        """*optional* names the producers that are not required."""
        self._by_id: Final = by_id
        self._optional: Final = optional
        self._ok: bool | None = None
        """What `ok` found, when it was first asked for: many messages may share these."""

    def __getitem__(self, producer_id: str) -> ForwardResult:
        """Return the result of this producer; KeyError names the producers that the message went to."""
        try:
            return self._by_id[producer_id]
        except KeyError:
            known = ", ".join(self._by_id) or "none"
            raise KeyError(f"the message did not go to {producer_id!r}, only to: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {result.outcome.value}" for name, result in self._by_id.items())
        return f"<Results {inside or 'empty'}>"

    @property
    def ok(self) -> bool:
        """
        Whether every required producer delivered it. True if there are none.

        A pool without producers gives empty ones; ``if results and results.ok`` asks for one at least.
        """
        ok = self._ok
        if ok is None:
            self._ok = ok = self._is_ok()
        return ok

    def _is_ok(self) -> bool:
        for name, result in self._by_id.items():
            if result.outcome is not Outcome.DELIVERED and name not in self._optional:
                return False
        return True

    @property
    def failed(self) -> dict[str, ForwardResult]:
        """The required producers' results that are not DELIVERED: failed, dropped, cancelled, pending."""
        optional = self._optional
        return {
            name: result for name, result in self._by_id.items() if not result.ok and name not in optional
        }

    def check(self) -> Results:
        """
        Return these results if every required producer delivered the message.

        Raises:
            ExceptionGroup: of one DeliveryError for each required producer that did not.
        """
        errors = [result._error() for result in self.failed.values()]
        if errors:
            required = sum(name not in self._optional for name in self)
            raise ExceptionGroup(f"not delivered to {len(errors)} of {required} producers", errors)
        return self
