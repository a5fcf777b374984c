"""Which batches go out together."""

from __future__ import annotations

from producer_pool.model.batch import Batch
from producer_pool.toolkit.streams.grouping import JOINED, group


def batches(*sizes: int) -> list[Batch]:
    return [Batch.of([b"x" * size]) for size in sizes]


def test_small_ones_go_together() -> None:
    """As many as are small together, from where one is; the rest is left for the next time."""
    given = batches(*[JOINED // 4] * 6)

    assert group(given, 0) == given[:4]
    assert group(given, 4) == given[4:]


def test_all_of_them() -> None:
    """If they are few, nothing is copied."""
    given = batches(1, 2, 3)

    assert group(given, 0) is given
    assert group(given, 2) == given[2:]


def test_large_one_goes_alone() -> None:
    """It is not joined to those before or behind it."""
    given = batches(10, JOINED + 1, 10)

    assert group(given, 0) == given[:1]
    assert group(given, 1) == given[1:2]
    assert group(given, 2) == given[2:]
