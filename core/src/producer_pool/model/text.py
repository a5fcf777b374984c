"""What people write and read: durations, sizes, counts, near misses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

from producer_pool.model.errors import ConfigurationError

__all__ = ["format_count", "format_duration", "format_size", "parse_duration", "parse_size", "suggestion"]

_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_NUMBER_UNIT: Final = re.compile(r"([0-9]{1,18})(\.[0-9]+)?\s*([A-Za-z]*)\Z")
"""More digits are no time and no size that anybody means, and a float could not hold them."""


def parse_duration(text: str) -> float:
    """
    Read a time such as ``500ms``, ``10s`` or ``24h`` and return seconds. A bare number means seconds.

    Raises:
        ConfigurationError: it is none.
    """
    return float(_parse(text, _SECONDS, "s", "a duration such as 500ms, 10s or 24h"))


def parse_size(text: str) -> int:
    """
    Read a size such as ``64MiB``, ``10kB`` or ``4096`` and return bytes.

    Raises:
        ConfigurationError: it is none.
    """
    return round(_parse(text, _BYTES, "B", "a size in bytes such as 4096, 64KiB or 64MiB"))


def _parse(text: str, units: Mapping[str, float], default: str, wanted: str) -> float:
    match = _NUMBER_UNIT.match(text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is not {wanted}")
    unit = match[3] or default
    if unit not in units:
        raise ConfigurationError(f"{text!r} is not {wanted}; units: {', '.join(units)}")
    number = float(match[1] + match[2]) if match[2] else int(match[1])
    return number * units[unit]


def format_duration(seconds: float) -> str:
    """
    Write seconds as parse_duration() reads them, in the largest unit of which they are a whole number.

    One day is 24h, as everybody says; ``math.inf`` is "unlimited".
    """
    if seconds == math.inf:
        return "unlimited"
    for unit, factor in reversed(_SECONDS.items()):
        number = round(seconds / factor)
        # Not ==: in floats, 9 milliseconds are not 0.009 seconds.
        if number > (unit == "d") and math.isclose(number * factor, seconds) and (factor >= 1 or seconds < 1):
            return f"{number}{unit}"
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


def format_size(size: int) -> str:
    """Write bytes as parse_size() reads them."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def format_count(count: int, one: str, several: str = "") -> str:
    """Write how many there are: ``1 message``, ``1,200 messages``; *several* where an "s" is not enough."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest known word, or nothing."""
    import difflib  # It costs more than the rest of the model, and only a mistake needs it.

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
