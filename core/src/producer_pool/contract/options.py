"""From a URL's query to a frozen dataclass: types, units, secrets and suggestions, alike for every plugin."""

from __future__ import annotations

import dataclasses
import enum
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeVar, cast

from producer_pool.model.endpoint import is_secret_option
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.framing import FRAMINGS, Framing, framing_named
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.model.text import format_duration, format_size, parse_duration, parse_size, suggestion

__all__ = [
    "DELIVERY_NAMES",
    "Duration",
    "Option",
    "Size",
    "coerce",
    "delivery_defaults",
    "delivery_options",
    "delivery_policy",
    "describe",
    "names",
    "option",
    "secret_names",
]

T = TypeVar("T")


def option(default: T, help: str, *, secret: bool = False) -> T:
    """
    Declare a field of an options dataclass with the sentence that its documentation shows.

    *secret* hides its value wherever the URL is shown; names that speak of passwords, tokens or
    secrets are hidden anyway.
    """
    metadata = {"help": help, "secret": secret}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


class Option(NamedTuple):
    """One option as documentation and ``plugins show`` print it."""

    name: str
    type: str
    default: str
    """As it would be written; empty: there is none."""
    help: str
    secret: bool


def names(options: type) -> list[str]:
    """Return the names of the options of a dataclass in their order, as they are written."""
    return [_kebab(field.name) for field in dataclasses.fields(options)]


def secret_names(options: type) -> list[str]:
    """Return the names of those that are hidden wherever the URL is shown."""
    return [_kebab(field.name) for field in dataclasses.fields(options) if _is_secret(field)]


def describe(options: type) -> list[Option]:
    """Return the options of a dataclass in their order."""
    hints = typing.get_type_hints(options, include_extras=True)
    described = []
    for field in dataclasses.fields(options):
        name = _kebab(field.name)
        reader = _reader(hints[field.name])
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "" if default in (None, "", dataclasses.MISSING) else reader.show(default)
        if shown and _is_secret(field):
            shown = "***"
        described.append(Option(name, reader.name, shown, field.metadata.get("help", ""), _is_secret(field)))
    return described


def coerce(options: type[T], query: Mapping[str, str], *, where: str) -> T:
    """
    Make an instance of the dataclass *options* from a query; *where* says in errors what it belongs to.

    Fields are written in kebab-case: ``max_message`` is ``max-message=``. Types that are known: str,
    int, float, bool (yes, no), Duration, Size, Path, Framing, an Enum (by value), tuple[T, ...] of any
    of them (separated by commas), and any of them or None. A field without a default is needed.
    ``__post_init__`` may refuse values with a ValueError; no error shows the value of a secret option.

    Raises:
        InvalidOption: one is unknown (names the nearest), missing, or its value cannot be used.
    """
    hints = typing.get_type_hints(options, include_extras=True)
    fields = {_kebab(field.name): field for field in dataclasses.fields(cast("Any", options))}
    values = {}
    for name, text in query.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidOption(f"{where} has no option {name}; known: {known}{suggestion(name, fields)}")
        field = fields[name]
        reader = _reader(hints[field.name])
        try:
            values[field.name] = reader.read(text)
            continue
        except ValueError as error:
            fault = str(error)
        if _is_secret(field):
            fault = f"its value, which is not shown, is not of the form {reader.name}"
        # Not in the handler: the error there holds the value, and would hang on this one as its context.
        raise InvalidOption(f"{where}: option {name}: {fault}")
    for name, field in fields.items():
        optional = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        if not optional and field.name not in values:
            raise InvalidOption(f"{where} needs the option {name}")
    try:
        return options(**values)
    except ValueError as error:
        fault = str(error)
    for name, text in query.items():
        if _is_secret(fields[name]) and text:
            fault = fault.replace(repr(text)[1:-1], "***").replace(text, "***")
    raise InvalidOption(f"{where}: {fault}")


def _is_secret(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("secret")) or is_secret_option(_kebab(field.name))


# -- reading one value -----------------------------------------------------------------------------


class _Reader(NamedTuple):
    """How values of one type are read, shown, and called."""

    read: Callable[[str], Any]
    """Raises ValueError, of which ConfigurationError is one."""
    show: Callable[[Any], str]
    name: str


def _reader(hint: Any) -> _Reader:
    """Return how values of this type hint are read and shown."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in arguments if part is not type(None)]
        if len(parts) == 1:
            return _reader(parts[0])
    elif typing.get_origin(hint) is Annotated:
        for part in arguments:
            if isinstance(part, _Reader):
                return part
    elif typing.get_origin(hint) is tuple and arguments[1:] == (...,):
        one = _reader(arguments[0])
        return _Reader(
            lambda text: tuple([one.read(part) for part in text.split(",")]) if text else (),
            lambda values: ",".join([one.show(value) for value in values]),
            f"{one.name}[,{one.name}...]",
        )
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        words = {str(member.value): member for member in hint}
        return _Reader(lambda text: _word(text, words), lambda member: str(member.value), "|".join(words))
    elif isinstance(hint, type) and issubclass(hint, os.PathLike):
        # Path: imported by whoever asks for it, and by nobody else.
        path: Callable[[str], os.PathLike[str]] = hint
        return _Reader(lambda text: path(_path(text)), str, "file")
    elif hint in _SIMPLE:
        return _SIMPLE[hint]
    raise TypeError(f"options of type {hint} are not known; see producer_pool.plugin.option")


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
        number = float(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise ConfigurationError(f"{text!r} is not a number")
    return number


def _path(text: str) -> str:
    if "\0" in text:
        # Whoever opens it would raise a ValueError, and look like a plugin with a defect.
        raise ConfigurationError(f"{text!r} is no file: a path holds no zero byte (%00)")
    return text


_YES_NO: Final = {
    "yes": True, "no": False, "true": True, "false": False, "on": True, "off": False, "1": True, "0": False,
}  # fmt: skip

_SIMPLE: Final[Mapping[Any, _Reader]] = {
    str: _Reader(str, str, "text"),
    int: _Reader(_integer, str, "number"),
    float: _Reader(_float, str, "number"),
    bool: _Reader(lambda text: _word(text.lower(), _YES_NO), lambda yes: "yes" if yes else "no", "yes|no"),
    Framing: _Reader(
        framing_named,
        lambda framing: str(framing.name),
        "|".join(framing.name for framing in FRAMINGS),
    ),
}

Duration = Annotated[float, _Reader(parse_duration, format_duration, "duration")]
"""A float of seconds in the dataclass; ``500ms``, ``10s`` or ``24h`` in a URL."""

Size = Annotated[int, _Reader(parse_size, format_size, "size")]
"""An int of bytes in the dataclass; ``4096``, ``64KiB`` or ``64MiB`` in a URL."""


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


def _attempts(text: str) -> int:
    """Read a number of attempts; 0 stands for no limit, so that None can mean: not given."""
    if text == "unlimited":
        return 0
    if (attempts := _integer(text)) > 0:
        return attempts
    raise ConfigurationError(f"{text!r} is not a number from 1 on, or unlimited")


_Attempts = Annotated[int, _Reader(_attempts, str, "number|unlimited")]


def _deadline(text: str) -> float:
    if text == "unlimited":
        return math.inf
    try:
        return parse_duration(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or unlimited") from None


_Deadline = Annotated[float, _Reader(_deadline, format_duration, "duration|unlimited")]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _DeliveryOptions(Fieldwise):
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


DELIVERY_NAMES: Final = frozenset(names(_DeliveryOptions))
"""What the delivery options are called."""


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
            text = _reader(hints[field.name]).show(value)
        shown[_kebab(field.name)] = text
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
