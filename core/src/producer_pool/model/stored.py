"""What a spool gives back: stored batches, and what still lies there for one producer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from producer_pool.model.batch import Batch

__all__ = ["Backlog", "StoredBatch"]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it was read back from a spool."""

    number: int
    """Its number in the spool: they rise, in the order in which batches were stored, and never come again."""
    batch: Batch
    age: float
    """Seconds since it was accepted, as far as this boot of the machine knows: no wall clock is asked."""


class Backlog(NamedTuple):
    """What a spool holds for one producer."""

    after: int
    """All up to this number is settled at this producer."""
    last: int
    """The number of the newest stored batch; `after` if nothing lies there for it."""
    messages: int
    nbytes: int
