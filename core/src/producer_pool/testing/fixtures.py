"""
A fixture for pytest. Nobody gets it who does not ask for it, in the conftest.py at the top of the tests:

    pytest_plugins = ["producer_pool.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from producer_pool.pool import ProducerPool

__all__ = ["producer_pool"]

_SETTLES: Final = 2.0
"""Seconds that messages have to be settled, after the test."""
_LOOK: Final = 0.02
"""Seconds between two looks whether they are. One that comes late counts for no more."""


@pytest.fixture
def producer_pool() -> Iterator[ProducerPool]:
    """
    Return a ProducerPool without producers, which is closed after the test.

    The test fails if it leaves messages that come to no outcome within two seconds: nobody would know
    what became of them. Messages that failed are fine, and so are those that the test cancels itself,
    with ``producer_pool.close(drain=0)``.
    """
    pool = ProducerPool()
    try:
        yield pool
        left = _left(pool)
    finally:
        pool.close(drain=0)
    if left:
        pytest.fail(
            f"messages without an outcome when the test ended: {left}; wait for their receipts, or close "
            "the pool in the test",
            pytrace=False,
        )


def _left(pool: ProducerPool) -> str:
    """Return which producers have messages that are not settled, and how many, once they had their time."""
    if pool.closed or not pool.producers:
        return ""
    if any(pool.drain(wait=_LOOK) for _ in range(round(_SETTLES / _LOOK))):
        return ""
    pending = {name: stats.pending for name, stats in pool.stats().producers.items()}
    return ", ".join(f"{name}: {count}" for name, count in pending.items() if count)
