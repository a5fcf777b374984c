"""A configuration file: TOML with the tables ``[pool]``, ``[producers.<id>]`` and ``[plugins]``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from producer_pool.contract.delivery_options import delivery_options
from producer_pool.discovery.layer import (
    SETTINGS,
    Faults,
    Layer,
    ProducerSetting,
    Setting,
    Value,
    checked_id,
    checked_url,
    url_from_file,
)
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import suggestion

__all__ = ["read_file"]

_OPTIONS: Final = ("timeout", *(option.name for option in delivery_options()))
"""Options that every scheme has: in a file they may stand as keys, instead of in the URL."""


def read_file(path: str | Path, faults: Faults | None = None) -> Layer:
    """
    Read a configuration file::

        [pool]
        listen = ["tcp://127.0.0.1:9100"]
        buffer = "256MiB"

        [producers.billing]
        url = "tcp://127.0.0.1:9000"
        overflow = "drop-oldest"

        [producers.archive]
        url-file = "archive.url"        # relative to this file

        [plugins]
        allow = ["producer-pool-tcp"]
        deny = []
        require = []
        use = { tcp = "producer-pool-tcp" }

    Raises:
        ConfigurationError: it cannot be read, or a key in it is unknown or cannot be used. The text
            names file and key, and shows no secret.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}; name a file that can: --config FILE or "
            "PRODUCER_POOL_CONFIG"
        ) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigurationError(f"{path}: {error}") from None
    faults = faults or Faults()
    layer = Layer()
    with faults.noted():
        _check(tables, ("pool", "producers", "plugins"), f"{path}:")
    with faults.noted():
        _pool(layer, _table(tables, "pool", str(path)), f"{path}: [pool]", faults)
    with faults.noted():
        for name, table in _table(tables, "producers", str(path)).items():
            with faults.noted():
                layer.add(_producer(name, table, path))
    with faults.noted():
        layer.plugins = _plugins(_table(tables, "plugins", str(path)), f"{path}: [plugins]")
    return layer


def _pool(layer: Layer, table: Mapping[str, Any], where: str, faults: Faults) -> None:
    known = [name for name in SETTINGS if name != "config"]
    for name, value in table.items():
        with faults.noted():
            _check([name], known, where)
            origin = f"{where} {name}"
            texts = [value] if not isinstance(value, list) else value
            if len(texts) != 1 and not SETTINGS[name].several:
                raise ConfigurationError(f"{origin} takes one value")
            layer.values[name] = tuple(
                Value(_setting(SETTINGS[name], text, origin), origin) for text in texts
            )


def _setting(setting: Setting, value: object, origin: str) -> str:
    """Return a value of a setting as it would be written in a variable. TOML has words of its own for yes."""
    text = _text(value, origin)
    if setting.is_switch and text not in ("yes", "no"):
        raise ConfigurationError(f"{origin} is {text!r}; write true or false")
    if not setting.is_switch and isinstance(value, bool):
        raise ConfigurationError(f"{origin} is true or false; write {setting.value}")
    return text


def _producer(name: str, table: object, path: Path) -> ProducerSetting:
    origin = f"{path}: [producers.{name}]"
    producer_id = checked_id(name, origin)
    if not isinstance(table, dict):
        raise ConfigurationError(f'{origin} is a table; write url = "tcp://host:port" into it')
    _check(table, ("url", "url-file", *_OPTIONS), origin)
    if ("url" in table) == ("url-file" in table):
        raise ConfigurationError(f"{origin} needs either url or url-file")
    if "url" in table:
        where = f"{origin} url"
        url = checked_url(_text(table["url"], where), where, 'url = "tcp://host:port"')
    else:
        where = f"{origin} url-file"
        url = url_from_file(path.parent / _text(table["url-file"], where), where)
    options = [f"{key}={quote(_text(table[key], f'{origin} {key}'))}" for key in _OPTIONS if key in table]
    if options:
        url += ("&" if "?" in url else "?") + "&".join(options)
        checked_url(url, origin, "each option either into the URL or as a key")
    return ProducerSetting(producer_id, url, origin)


def _plugins(table: Mapping[str, Any], origin: str) -> PluginSelection:
    _check(table, ("allow", "deny", "require", "use"), origin)
    lists = {key: table[key] for key in ("allow", "deny", "require") if key in table}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ConfigurationError(f"{origin} {key} is a list of distributions")
    chosen = table.get("use", {})
    if not isinstance(chosen, dict) or not all(isinstance(name, str) for name in chosen.values()):
        raise ConfigurationError(f"{origin} use is a table: scheme = distribution")
    return PluginSelection.of(lists.get("allow"), lists.get("deny", ()), chosen, lists.get("require", ()))


def _table(tables: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: {name} is a table; write [{name}]")
    return table


def _check(table: Iterable[str], known: Iterable[str], origin: str) -> None:
    known = list(known)
    for key in table:
        if key not in known:
            listed = ", ".join(known)
            raise ConfigurationError(f"{origin} has no key {key}; known: {listed}{suggestion(key, known)}")


def _text(value: object, origin: str) -> str:
    """Return a TOML value as it would be written in a URL."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigurationError(f"{origin} is a {type(value).__name__}; write a string or a number")
