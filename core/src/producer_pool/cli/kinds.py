"""How values with units are read from the command line."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import parse_duration

__all__ = ["DURATION", "RATE"]


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


DURATION: Final = _Duration()
"""Seconds from ``50ms`` or ``10s``."""
RATE: Final = _Rate()
"""A number a second from ``1000``, ``1000/s`` or ``30/m``."""
