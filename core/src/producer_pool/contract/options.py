"""From a URL's query to a frozen dataclass: types, units, secrets and suggestions, alike for every plugin."""

from __future__ import annotations

import dataclasses
import enum
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeVar, cast

from producer_pool.model.endpoint import is_secret_option
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.framing import FRAMINGS, Framing, framing_named
from producer_pool.model.text import format_duration, format_size, parse_duration, parse_size, suggestion

__all__ = [
    "DELIVERY_NAMES",
    "Duration",
    "Option",
    "Reader",
    "Size",
    "coerce",
    "describe",
    "integer",
    "kebab",
    "names",
    "option",
    "reader_for",
    "secret_names",
]

T = TypeVar("T")

DELIVERY_NAMES: Final = frozenset({
    "ack", "buffer", "dead-letters", "deadline", "overflow", "retry-attempts", "retry-backoff",
    "retry-max-backoff", "retry-stable", "role", "spool-quota",
})  # fmt: skip
"""The delivery options, which belong to the producer: see delivery_options, which few URLs need."""


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
    return [kebab(field.name) for field in dataclasses.fields(options)]


def secret_names(options: type) -> list[str]:
    """Return the names of those that are hidden wherever the URL is shown."""
    return [kebab(field.name) for field in dataclasses.fields(options) if _is_secret(field)]


def describe(options: type) -> list[Option]:
    """Return the options of a dataclass in their order."""
    hints = typing.get_type_hints(options, include_extras=True)
    described = []
    for field in dataclasses.fields(options):
        name = kebab(field.name)
        reader = reader_for(hints[field.name])
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
    fields = {kebab(field.name): field for field in dataclasses.fields(cast("Any", options))}
    values = {}
    for name, text in query.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidOption(f"{where} has no option {name}; known: {known}{suggestion(name, fields)}")
        field = fields[name]
        reader = reader_for(hints[field.name])
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
    return bool(field.metadata.get("secret")) or is_secret_option(kebab(field.name))


# -- reading one value -----------------------------------------------------------------------------


class Reader(NamedTuple):
    """How values of one type are read, shown, and called."""

    read: Callable[[str], Any]
    """Raises ValueError, of which ConfigurationError is one."""
    show: Callable[[Any], str]
    name: str


def reader_for(hint: Any) -> Reader:
    """Return how values of this type hint are read and shown."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in arguments if part is not type(None)]
        if len(parts) == 1:
            return reader_for(parts[0])
    elif typing.get_origin(hint) is Annotated:
        for part in arguments:
            if isinstance(part, Reader):
                return part
    elif typing.get_origin(hint) is tuple and arguments[1:] == (...,):
        one = reader_for(arguments[0])
        return Reader(
            lambda text: tuple([one.read(part) for part in text.split(",")]) if text else (),
            lambda values: ",".join([one.show(value) for value in values]),
            f"{one.name}[,{one.name}...]",
        )
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        words = {str(member.value): member for member in hint}
        return Reader(lambda text: _word(text, words), lambda member: str(member.value), "|".join(words))
    elif hint is getattr(sys.modules.get("pathlib"), "Path", None) and hint is not None:
        # Whoever asks for it has imported it; nobody else needs it.
        path: Callable[[str], os.PathLike[str]] = hint
        return Reader(lambda text: path(_path(text)), str, "file")
    elif hint in _SIMPLE:
        return _SIMPLE[hint]
    raise TypeError(f"options of type {hint} are not known; see producer_pool.plugin.option")


def _word(text: str, words: Mapping[str, T]) -> T:
    try:
        return words[text]
    except KeyError:
        raise ConfigurationError(f"{text!r} is none of {', '.join(words)}{suggestion(text, words)}") from None


def integer(text: str) -> int:
    """Read a whole number."""
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

_SIMPLE: Final[Mapping[Any, Reader]] = {
    str: Reader(str, str, "text"),
    int: Reader(integer, str, "number"),
    float: Reader(_float, str, "number"),
    bool: Reader(lambda text: _word(text.lower(), _YES_NO), lambda yes: "yes" if yes else "no", "yes|no"),
    Framing: Reader(
        framing_named,
        lambda framing: str(framing.name),
        "|".join(framing.name for framing in FRAMINGS),
    ),
}

Duration = Annotated[float, Reader(parse_duration, format_duration, "duration")]
"""A float of seconds in the dataclass; ``500ms``, ``10s`` or ``24h`` in a URL."""

Size = Annotated[int, Reader(parse_size, format_size, "size")]
"""An int of bytes in the dataclass; ``4096``, ``64KiB`` or ``64MiB`` in a URL."""


def kebab(name: str) -> str:
    """Return the name of a field as it is written in a URL."""
    return name.replace("_", "-")
