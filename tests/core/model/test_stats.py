"""Counters and states."""

import pytest

from producer_pool.model.stats import Health, PoolStats, ProducerStats, State


def test_pending_is_what_is_left() -> None:
    """What was accepted and not settled is pending, so that the sum always holds."""
    stats = ProducerStats(accepted=10, delivered=4, failed=1, dropped=2, cancelled=1)

    assert stats.pending == 2
    assert ProducerStats().pending == 0


@pytest.mark.parametrize("state", State)
def test_health(state: State) -> None:
    """A producer that has nothing to do, or is just connecting, is not ill."""
    health = Health("audit", state, 0.0)

    assert health.ok == (state in (State.IDLE, State.CONNECTING, State.UP))


def test_empty_pool() -> None:
    """A pool without producers has counters, too."""
    assert (PoolStats().producers, PoolStats().buffered_bytes) == ({}, 0)
