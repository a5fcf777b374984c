"""The environment: producers, settings, and variables that only look like them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Final

from producer_pool.discovery.layer import (
    SETTINGS,
    Faults,
    Layer,
    ProducerSetting,
    Value,
    checked_id,
    checked_url,
    url_from_file,
)
from producer_pool.discovery.selection import ALLOW, CHOOSE, DENY, REQUIRE, PluginSelection
from producer_pool.model.endpoint import is_url
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import suggestion

__all__ = ["link_variables", "misnamed", "natural", "read_environment", "separated"]

_log: Final = logging.getLogger(__name__)

_PREFIX: Final = "PRODUCER_"
_RESERVED: Final = "PRODUCER_POOL"
_FOREIGN: Final = ("PRODUCER_POOL_REQUIRE_SYSTEM",)
"""Settings of the test suite, which may well stand in the environment of a daemon under test."""

# Patterns are compiled at their first use, which most processes never see.
_LINK: Final = r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
_LINK_OF_ANY: Final = rf"(\w+_)?({_LINK})"
_NEARLY: Final = r"(?a)([A-Za-z]+)_([A-Za-z0-9]\w*)"
_NEAR: Final = 0.85
"""PRODUCERS_ and PRODUCR_ are so near to PRODUCER_, and PRODUCT_ is not."""
_CONTAINER: Final = r"NAME|ENV_\w+"
_SEPARATOR: Final = r",?\s+|,(?=[A-Za-z][A-Za-z0-9+-]*://)"


def read_environment(environ: Mapping[str, str], faults: Faults | None = None) -> Layer:
    """
    Read ``PRODUCER_<ID>=url``, ``PRODUCER_<ID>_FILE=path`` and ``PRODUCER_POOL_*``.

    Producers come in natural order: consumer2 before consumer10. Variables that Kubernetes or Docker
    sets for a service of such a name are ignored with one warning.

    Raises:
        ConfigurationError: one cannot be used. The text names it, says what to write, and shows no secret.
    """
    ignored = link_variables(environ)
    if ignored:
        _log.warning(
            "ignoring %s: Kubernetes or Docker sets these for a service of that name; "
            "enableServiceLinks: false turns them off; if one is meant as a producer, give it another id",
            ", ".join(sorted(ignored)),
        )
    ours = {
        name: value for name, value in environ.items() if name.startswith(_PREFIX) and name not in ignored
    }
    faults = faults or Faults()
    layer = Layer()
    with faults.noted():
        layer.plugins = PluginSelection.from_env(ours)
    for name in sorted(ours, key=natural):
        with faults.noted():
            if name == _RESERVED or name.startswith(f"{_RESERVED}_"):
                _setting(layer, name, ours[name])
            else:
                layer.add(_producer(name, ours))
    return layer


def misnamed(environ: Mapping[str, str]) -> list[str]:
    """Return, for each variable with a URL that is nearly called as a producer's is, what may be meant."""
    import difflib  # As in suggestion(); that is content with less: PROVIDER_URL is none of ours.

    found = []
    for name in sorted(environ, key=natural):
        match = None if name.startswith(_PREFIX) else re.fullmatch(_NEARLY, name)
        if match is None or re.fullmatch(_LINK_OF_ANY, match[2]) or not is_url(environ[name].strip()):
            continue
        if difflib.get_close_matches(f"{match[1].upper()}_", [_PREFIX], cutoff=_NEAR):
            found.append(f"{name} is not read; did you mean {_PREFIX}{match[2].upper()}?")
    return found


def _producer(name: str, ours: Mapping[str, str]) -> ProducerSetting:
    shown = _shown(name)
    stem = name.removeprefix(_PREFIX)
    if not re.search(r"\w_FILE\Z", stem, re.IGNORECASE):
        producer_id = checked_id(stem, shown)
        write = f"{shown}=tcp://host:port, or name it otherwise: {_PREFIX}... names producers"
        return ProducerSetting(producer_id, checked_url(ours[name], shown, write), shown)
    producer_id = checked_id(stem[:-5], shown)
    if f"{_PREFIX}{stem[:-5]}" in ours:
        raise ConfigurationError(f"{_PREFIX}{stem[:-5]} and {shown} are both set; unset one")
    return ProducerSetting(producer_id, url_from_file(ours[name].strip(), shown), shown)


def _shown(name: str) -> str:
    """Return *name* as errors may show it."""
    # `PRODUCER_ONE:tcp://user:password@host?timeout=5s` has a name, too: a colon was typed for the "=".
    before, colon, _ = name.partition(":")
    return (before if before.isprintable() else ascii(before)) + (f"{colon}..." if colon else "")


def _setting(layer: Layer, name: str, text: str) -> None:
    """Put one ``PRODUCER_POOL_*`` variable into *layer*."""
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    if name in by_variable:
        setting = by_variable[name]
        texts = list(separated(text)) if setting.several else [text.strip()]
        if not any(texts):
            raise ConfigurationError(f"{name} is empty; write {name}={setting.value}, or unset it")
        layer.values[setting.name] = tuple(Value(one, name) for one in texts)
    elif name not in (ALLOW, DENY, REQUIRE, *_FOREIGN) and not name.startswith(CHOOSE):
        known = [*by_variable, ALLOW, DENY, REQUIRE, f"{CHOOSE}<SCHEME>"]
        raise ConfigurationError(
            f"{_shown(name)} is no setting; known: {', '.join(known)}{suggestion(name, known)}; "
            f"{_RESERVED} is reserved: if it is meant as a producer, give it another id"
        )


def separated(text: str) -> Iterator[str]:
    """Yield the values in *text*: separated by white space, or by a comma before ``scheme://``."""
    return filter(None, re.split(_SEPARATOR, text.strip()))


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key to sort by, in which numbers count as numbers."""
    parts = re.split(r"(\d+)", text, flags=re.ASCII)
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def link_variables(environ: Mapping[str, str]) -> frozenset[str]:
    """
    Return the variables that Kubernetes or Docker sets for something named producer, or producer-x.

    They look like producers: ``PRODUCER_PORT=tcp://10.0.0.11:6379``. Those for producer-x are told apart
    by the others that come with them.
    """
    services = {"PRODUCER"}
    containers = set()
    for name in environ:
        if name.startswith(_PREFIX) and name.endswith("_SERVICE_HOST"):
            services.add(name.removesuffix("_SERVICE_HOST"))
        elif name.startswith(_PREFIX) and re.search(r"_PORT_\d+_(TCP|UDP)_ADDR\Z", name):
            service = re.sub(r"_PORT_\d+_(TCP|UDP)_ADDR\Z", "", name)
            services.add(service)
            if environ.get(f"{service}_NAME", "").startswith("/"):
                containers.add(service)
    found = set()
    for name in environ:
        if name.startswith(_PREFIX):
            found |= {name for service in services if _belongs(name, service, _LINK)}
            found |= {name for service in containers if _belongs(name, service, _CONTAINER)}
    return frozenset(found)


def _belongs(name: str, service: str, suffix: str) -> bool:
    return name.startswith(f"{service}_") and re.fullmatch(suffix, name[len(service) + 1 :]) is not None
