"""One source of configuration as text values, each with where it stands; and the table of all settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.fieldwise import Fieldwise

__all__ = [
    "SETTINGS",
    "Faults",
    "Layer",
    "ProducerSetting",
    "Setting",
    "Value",
    "checked_id",
    "checked_url",
    "url_from_file",
]


class Setting(NamedTuple):
    """One setting, under its three names, as documentation prints it."""

    name: str
    value: str
    """What is written there, such as SIZE."""
    default: str
    help: str
    several: bool = False
    """Whether there may be more than one value."""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "PRODUCER_POOL_" + self.name.replace("-", "_").upper()

    @property
    def flag(self) -> str:
        """Its option on the command line; one that may be repeated, where there may be several values."""
        return f"--{self.name}"

    @property
    def key(self) -> str:
        """Its name among the options of a command."""
        return self.name.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether its option has no value: where it stands, it means yes."""
        return self.value == "yes|no"


SETTINGS: Final = {
    setting.name: setting
    for setting in (
        Setting(
            "config", "FILE", "none", "a TOML file with further settings; not itself a setting in a file"
        ),
        Setting(
            "listen",
            "URL",
            "tcp://127.0.0.1:9100",
            "where the daemon takes messages in; the variable takes several, separated by spaces",
            several=True,
        ),
        Setting("buffer", "SIZE", "256MiB", "bytes that all producers together may hold"),
        Setting("drain", "DURATION", "10s", "how long closing waits for what is queued"),
        Setting(
            "policy",
            "direct|relay",
            "relay for the daemon, direct for a program",
            "what producers do unless their URLs say otherwise",
        ),
        Setting(
            "spool",
            "DIR",
            "none",
            "a folder where messages are stored before they are forwarded, so that they outlive the process",
        ),
        Setting(
            "spool-sync",
            "always|interval:DURATION|os",
            "always",
            "when what was stored is safe from a power cut: before it counts as stored, after that time, or "
            "when the system likes",
        ),
        Setting("spool-size", "SIZE", "4GiB", "bytes that the spool may take on disk"),
        Setting("spool-age", "DURATION", "unlimited", "how old a stored message may become"),
        Setting(
            "dead-letters",
            "DIR|URL",
            "none",
            "where messages go that were given up, unless the URL of their producer says so itself",
        ),
        Setting(
            "plugin",
            "FILE",
            "none",
            "a plugin in one Python file; the variable takes several, separated by spaces",
            several=True,
        ),
        Setting("log-level", "debug|info|warning|error", "info", "the least important log lines to write"),
        Setting(
            "json", "yes|no", "no", "write what programs read to stdout, as JSON; the log goes to stderr"
        ),
    )
}
"""By name, in their order. Each is an option, a variable, and a key in the file's ``[pool]``."""


class Faults:
    """What is wrong with a configuration: the first fault is raised, or all are put into a list."""

    def __init__(self, into: list[ConfigurationError] | None = None) -> None:
        self._into = into

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Go on after an error in the body, where faults are collected."""
        try:
            yield
        except ConfigurationError as error:
            if self._into is None:
                raise
            self._into.append(error)


class Value(NamedTuple):
    """A setting as somebody wrote it, and where."""

    text: str
    """It may be a URL with a password."""
    origin: str

    def __repr__(self) -> str:
        return f"<Value of {self.origin}>"


@dataclass(frozen=True, eq=False, repr=False)
class ProducerSetting(Fieldwise):
    """One producer that somebody asked for."""

    id: str
    url: str = field(repr=False)
    """It may hold a password: print `shown` instead."""
    origin: str
    """Where it stands, for people: a variable, a file and table, an option."""

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return str(Endpoint.parse(self.url))


class Layer:
    """All that one source says: the command line, the environment, or a file."""

    def __init__(self) -> None:
        self.producers: dict[str, ProducerSetting] = {}
        self.values: dict[str, tuple[Value, ...]] = {}
        """By setting; one that takes a single value has one."""
        self.plugins = PluginSelection()

    def add(self, producer: ProducerSetting) -> None:
        """
        Add a producer.

        Raises:
            ConfigurationError: this source has one of that id already.
        """
        other = self.producers.setdefault(producer.id, producer)
        if other is not producer:
            raise ConfigurationError(
                f"{other.origin} and {producer.origin} both name the producer {producer.id}; leave one out"
            )


_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]*\Z")
_HOST_PORT: Final = re.compile(r"[\w.-]+:\d+\Z")
_MOST: Final = 64 * 1024


def checked_id(text: str, origin: str) -> str:
    """
    Return *text* as an id: in small letters, with ``-`` for ``_``.

    Raises:
        ConfigurationError: it cannot be one.
    """
    name = text.lower().replace("_", "-")
    if not _ID.match(name):
        raise ConfigurationError(
            f"{origin}: an id starts with a letter or digit; it has letters, digits, '.', '-' and '_'"
        )
    if name.endswith("-file"):
        # Elsewhere the same name would mean: the URL of the producer before "-file" is in a file.
        raise ConfigurationError(f"{origin}: the id of a producer does not end in -file; choose another one")
    return name


def checked_url(text: str, origin: str, write: str) -> str:
    """
    Return *text*, a URL. *write* says what to write, in the error.

    Raises:
        ConfigurationError: it is none. What might be a secret is not shown.
    """
    text = text.strip()
    if not text:
        raise ConfigurationError(f"{origin} is empty; write {write}")
    try:
        Endpoint.parse(text)
    except ConfigurationError as error:
        if "://" in text or _HOST_PORT.match(text) or isinstance(error, InvalidOption):
            raise ConfigurationError(f"{origin}: {error}") from None
        raise ConfigurationError(f"{origin} is no URL; write {write}") from None
    return text


def url_from_file(path: str | os.PathLike[str], origin: str) -> str:
    """
    Return the URL that a file holds.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(
            f"{origin} should name a file that holds a URL; that file cannot be read: {reason}"
        ) from None
    return checked_url(text, f"the file that {origin} names", "a URL into it, such as tcp://127.0.0.1:9000")
