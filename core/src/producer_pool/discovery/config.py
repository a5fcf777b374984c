"""Command line, environment and file, in this order of precedence, to plain frozen values."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from producer_pool.discovery.environment import read_environment
from producer_pool.discovery.layer import (
    SETTINGS,
    Faults,
    Layer,
    ProducerSetting,
    Value,
    checked_id,
    checked_url,
)
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.endpoint import Endpoint, redact
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool
from producer_pool.model.text import parse_duration, parse_size, suggestion

__all__ = ["SETTINGS", "ListenerSetting", "ProducerSetting", "Settings"]

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)

_POLICIES: Final = {"direct": DeliveryPolicy.direct(), "relay": DeliveryPolicy.relay()}
_SYNCS: Final = {"always": 0.0, "os": math.inf}
_SPOOL: Final = ("spool-sync", "spool-size", "spool-age")
_LOG_LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error")}
_YES_NO: Final = {"yes": True, "no": False}
_TO: Final = re.compile(r"([^:/?=@]*)=(.*)", re.DOTALL)
"""A URL has a colon before the first ``=`` in it."""


@dataclass(frozen=True, eq=False, repr=False)
class ListenerSetting(Fieldwise):
    """One listener that somebody asked for."""

    url: str = field(repr=False)
    """It may hold a password: print `shown` instead."""
    origin: str

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return redact(self.url)


@dataclass(frozen=True, eq=False, repr=False)
class Settings(Fieldwise):
    """All that people configured, checked as far as that goes without plugins."""

    listeners: tuple[ListenerSetting, ...] = ()
    producers: tuple[ProducerSetting, ...] = ()
    """Those of the file, then of the environment in natural order, then of the command line."""
    limits: Limits = field(default_factory=Limits)
    policy: DeliveryPolicy | None = None
    """None: nobody chose one."""
    spool: Spool | None = None
    """None: messages are kept in memory only."""
    dead_letters: str | None = field(default=None, repr=False)
    """Where messages go that were given up, for producers that do not say so themselves. It may hold a
    password."""
    plugins: PluginSelection = field(default_factory=PluginSelection)
    """For the registry: ``Registry(settings.plugins)``."""
    plugin_files: tuple[str, ...] = ()
    """For the registry: ``registry.register_file(path)``."""
    log_level: str = "info"
    json: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each setting was found, by its name; those not in it have their defaults."""
    unread: bool = False
    """Whether there is a file that could not be read: what it says is unknown."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """
        Read the environment, and the file that ``PRODUCER_POOL_CONFIG`` names.

        Raises:
            ConfigurationError: a variable or key cannot be used; the text names it and says what to write.
        """
        return cls.read(environ)

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        to: Iterable[str] = (),
        flags: Mapping[str, str | Sequence[str] | None] | None = None,
        faults: list[ConfigurationError] | None = None,
    ) -> Settings:
        """
        Read the environment, with a command line before it and a file behind it.

        *environ* is by default that of the process. *to* are ``[ID=]URL``, one a producer; *flags* are
        settings by name (``log-level``), with None or an empty list for what was not given. Producers
        of all sources go together; of two with one id, the one with the higher precedence counts. Of
        listeners, only those of the highest source do. With a list for *faults*, all errors go there, and
        what is returned lacks what they concern.

        Raises:
            ConfigurationError: a value cannot be used; the text says where it stands and what to write.
        """
        noted = Faults(faults)
        command_line = _command_line(flags or {})
        environment = read_environment(os.environ if environ is None else environ, noted)
        layers = [command_line, environment]
        unread = False
        if found := _first(layers, "config"):
            from producer_pool.discovery.tomlfile import read_file

            unread = True
            with noted.noted():
                layers.append(read_file(found[0].text, noted))
                unread = False
        taken = {name for layer in layers for name in layer.producers}
        _add_consumers(command_line, to, taken, noted)
        return replace(_merged(layers, noted), unread=unread)

    @property
    def delivery(self) -> DeliveryPolicy | None:
        """The policy of producers that say nothing themselves, with their dead letters; None: any."""
        if self.dead_letters is None:
            return self.policy
        return replace(self.policy or DeliveryPolicy.direct(), dead_letters=self.dead_letters)

    def for_daemon(self) -> Settings:
        """
        Return these settings with a listener and the relay policy, where nobody chose others.

        One that was chosen and cannot be used has no stand-in, nor has what an unread file may choose.
        """
        default = ListenerSetting(SETTINGS["listen"].default, "default")
        chosen = "listen" in self.origins or self.unread
        return replace(
            self,
            listeners=self.listeners or (() if chosen else (default,)),
            policy=self.policy or DeliveryPolicy.relay(),
        )


def _command_line(flags: Mapping[str, str | Sequence[str] | None]) -> Layer:
    layer = Layer()
    for name, given in flags.items():
        if given is None:
            continue
        if name not in SETTINGS:
            raise ConfigurationError(f"there is no setting {name}{suggestion(name, SETTINGS)}")
        texts = [given] if isinstance(given, str) else list(given)
        if texts:
            layer.values[name] = tuple(Value(text, SETTINGS[name].flag) for text in texts)
    return layer


def _add_consumers(layer: Layer, to: Iterable[str], taken: set[str], faults: Faults) -> None:
    """Add the producers of the command line; those without an id are consumer1, consumer2 and so on."""
    taken = set(taken)
    unnamed = []
    for text in to:
        match = _TO.match(text)
        if match is None:
            unnamed.append(text)
            continue
        origin = f"--to {match[1] if match[1].isprintable() else ascii(match[1])}="
        with faults.noted():
            producer_id = checked_id(match[1], origin)
            taken.add(producer_id)
            url = checked_url(match[2], origin, f"{origin}tcp://host:port")
            layer.add(ProducerSetting(producer_id, url, "--to"))
    numbers = (
        number for number in range(1, len(taken) + len(unnamed) + 1) if f"consumer{number}" not in taken
    )
    for text, number in zip(unnamed, numbers, strict=False):
        with faults.noted():
            url = checked_url(text, "--to", "--to tcp://host:port, or --to ID=tcp://host:port")
            layer.add(ProducerSetting(f"consumer{number}", url, "--to"))
    if any(Endpoint.parse(producer.url).password for producer in layer.producers.values()):
        _log.warning("others can read a password on a command line (ps); use PRODUCER_<ID>_FILE instead")


def _merged(layers: Sequence[Layer], faults: Faults) -> Settings:
    """Return what *layers* say; the first has precedence."""
    producers: dict[str, ProducerSetting] = {}
    plugins = PluginSelection()
    for layer in reversed(layers):
        plugins = layer.plugins.over(plugins)
        for name, producer in layer.producers.items():
            hidden = producers.get(name)
            origin = producer.origin + (f" (instead of {hidden.origin})" if hidden else "")
            producers[name] = replace(producer, origin=origin)
    found = {name: values for name in SETTINGS if (values := _first(layers, name))}
    read: dict[str, Any] = {}
    for name, how in _READERS.items():
        if name in found:
            with faults.noted():
                read[name] = _read(found[name][0], how)
    return Settings(
        listeners=_listeners(found.get("listen", ()), faults),
        producers=tuple(producers.values()),
        limits=Limits(**{name: read[name] for name in ("buffer", "drain") if name in read}),
        policy=read.get("policy"),
        spool=_spool(read, found, faults),
        dead_letters=read.get("dead-letters"),
        plugins=plugins,
        plugin_files=tuple(value.text for value in found.get("plugin", ())),
        log_level=read.get("log-level", "info"),
        json=read.get("json", False),
        origins=MappingProxyType({name: values[0].origin for name, values in found.items()}),
    )


def _first(layers: Iterable[Layer], name: str) -> tuple[Value, ...]:
    return next((layer.values[name] for layer in layers if name in layer.values), ())


def _listeners(values: Iterable[Value], faults: Faults) -> tuple[ListenerSetting, ...]:
    listeners: dict[str, ListenerSetting] = {}
    for text, origin in values:
        with faults.noted():
            url = checked_url(text, origin, "a URL such as tcp://127.0.0.1:9100")
            listener = ListenerSetting(url, origin)
            # Port 0 is another port each time.
            if url in listeners and not re.search(r":0([/?]|\Z)", url):
                raise ConfigurationError(f"{origin} names {listener.shown} twice; leave one out")
            listeners[f"{url} {len(listeners)}" if url in listeners else url] = listener
    return tuple(listeners.values())


def _spool(read: Mapping[str, Any], found: Mapping[str, tuple[Value, ...]], faults: Faults) -> Spool | None:
    """Return the spool that the settings ask for; those of it without a folder are a mistake."""
    given = {name.removeprefix("spool-"): read[name] for name in _SPOOL if name in read}
    if "spool" in read:
        return Spool(read["spool"], **given)
    for name in _SPOOL:
        if name in found:
            with faults.noted():
                raise ConfigurationError(
                    f"{found[name][0].origin}: there is no spool; name its folder: "
                    f"{SETTINGS['spool'].flag} DIR or {SETTINGS['spool'].variable}"
                )
    return None


def _read(value: Value, how: Callable[[str], T]) -> T:
    try:
        return how(value.text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{value.origin}: {error}") from None


def _positive(text: str) -> int:
    return Limits(buffer=parse_size(text)).buffer


def _sync(text: str) -> float:
    if text in _SYNCS:
        return _SYNCS[text]
    kind, colon, seconds = text.partition(":")
    if kind == "interval" and colon:
        interval = Spool("spool", sync=parse_duration(seconds)).sync
        if interval == 0:
            raise ConfigurationError(f"{text!r} is no time between two syncs; for each one at once: always")
        # Elsewhere a bare number means seconds; here, who writes 50 has milliseconds in mind.
        if not seconds.strip()[-1].isalpha():
            raise ConfigurationError(f"{text!r} has no unit; write {text}ms or {text}s")
        return interval
    raise ConfigurationError(f"{text!r} is none of always, interval:DURATION such as interval:50ms, os")


def _some(text: str) -> str:
    if not text or "\0" in text:
        raise ConfigurationError("it is empty, or holds a zero byte; write the path of a folder")
    return text


def _word(words: Mapping[str, T]) -> Callable[[str], T]:
    """Return what reads one of *words*."""

    def read(text: str) -> T:
        if text not in words:
            raise ConfigurationError(f"{text!r} is none of {', '.join(words)}{suggestion(text, words)}")
        return words[text]

    return read


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "buffer": _positive,
    "drain": parse_duration,
    "policy": _word(_POLICIES),
    "spool": _some,
    "spool-sync": _sync,
    "spool-size": lambda text: Spool("spool", size=parse_size(text)).size,
    "spool-age": lambda text: (
        math.inf if text == "unlimited" else Spool("spool", age=parse_duration(text)).age
    ),
    "dead-letters": _some,
    "log-level": _word(_LOG_LEVELS),
    "json": _word(_YES_NO),
}
"""How the settings are read that are not lists of texts."""
