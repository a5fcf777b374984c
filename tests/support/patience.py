"""Pools that are given time at their end: a disk that takes a second for a write then loses nothing."""

import pytest

from producer_pool import pool
from producer_pool.dead_letter_office import DeadLetterOffice
from producer_pool.delivery import engine
from support.waiting import BOUND

__all__ = ["end_patiently"]


def end_patiently(patch: pytest.MonkeyPatch) -> None:
    """Have spools, dead letters and threads of pools end in their own time, and not in a second or so."""
    patch.setattr(engine, "CLOSING", BOUND)
    patch.setattr(pool, "GRACE", BOUND)
    patch.setattr(DeadLetterOffice.aclose, "__defaults__", (BOUND,))
