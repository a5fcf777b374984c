"""What a listener reads into: one buffer for all of its connections, and what a read costs."""

from __future__ import annotations

from typing import Final

from producer_pool.contract.ports import Intake

__all__ = ["BITE_COST", "COST", "HANDSHAKE_COST", "TURN", "ReadBuffer"]

_FIRST: Final = 64 * 1024
_LARGE: Final = 768 * 1024
"""
What a batch costs is paid a third as often as with 256 KiB. More would be above the usual limit of a message,
and then each batch is gone through for messages that are too long.
"""

TURN: Final = 1024 * 1024
"""Bytes read in one turn of the loop, before others have theirs. All work is counted in bytes:"""
COST: Final = 4 * 1024
"""a read counts as at least so many,"""
BITE_COST: Final = 256 * 1024
"""a whole bite of a connection as so many, and"""
HANDSHAKE_COST: Final = 128 * 1024
"""a step of a handshake, which may take a millisecond, as so many."""


class ReadBuffer:
    """
    Bytes that were read, until the next read. Small until a connection has more than it holds.

    Of an intake that has a `bite`, larger ones are no more than that.
    """

    __slots__ = ("data", "most", "view")

    def __init__(self) -> None:
        self.most = _LARGE
        """What it may grow to."""
        self._make(_FIRST)

    def fit(self, size: int, intake: Intake) -> None:
        """Be told that *size* bytes were read for *intake*, and are not needed any more."""
        if size == len(self.data):
            wanted = max(_FIRST, min(self.most, int(getattr(intake, "bite", self.most))))
            if wanted != size:
                self._make(wanted)

    def _make(self, size: int) -> None:
        self.data = bytearray(size)
        self.view = memoryview(self.data)
