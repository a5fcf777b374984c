"""What a bench prints for people."""

import pytest

from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.tables import bars, duration, heading, table, verdicts
from support.measured import enter, outcome, seen


@pytest.mark.parametrize(
    "nanoseconds,text",
    [
        (0, "0 us"),
        (40, "0.04 us"),
        (1_234, "1.23 us"),
        (999_400, "999 us"),
        (999_600, "1 ms"),
        (12_345_678, "12.3 ms"),
        (999_600_000, "1 s"),
        (61_000_000_000, "61 s"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    """Three digits, in the unit that suits them."""
    assert duration(nanoseconds) == text


def test_bars() -> None:
    """A line for each step, the longest bar for the most, and none for what is hardly there."""
    histogram = Histogram()
    for nanoseconds, count in ((700, 1), (1_500, 4_000), (90_000, 6_000), (2_000_000_000, 2)):
        histogram.add(nanoseconds, count)

    assert [line.split() for line in bars(histogram)] == [
        ["up", "to", "1", "us", "<", "0.1%"],
        ["up", "to", "2", "us", "40.0%", "#" * 27],
        ["up", "to", "100", "us", "60.0%", "#" * 40],
        ["up", "to", "2", "s", "<", "0.1%"],
    ]
    assert bars(Histogram()) == []


def test_table_of_one() -> None:
    """Each figure has a row, and a rate has the ends of its runs."""
    headings, rows = table(enter(outcome("tcp"), seen(1_000), seen(2_000)), 0)
    cells = {row[0]: row[1:] for row in rows}

    assert headings == ["flat out, 5 a write", "", ""]
    assert cells["messages/s"] == ["1,500", "1,000 to 2,000 in 2 runs"]
    assert cells["relay busy"] == ["95%", ""]
    assert cells["latency p99"] == ["1 us", ""]
    assert all(len(row) == len(headings) for row in rows)


def test_table_of_two() -> None:
    """Two ways stand side by side, with the ratio where there is one that holds."""
    one = outcome("tcp", "unix")
    one.enter(0, 0, seen(3_000, cpu=0.5), None)
    one.enter(0, 1, seen(1_000), None)
    headings, rows = table(one, 0)
    cells = {row[0]: row[1:] for row in rows}

    assert headings[1:] == ["over", "against", "ratio (from, to)"]
    assert cells["messages/s"] == ["3,000", "1,000", ">= 3.00 (3.00, 3.00)"]
    assert cells["latency p50"][2] == ""
    assert cells["relay memory, peak"] == ["-", "-", ""]


def test_table_without_what_the_system_does_not_tell() -> None:
    """What is not known is a dash."""
    cells = {row[0]: row[1] for row in table(enter(outcome("tcp"), seen(cpu=None)), 0)[1]}

    assert (cells["relay CPU a delivery"], cells["relay busy"]) == ("-", "-")


def test_heading_hides_nothing_that_matters() -> None:
    """It says what was measured, with which options, and where."""
    first, second = heading(outcome("tcp?max-message=2KiB", "unix").plan)

    assert first == "tcp?max-message=2KiB against unix: 2 consumers, 1 producer, messages of 100 B"
    assert "Python" in second


@pytest.mark.parametrize(
    "cpu,rate,text",
    [
        (0.95, None, "flat out: the relay was busy for 95% of the time: it was the limit"),
        (0.41, None, "flat out: the load was the limit: the relay was busy for 41% of the time, not 90%"),
        (0.41, 1_000.0, "at 1,000/s: of the latency, the load itself was late by 0.01 us (p50)"),
        (0.95, 5_000.0, "at 5,000/s: the schedule was not kept: 1,000 of 5,000 messages/s"),
    ],
)
def test_verdicts_name_the_limit(cpu: float, rate: float | None, text: str) -> None:
    """It says who was the limit, in lines that fit a terminal."""
    lines = verdicts(enter(outcome("tcp", rates=(rate,)), seen(1_000, cpu)))

    assert " ".join("\n".join(lines).split()).startswith(text)
    assert "2,000 deliveries, each verified: nothing lost" in "\n".join(lines)
    assert max(len(line) for text in lines for line in text.splitlines()) <= 79


def test_verdict_on_what_is_wrong() -> None:
    """What was lost or came twice is counted, beside what the relay counted; no other verdict is given."""
    one = enter(outcome("tcp"), seen(lost=3, doubled=2))
    one.counted[0] = {"c0": {"delivered": 7, "failed": 0, "dropped": 3, "cancelled": 0}}
    text = " ".join("\n".join(verdicts(one)).split())

    assert "NOT AS IT SHOULD BE: flat out, tcp: of 2,003 deliveries: 3 lost, 2 came twice" in text
    assert "its relay counted, in all it did here: 7 delivered, 0 failed, 3 dropped" in text
    assert "limit" not in text
    assert "verified" not in text
