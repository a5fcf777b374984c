"""A connection as nothing but a stream of frames, for who sends the same bytes to many."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from producer_pool.model.batch import Batch
from producer_pool.model.framing import Framing

__all__ = ["INTERRUPTED", "Stream"]

INTERRUPTED: Final = InterruptedError(errno.EINTR, "interrupted while something was sent")
"""What a connection ends with if a signal's exception came between a send and the account of it."""


class Stream(ABC):
    """
    Sends the bytes of whole batches on one connection of a PipelinedClient, past its start().

    The client learns of them by passed() and took(), in their order. Until then it is given nothing else, and
    its settled() does not know of them. Valid as long as the connection lasts.
    """

    framing: Framing
    """In which the batches have to be."""
    send: Callable[[bytes], int]
    """Give bytes to the kernel, and return how many it took: as send() of a socket that does not block."""
    lasting: bool = True
    """
    Whether unconfirmed() still knows all that was confirmed when the other side has ended the connection.
    Else what was not asked for before that is sent again, though it may have arrived.
    """
    ended: Callable[[], bool]
    """Whether any of those watched may have ended: one look for all streams that have this function."""

    @abstractmethod
    def watch(self, yes: bool) -> None:
        """Have ended() look at this one too, or not any more."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether this one may have ended, so that nothing more should be sent."""

    @abstractmethod
    def unconfirmed(self) -> int:
        """Return how many of the last bytes sent have not reached the level that was asked for."""

    @abstractmethod
    def passed(self, size: int, count: int) -> None:
        """Have the client know of *size* bytes in *count* messages that are confirmed, as is all before."""

    @abstractmethod
    def took(self, batch: Batch, sent: int) -> None:
        """Have the client know that the kernel took *sent* bytes of *batch*: it has to send the rest."""

    @abstractmethod
    def broke(self, error: OSError) -> None:
        """
        Have the client know that send() raised *error*, which was not that it would have to wait.

        INTERRUPTED: nobody knows how much of it was taken. It may end inside a frame, and not in good order.
        """
