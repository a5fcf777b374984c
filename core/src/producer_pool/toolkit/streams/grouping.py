"""Which batches go out together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from producer_pool.model.batch import Batch

__all__ = ["JOINED", "group"]

JOINED: Final = 64 * 1024
"""Small batches are joined up to this size: for them one copy and one send are cheaper than sendmsg()."""


def group(batches: Sequence[Batch], start: int) -> Sequence[Batch]:
    """Return the batches from *start* on that go out together: one, or as many as are small together."""
    total = 0
    for index in range(start, len(batches)):
        total += batches[index].nbytes
        if total > JOINED:
            return batches[start : max(index, start + 1)]
    return batches[start:] if start else batches
