"""What is handed to whoever keeps dead letters: messages that were given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Outcome

__all__ = ["GivenUp"]


class GivenUp(NamedTuple):
    """Messages of one batch that one producer gave up, for one reason."""

    batch: Batch
    indexes: Sequence[int]
    """Which messages of the batch; they rise."""
    outcome: Outcome
    error: DeliveryError
    attempts: int
    accepted: float | None
    """When they were accepted, in seconds of the loop's clock; None: just now."""
