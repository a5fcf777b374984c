"""What is on its way through the store."""

from __future__ import annotations

from typing import NamedTuple

from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch

__all__ = ["Incoming"]


class Incoming(NamedTuple):
    """A batch on its way into the store, and then to its lanes. What all of them ask is asked once."""

    page: Page
    batch: Batch
    messages: int
    size: int
    """As by stored_size()."""
    accepted: float
    """When it was, by the clock of the loop."""
