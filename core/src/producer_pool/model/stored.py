"""What a spool gives back: stored batches, and what still lies there for one producer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from producer_pool.model.batch import Batch
from producer_pool.model.fieldwise import Fieldwise

__all__ = ["ROW_OVERHEAD", "Backlog", "StoredBatch", "stored_size"]

ROW_OVERHEAD: Final = 64
"""Bytes counted for each batch in a spool, on top of its own."""


def stored_size(batch: Batch) -> int:
    """Return the bytes that *batch* counts for wherever bytes in a spool are counted."""
    return batch.nbytes + ROW_OVERHEAD


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StoredBatch(Fieldwise):
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
    """As by stored_size()."""
