"""How much room on its disk a spool needs for the next batches, and for what has to follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from producer_pool.storage.database import PAGE, Database
from producer_pool.storage.record import Pending

__all__ = ["room_for"]

_SPARE: Final = 2 * 1024 * 1024
"""Bytes for noting where producers are, until the log is moved again."""
_PAGES: Final = 8
"""Pages that a transaction writes beside those of its rows."""


def room_for(database: Database, batches: Sequence[Pending], logged: int) -> int:
    """
    Return the bytes that storing *batches* in the database takes, and moving its log into it afterwards.

    Of the log, *logged* bytes are in use. What is free within the files need not be had.
    """
    pages = sum([one.nbytes + min(one.nbytes, PAGE) for one in batches]) + _PAGES * PAGE
    log = max(0, logged + pages - database.log_nbytes())
    free = database.file_nbytes() - database.used_nbytes()
    return log + max(0, database.growth()) + max(0, pages - free) + _SPARE
