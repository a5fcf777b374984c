"""The breaker: when there is another attempt, and how careful it is."""

import pytest

from producer_pool.delivery.breaker import Breaker
from producer_pool.model.policies import Retry

NOW = 1000.0
HOLDS = Retry()
DIRECT = Retry(attempts=1)


def failed(
    breaker: Breaker, now: float = NOW, *, lasted: float = 0.0, useful: bool | None = False, draw: float = 0.5
) -> bool:
    return breaker.failed(now, lasted=lasted, useful=useful, draw=draw)


def test_failures_in_a_row() -> None:
    """The wait is drawn from a range that doubles, up to the longest."""
    breaker = Breaker(HOLDS)
    waits = []
    for _ in range(12):
        assert failed(breaker)
        waits.append(breaker.retry_at - NOW)

    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15, 15, 15])


def test_connection_that_lasted() -> None:
    """It makes the backoff start anew; one that took messages and did not last does not."""
    breaker = Breaker(HOLDS)
    for _ in range(6):
        failed(breaker)

    assert failed(breaker, lasted=9.9, useful=True)
    assert breaker.failures == 7

    assert failed(breaker, lasted=10)
    assert breaker.failures == 1


def test_direct_producer_after_a_connection_of_use() -> None:
    """It may try again at once, and nothing failed."""
    breaker = Breaker(DIRECT)

    assert not failed(breaker, useful=True, lasted=0.01)
    assert breaker.retry_at == NOW
    assert not failed(breaker, lasted=60)
    assert failed(breaker, lasted=0.01)
    assert breaker.retry_at > NOW
    assert failed(breaker, lasted=60, useful=None)


def test_care() -> None:
    """It comes with a connection that got nowhere, stays while there is none, and goes with progress."""
    breaker = Breaker(HOLDS)
    care = []
    for handed, passed in ((0, 0), (5, 0), (0, 0), (5, 1), (0, 0)):
        breaker.learn(handed, passed)
        care.append(breaker.careful)

    assert care == [False, True, True, False, False]


def test_connection_that_was_closed_when_it_was_idle() -> None:
    """It did what it was asked for, so the backoff starts anew; not so if something was in flight."""
    breaker = Breaker(HOLDS)
    for _ in range(6):
        breaker.learn(5, 4)
        failed(breaker, useful=True)
    assert breaker.failures == 6

    breaker.learn(5, 5)
    failed(breaker, useful=True)

    assert breaker.failures == 1


def test_connection_that_lasted_and_got_nowhere() -> None:
    """A consumer that takes messages and never acknowledges one is not stable for that long."""
    breaker = Breaker(HOLDS)
    for _ in range(6):
        breaker.learn(1, 0)
        failed(breaker, lasted=10, useful=True)

    assert breaker.failures == 6
