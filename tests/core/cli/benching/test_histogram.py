"""Durations counted in buckets."""

import random

import pytest

from producer_pool.cli.benching.histogram import Histogram


def counted(durations: list[int]) -> Histogram:
    """Return a histogram of *durations*."""
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


@pytest.mark.parametrize("percent", [0, 50, 90, 99, 99.9, 100])
def test_percentiles(percent: float) -> None:
    """A percentile is that of the durations themselves, and at most two percent above."""
    chance = random.Random(7)
    durations = sorted(int(chance.lognormvariate(11, 2)) for _ in range(10_000))
    exact = durations[max(round(percent / 100 * len(durations)) - 1, 0)]

    found = counted(durations).percentile(percent)

    assert exact <= found <= exact * 1.02 + 1


def test_counts_weigh() -> None:
    """What is added many times at once counts as often."""
    histogram = Histogram()
    histogram.add(100, 99)
    histogram.add(7_000)

    assert histogram.total == 100
    assert histogram.percentile(99) == 100
    assert histogram.percentile(99.5) == 7_000
    assert histogram.longest == 7_000


def test_longest_is_exact() -> None:
    """No bucket makes the longest duration longer than it was."""
    histogram = counted([123_456_789, 3])

    assert histogram.longest == 123_456_789
    assert [end for end, _ in histogram] == [3, 123_456_789]
    assert histogram.percentile(100) == 123_456_789


def test_nothing() -> None:
    """Without durations, all is zero."""
    assert Histogram().percentile(99) == Histogram().longest == Histogram().total == 0


def test_several_become_one() -> None:
    """Counts of several are those of all together, also as plain values."""
    parts = [counted([1, 2, 300]), counted([300, 5_000_000])]
    there_and_back = [Histogram.from_json(part.as_json()) for part in parts]

    whole = Histogram.of(there_and_back)

    assert list(whole) == list(counted([1, 2, 300, 300, 5_000_000]))
    assert whole.longest == 5_000_000
