"""One sentence that every transport keeps, under a name; what it needs to be asked; how it can end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from producer_pool.model.outcomes import Ack

if TYPE_CHECKING:
    from producer_pool.testing.subject import Subject
    from producer_pool.testing.trial import Trial

__all__ = [
    "CLIENT",
    "CONFIRMING",
    "CONSUMER",
    "INSTALLED",
    "LISTENER",
    "OPTIONS",
    "ORDERED",
    "Need",
    "NotApplicable",
    "Rule",
    "RuleBroken",
    "not_applicable",
    "require",
    "rule",
]


class RuleBroken(AssertionError):
    """What a transport did that it must not do."""


class NotApplicable(Exception):
    """Why a rule has nothing to say about a transport."""


def require(condition: object, text: str) -> None:
    """
    Go on if *condition* holds. *text* says what the transport did, for whoever has to mend it.

    Raises:
        RuleBroken: it does not hold. Unlike an assert, python -O does not take this away.
    """
    if not condition:
        raise RuleBroken(text)


def not_applicable(reason: str) -> NoReturn:
    """Leave a rule out for this transport; *reason* stands in the report."""
    raise NotApplicable(reason)


@dataclass(frozen=True)
class Need:
    """Something without which a rule has nothing to ask."""

    there: Callable[[Subject], object]
    lacking: str
    """What the report says of a transport that does not have it."""


CLIENT: Final = Need(lambda subject: subject.transport.client, "has no client: it only listens")
LISTENER: Final = Need(lambda subject: subject.transport.listener, "has no listener: it only sends")
CONSUMER: Final = Need(
    lambda subject: subject.transport.client and subject.sees_arrivals,
    "shows nobody what arrives: it has no listener, and the suite was given no consumer",
)
ORDERED: Final = Need(lambda subject: subject.transport.ordered, "does not declare to keep order")
CONFIRMING: Final = Need(
    lambda subject: max(subject.transport.acks) > Ack.WRITTEN,
    "declares no level of acknowledgement above written",
)
OPTIONS: Final = Need(
    lambda subject: subject.transport.options or subject.transport.listener_options, "has no options"
)
INSTALLED: Final = Need(
    lambda subject: subject.provided.version, "is a file or an object, and not an installed distribution"
)


@dataclass(frozen=True)
class Rule:
    """One rule of the suite."""

    name: str
    family: str
    """The module that holds it: ``lifecycle``."""
    sentence: str
    """What a transport that keeps it does."""
    explanation: str
    """Why that matters, and how to mend what breaks it."""
    needs: tuple[Need, ...]
    check: Callable[[Trial], Coroutine[Any, Any, None]]

    def lacking(self, subject: Subject) -> str:
        """Say what *subject* lacks for this rule to be asked; empty: nothing."""
        return next((need.lacking for need in self.needs if not need.there(subject)), "")


def rule(*needs: Need) -> Callable[[Callable[[Trial], Coroutine[Any, Any, None]]], Rule]:
    """
    Make a rule out of a coroutine function: its name is that of the function, its text the docstring.

    The first paragraph says what a transport does that keeps the rule; the rest why, and how to mend it.
    """

    def made(check: Callable[[Trial], Coroutine[Any, Any, None]]) -> Rule:
        name = check.__name__.replace("_", "-")
        family = check.__module__.rpartition(".")[2]
        sentence, _, explanation = inspect.cleandoc(check.__doc__ or "").partition("\n\n")
        return Rule(name, family, " ".join(sentence.split()), explanation, needs, check)

    return made
