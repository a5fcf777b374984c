"""Waiting for what has to come true, with a bound that a slow machine does not reach."""

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["BOUND", "eventually", "steady"]

T = TypeVar("T")

BOUND: Final = float(os.environ.get("TEST_BOUND", "20"))
"""Seconds after which a test fails whose condition does not come true."""


def eventually(condition: Callable[[], T], what: str) -> T:
    """Return the first true value of *condition*; fail, saying *what* did not come, after BOUND seconds."""
    give_up = time.monotonic() + BOUND
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {BOUND:g} s: {what}")
        time.sleep(0.002)
    return value


LOOK: Final = 0.02
"""Seconds that may count between two looks of steady()."""


def steady(look: Callable[[], T], seconds: float, what: str) -> T:
    """
    Return what *look* returns once it has been true, and has not changed, for so many seconds.

    It is looked at all the time: when this process stands still, so may others, and that counts little.
    """
    lasted = 0.0
    looked = time.monotonic()
    last = look()

    def lasts() -> bool:
        nonlocal lasted, looked, last
        found = look()
        now = time.monotonic()
        lasted += min(now - looked, LOOK)
        looked = now
        if found != last or not found:
            lasted, last = 0.0, found
        return lasted >= seconds

    eventually(lasts, what)
    return last
