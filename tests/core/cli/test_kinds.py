"""Values with units on the command line."""

import click
import pytest

from producer_pool.cli.kinds import DURATION, PAIR, RATE, SIZE


@pytest.mark.parametrize(
    "text,rate", [("10", 10.0), ("10/s", 10.0), ("2.5", 2.5), ("30/m", 0.5), ("36/h", 0.01)]
)
def test_rate(text: str, rate: float) -> None:
    """A bare number is a number a second."""
    assert RATE.convert(text, None, None) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "10/d", "1 0"])
def test_what_is_no_rate(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(click.BadParameter, match="not a rate such as 1000"):
        RATE.convert(text, None, None)


def test_duration() -> None:
    """Durations are read as in URLs, and refused with an example."""
    assert DURATION.convert("50ms", None, None) == pytest.approx(0.05)
    with pytest.raises(click.BadParameter, match="not a duration such as"):
        DURATION.convert("soon", None, None)


def test_size() -> None:
    """Sizes are read as in URLs, and refused with an example."""
    assert SIZE.convert("2KiB", None, None) == 2048
    with pytest.raises(click.BadParameter, match="not a size in bytes such as"):
        SIZE.convert("big", None, None)


def test_pair() -> None:
    """A name and a value, in which there may be more equals signs."""
    assert PAIR.convert("tls-ca=a=b", None, None) == ("tls-ca", "a=b")
    with pytest.raises(click.BadParameter, match="tls-ca is not of the form NAME=VALUE"):
        PAIR.convert("tls-ca", None, None)
