"""The values that say what a fault proxy does."""

from collections.abc import Callable

import pytest

from producer_pool import UsageError
from producer_pool.testing import Faults, Traffic


def test_no_faults() -> None:
    """Made without arguments, it says that nothing happens; so recovering means to set that."""
    assert Faults() == Faults(0.0, 0.0, None, None, None, False, False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Faults(delay=-1),
        lambda: Faults(slice=0),
        lambda: Faults(bandwidth=0),
        lambda: Faults(reset_after=-1),
    ],
)
def test_faults_that_cannot_be(make: Callable[[], Faults]) -> None:
    """A number that means nothing is refused where it is written."""
    with pytest.raises(UsageError, match="Faults: "):
        make()


def test_counters_are_shown() -> None:
    """Somebody who prints them sees both."""
    traffic = Traffic()
    traffic.passed = 5

    assert repr(traffic) == "<Traffic passed=5 swallowed=0>"
