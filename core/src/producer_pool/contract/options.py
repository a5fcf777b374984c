"""From a URL's query to a frozen dataclass: types, units, secrets and suggestions, alike for every plugin."""

# ruff: noqa: RUF009 - option() makes a field of a dataclass, as field() does.

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast

from producer_pool.model.endpoint import is_secret_option
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.framing import Framing, framing_named
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Overflow
from producer_pool.model.text import format_duration, format_size, parse_duration, parse_size, suggestion

__all__ = [
    "DELIVERY_OPTIONS",
    "Duration",
    "Option",
    "Size",
    "coerce",
    "delivery_policy",
    "describe",
    "option",
]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Unit:
    """How a number with a unit is read and shown."""

    read: Callable[[str], float]
    show: Callable[[Any], str]
    name: str


Duration = Annotated[float, _Unit(parse_duration, format_duration, "duration")]
"""A float of seconds in the dataclass; ``500ms``, ``10s`` or ``24h`` in a URL."""

Size = Annotated[int, _Unit(parse_size, format_size, "size")]
"""An int of bytes in the dataclass; ``4096``, ``64KiB`` or ``64MiB`` in a URL."""


def option(default: T, help: str, *, secret: bool = False) -> T:
    """
    Declare a field of an options dataclass with the sentence that its documentation shows.

    *secret* hides its value wherever the URL is shown; names that speak of passwords, tokens or
    secrets are hidden anyway.
    """
    metadata = {"help": help, "secret": secret}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option as documentation and ``plugins show`` print it."""

    name: str
    type: str
    default: str
    help: str
    secret: bool


def describe(options: type) -> list[Option]:
    """Return the options of a dataclass in their order."""
    hints = typing.get_type_hints(options, include_extras=True)
    described = []
    for field in dataclasses.fields(options):
        name = _kebab(field.name)
        reader = _reader(hints[field.name])
        secret = bool(field.metadata.get("secret")) or is_secret_option(name)
        default = "" if field.default in (None, dataclasses.MISSING) else reader.show(field.default)
        described.append(Option(name, reader.name, default, field.metadata.get("help", ""), secret))
    return described


def coerce(options: type[T], query: Mapping[str, str], *, where: str) -> T:
    """
    Make an instance of the dataclass *options* from a query; *where* says in errors what it belongs to.

    Fields are written in kebab-case: ``max_message`` is ``max-message=``. Types that are known: str,
    int, float, bool (yes, no), Duration, Size, Path, Framing, an Enum (by value), tuple[str, ...]
    (separated by commas), and any of them or None.

    Raises:
        InvalidOption: one is unknown (names the nearest), or its value cannot be read.
    """
    hints = typing.get_type_hints(options, include_extras=True)
    fields = {_kebab(field.name): field for field in dataclasses.fields(cast("Any", options))}
    values = {}
    for name, text in query.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidOption(f"{where} has no option {name}; known: {known}{suggestion(name, fields)}")
        try:
            values[fields[name].name] = _reader(hints[fields[name].name]).read(text)
        except (ConfigurationError, ValueError) as error:
            secret = is_secret_option(name) or fields[name].metadata.get("secret")
            shown = "its value cannot be read, and is not shown" if secret else f"{error}"
            raise InvalidOption(f"{where}: option {name}: {shown}") from None
    try:
        return options(**values)
    except ConfigurationError as error:
        raise InvalidOption(f"{where}: {error}") from None


# -- reading one value -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Reader:
    read: Callable[[str], Any]
    show: Callable[[Any], str]
    name: str


def _reader(hint: Any) -> _Reader:
    """Return how values of this type hint are read and shown."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Annotated:
        unit = next(part for part in typing.get_args(hint) if isinstance(part, _Unit))
        return _Reader(unit.read, unit.show, unit.name)
    if typing.get_origin(hint) is tuple:
        return _Reader(lambda text: tuple(text.split(",")), ",".join, "names, separated by commas")
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        words = {str(member.value): member for member in hint}
        return _Reader(lambda text: _word(text, words), lambda member: str(member.value), "|".join(words))
    try:
        return _SIMPLE[hint]
    except KeyError:
        raise TypeError(f"options of type {hint} are not known; see producer_pool.plugin.coerce") from None


def _word(text: str, words: Mapping[str, T]) -> T:
    try:
        return words[text]
    except KeyError:
        raise ConfigurationError(f"{text!r} is none of {', '.join(words)}{suggestion(text, words)}") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a whole number") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a number") from None


_YES_NO: Final = {
    "yes": True,
    "no": False,
    "true": True,
    "false": False,
    "1": True,
    "0": False,
    "on": True,
    "off": False,
}

_SIMPLE: Final[Mapping[Any, _Reader]] = {
    str: _Reader(str, str, "text"),
    int: _Reader(_integer, str, "number"),
    float: _Reader(_float, str, "number"),
    bool: _Reader(lambda text: _word(text, _YES_NO), lambda value: "yes" if value else "no", "yes|no"),
    Path: _Reader(Path, str, "file"),
    Framing: _Reader(framing_named, lambda framing: str(framing.name), "framing"),
}


def _kebab(name: str) -> str:
    return name.replace("_", "-")


# -- the options that belong to the producer -------------------------------------------------------


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


@dataclasses.dataclass(frozen=True)
class _DeliveryOptions:
    """The options that every scheme shares, because the producer keeps them and not the client."""

    buffer: Size | None = option(None, "bytes that may wait or be in flight for this producer")
    overflow: Overflow | None = option(None, "what a full buffer does with one batch more")
    ack: _AckWord | None = option(
        None, "the level at which a message counts as delivered; best: the transport's highest below app"
    )
    deadline: Duration | None = option(None, "from acceptance to a terminal outcome")
    retry_attempts: int | None = option(None, "how often a message is handed to the client at the most")
    retry_backoff: Duration | None = option(
        None, "the longest wait before the first reconnect; doubles with each failure"
    )
    retry_max_backoff: Duration | None = option(None, "the longest wait before any reconnect")
    retry_stable: Duration | None = option(
        None, "a connection that lasted this long makes the backoff start anew"
    )


DELIVERY_OPTIONS: Final = tuple(describe(_DeliveryOptions))
"""The delivery options as documentation prints them; their defaults are those of the policy."""


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
    if "ack" in changes:
        changes["ack"] = changes["ack"].ack
    try:
        return dataclasses.replace(default, **changes, retry=dataclasses.replace(default.retry, **retry))
    except ConfigurationError as error:
        raise InvalidOption(f"{where}: {error}") from None
