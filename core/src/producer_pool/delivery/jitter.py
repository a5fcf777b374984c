"""Where the random part of a backoff comes from: the process, or a test that wants the same run again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

__all__ = ["jitter"]


def _draw() -> float:
    # As random.SystemRandom does it; to import that takes a millisecond, for a number now and then.
    return (int.from_bytes(os.urandom(7)) >> 3) * 2.0**-53


# Of the context, as the time is of the loop: who seeds a run need not reach the pools that are made in it.
jitter: Final[ContextVar[Callable[[], float]]] = ContextVar("producer_pool.jitter", default=_draw)
"""What a producer calls for a number in [0, 1), for each wait before a reconnect."""
