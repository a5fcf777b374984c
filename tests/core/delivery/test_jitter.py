"""Where the random part of a backoff comes from."""

from producer_pool.delivery.jitter import jitter


def test_numbers_that_are_drawn() -> None:
    """They lie in [0, 1), all over it, and no two are the same."""
    draw = jitter.get()
    numbers = [draw() for _ in range(1000)]

    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) == len(numbers)
    assert {int(number * 4) for number in numbers} == {0, 1, 2, 3}
