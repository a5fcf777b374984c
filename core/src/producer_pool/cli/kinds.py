"""How values with units are read from the command line."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import parse_duration, parse_size

__all__ = ["DURATION", "PAIR", "RATE", "SIZE"]


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?", value)
        rate = float(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else 0.0
        if rate <= 0:
            self.fail(f"{value!r} is not a rate such as 1000, 1000/s or 30/m", param, ctx)
        return rate


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class _Pair(click.ParamType[tuple[str, str]]):
    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value} is not of the form NAME=VALUE", param, ctx)
        return name, text


DURATION: Final = _Duration()
"""Seconds from ``50ms`` or ``10s``."""
PAIR: Final = _Pair()
"""A name and a value from ``tls-ca=ca.pem``."""
RATE: Final = _Rate()
"""A number a second from ``1000``, ``1000/s`` or ``30/m``."""
SIZE: Final = _Size()
"""Bytes from ``128`` or ``64KiB``."""
