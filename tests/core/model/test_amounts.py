"""What a program passes where a number is wanted."""

import math

import pytest

from producer_pool.model.amounts import check_numbers, check_seconds
from producer_pool.model.errors import ConfigurationError, UsageError


@pytest.mark.parametrize("seconds", [None, 0, 5, 0.5, -1, math.inf])
def test_seconds(seconds: object) -> None:
    """Any number is a time, also one that is over already, or never; None is what the call makes of it."""
    check_seconds("wait", seconds)


@pytest.mark.parametrize("seconds", ["5s", "5", b"5", [5], 5j, math.nan])
def test_no_seconds(seconds: object) -> None:
    """What would be written so in a URL is refused, with what to write here."""
    with pytest.raises(
        UsageError, match=r"^wait= is a number of seconds, such as 5 or 0\.5, not .*; units go"
    ):
        check_seconds("wait", seconds)


def test_no_numbers() -> None:
    """The error names the one that is none."""
    check_numbers(size=1, age=math.inf)
    with pytest.raises(
        ConfigurationError, match=r"^age is a number here, such as bytes or seconds, not '1h'"
    ):
        check_numbers(size=1, age="1h")
