"""Durations, sizes and suggestions, as people write and read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import (
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    suggestion,
)


@pytest.mark.parametrize(
    "text,seconds",
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("10", 10),
        ("1.5h", 5400),
        ("24h", 86400),
        ("2 d", 172800),
        (" 7us ", 7e-6),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A number and a unit; without one, seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text,size",
    [
        ("4096", 4096),
        ("64KiB", 65536),
        ("10kB", 10_000),
        ("1.5MiB", 1572864),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
        ("0", 0),
        ("900719925474099301", 900719925474099301),
    ],
)
def test_size(text: str, size: int) -> None:
    """A number and a unit, decimal or binary; without one, bytes. Whole numbers are exact."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "s", "-1s", "1e3", "inf", "nan", "1,5s", "٣s", "9" * 400, "0x10"])
def test_what_is_neither(text: str) -> None:
    """What cannot be read is shown, with what to write instead."""
    with pytest.raises(ConfigurationError) as raised:
        parse_duration(text)

    assert str(raised.value) == f"{text!r} is not a duration such as 500ms, 10s or 24h"
    with pytest.raises(ConfigurationError, match=r"is not a size in bytes such as 4096, 64KiB or 64MiB$"):
        parse_size(text)


def test_unknown_unit() -> None:
    """The error lists the units, which are written as they are there."""
    with pytest.raises(ConfigurationError, match=r"24h; units: us, ms, s, m, h, d$"):
        parse_duration("5min")
    with pytest.raises(ConfigurationError, match=r"64MiB; units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB$"):
        parse_size("5mib")


@pytest.mark.parametrize(
    "seconds,text",
    [
        (0, "0s"), (0.1, "100ms"), (0.0015, "1500us"), (1, "1s"), (1.5, "1.5s"), (12.345, "12.345s"),
        (90, "90s"), (120, "2m"), (5400, "90m"), (86400, "24h"), (172800, "2d"), (math.inf, "unlimited"),
        (1 / 3, "0.333333s"), (0.009, "9ms"),
    ],
)  # fmt: skip
def test_duration_is_written(seconds: float, text: str) -> None:
    """As a person would write it."""
    assert format_duration(seconds) == text


@given(st.integers(0, 10**9), st.sampled_from([1e-6, 1e-3, 1.0, 60.0, 3600.0]))
def test_duration_comes_back(number: int, unit: float) -> None:
    """What is written reads as the same time, to the microsecond."""
    seconds = number * unit

    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9, abs=1e-6)


@given(st.integers(0, 10**18 - 1))
def test_size_comes_back(size: int) -> None:
    """What is written reads as the same size, exactly."""
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "size,text", [(0, "0B"), (1000, "1000B"), (64 * 2**20, "64MiB"), (3 * 2**29, "1536MiB")]
)
def test_size_is_written(size: int, text: str) -> None:
    """In the largest unit of which it is a whole number."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    "count,text", [(0, "0 batches"), (1, "1 batch"), (2, "2 batches"), (12345, "12,345 batches")]
)
def test_count_is_written(count: int, text: str) -> None:
    """One is one, and thousands are set off."""
    assert format_count(count, "batch", "batches") == text
    assert format_count(count, "letter") == text.replace("batches", "letters").replace("batch", "letter")


def test_suggestion() -> None:
    """The nearest word, or nothing if none is near."""
    assert suggestion("tpc", ["tcp", "udp"]) == "; did you mean tcp?"
    assert suggestion("amqp", ["tcp", "udp"]) == ""
    assert suggestion("x", []) == ""
