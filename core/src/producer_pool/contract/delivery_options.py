"""The options of a URL that belong to the producer, because it keeps them and not the client."""

from __future__ import annotations

import dataclasses
import enum
import math
import typing
from collections.abc import Mapping
from typing import Annotated, Final

from producer_pool.contract.options import (
    Duration,
    Option,
    Reader,
    Size,
    coerce,
    describe,
    integer,
    kebab,
    option,
    reader_for,
)
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.model.text import format_duration, parse_duration

__all__ = ["delivery_defaults", "delivery_options", "delivery_policy"]


class _AckWord(enum.Enum):
    """How the level of acknowledgement is written in a URL."""

    BEST = "best"
    WRITTEN = "written"
    KERNEL = "kernel"
    PEER = "peer"
    APP = "app"

    @property
    def ack(self) -> Ack | None:
        return None if self is _AckWord.BEST else Ack[self.name]


def _attempts(text: str) -> int:
    """Read a number of attempts; 0 stands for no limit, so that None can mean: not given."""
    if text == "unlimited":
        return 0
    if (attempts := integer(text)) > 0:
        return attempts
    raise ConfigurationError(f"{text!r} is not a number from 1 on, or unlimited")


_Attempts = Annotated[int, Reader(_attempts, str, "number|unlimited")]


def _deadline(text: str) -> float:
    if text == "unlimited":
        return math.inf
    try:
        return parse_duration(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or unlimited") from None


_Deadline = Annotated[float, Reader(_deadline, format_duration, "duration|unlimited")]


@dataclasses.dataclass(frozen=True)
class _DeliveryOptions:
    """The options that every scheme shares, because the producer keeps them and not the client."""

    buffer: Size | None = option(None, "bytes that may wait or be in flight for this producer")
    overflow: Overflow | None = option(None, "what a full buffer does with one batch more")
    ack: _AckWord | None = option(
        None, "the level at which a message counts as delivered; best: the transport's highest below app"
    )
    deadline: _Deadline | None = option(None, "from acceptance to a terminal outcome")
    retry_attempts: _Attempts | None = option(
        None, "how many connections may break at a message before it is given up"
    )
    retry_backoff: Duration | None = option(
        None, "the longest wait before the first reconnect; doubles with each failure"
    )
    retry_max_backoff: Duration | None = option(None, "the longest wait before any reconnect")
    retry_stable: Duration | None = option(
        None, "a connection that lasted this long makes the backoff start anew"
    )
    spool_quota: Size | None = option(
        None, "bytes that may lie in the spool for this producer; beyond it, overflow applies"
    )
    dead_letters: str | None = option(
        None, "where messages go that were given up: a folder, the URL of a consumer, or none"
    )
    role: Role | None = option(
        None, "required: its outcomes count for everybody; best-effort: for health only; shadow: for nothing"
    )


def delivery_options() -> list[Option]:
    """Return the delivery options as documentation prints them; their defaults are those of the policy."""
    return describe(_DeliveryOptions)


def delivery_defaults(policy: DeliveryPolicy) -> dict[str, str]:
    """Return what *policy* says of each delivery option, as a URL would say it; empty: nothing."""
    hints = typing.get_type_hints(_DeliveryOptions, include_extras=True)
    shown = {}
    for field in dataclasses.fields(_DeliveryOptions):
        owner: object = policy
        name = field.name
        if name.startswith("retry_"):
            owner, name = policy.retry, name.removeprefix("retry_")
        value = getattr(owner, name)
        if field.name == "ack":
            value = _AckWord[value.name] if value is not None else _AckWord.BEST
        if value is None:
            text = _UNSET.get(field.name, "")
        else:
            text = reader_for(hints[field.name]).show(value)
        shown[kebab(field.name)] = text
    return shown


_UNSET: Final = {"deadline": "timeout", "retry_attempts": "unlimited"}
"""What None means in a policy, where that is something."""


def delivery_policy(query: Mapping[str, str], default: DeliveryPolicy, *, where: str) -> DeliveryPolicy:
    """
    Return *default* with the delivery options of a query in their places.

    Raises:
        InvalidOption: the value of one cannot be read.
    """
    if not query:
        return default
    given = coerce(_DeliveryOptions, query, where=where)
    changes = {
        field.name: value
        for field in dataclasses.fields(given)
        if (value := getattr(given, field.name)) is not None
    }
    retry = {
        name.removeprefix("retry_"): changes.pop(name) for name in list(changes) if name.startswith("retry_")
    }
    if retry.get("attempts") == 0:
        retry["attempts"] = None
    if changes.get("dead_letters") == "none":  # A folder of that name is ./none.
        changes["dead_letters"] = None
    if "ack" in changes:
        changes["ack"] = changes["ack"].ack
    try:
        return dataclasses.replace(default, **changes, retry=dataclasses.replace(default.retry, **retry))
    except ConfigurationError as error:
        raise InvalidOption(f"{where}: {error}") from None
