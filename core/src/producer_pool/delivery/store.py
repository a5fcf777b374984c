"""What an engine needs of a durable store. The spool is one; tests have one in memory."""
# Rule: none of these calls waits for a disk. All are made on the loop, and so are the callbacks, in the order
# of the calls, and never inside of one. Bytes are those of stored_size().

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from producer_pool.model.batch import Batch
from producer_pool.model.stored import Backlog, StoredBatch

__all__ = ["Store"]


class Store(Protocol):
    """Keeps batches until each of the producers that they are for is done with them."""

    @property
    def place(self) -> str:
        """Where it is, for people: the path of its folder."""

    @property
    def trouble(self) -> str | None:
        """What keeps it from storing just now, with the next step, such as a full disk; None: nothing."""

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be written that sources should wait."""

    @property
    def excess(self) -> int:
        """Bytes by which it is larger than it may be; 0: it is not. Somebody has to skip something."""

    def start(
        self,
        changed: Callable[[], None],
        lost: Callable[[str, int, int, str], None],
    ) -> None:
        """
        Begin to work on the running loop.

        *changed* is called when `trouble`, `crowded` or `excess` did; *lost* with (producer, messages,
        bytes, why) when stored messages turned out to be gone: when reading for that producer passes over
        them, and before that reading is done. What was read for it is not among them: it is in memory.
        """

    def join(self, producer_id: str) -> Backlog:
        """Make *producer_id* one for whom batches are kept, and return what lies there for it from before."""

    def strangers(self) -> Mapping[str, Backlog]:
        """Return what lies there for producers that have not joined, each of them with something."""

    def leave(self, producer_id: str) -> None:
        """Keep nothing for *producer_id* any more: it was removed for good."""

    def append(self, batch: Batch, targets: Sequence[str] | None, done: Callable[[int | None], None]) -> None:
        """
        Store *batch* for *targets*; None: for all who have joined.

        *done* gets its number when it is stored as safely as was asked for, or None: it could not be, see
        `trouble`. Called in the order of append().
        """

    def read(
        self, producer_id: str, after: int, most: int, done: Callable[[Sequence[StoredBatch], int], None]
    ) -> None:
        """
        Read the batches for *producer_id* behind number *after*: about *most* bytes, one at the least.

        *done* gets them and the number up to which it has now been looked: beyond the last of them, if
        what follows is not for this producer or is gone.
        """

    def move(self, producer_id: str, number: int) -> None:
        """Note that all up to *number* is settled at *producer_id*. Written soon, not at once."""

    def skip_oldest(
        self, producer_id: str, after: int, nbytes: int, done: Callable[[int, int, int], None]
    ) -> None:
        """
        Drop the oldest batches for *producer_id* behind *after*, until at least *nbytes* bytes are gone.

        *done* gets the number up to which all is dropped now, their messages and their bytes.
        """

    def skip_expired(self, producer_id: str, after: int, done: Callable[[int, int, int], None]) -> None:
        """Drop, as skip_oldest() does, what is older than a stored message may become: see Spool.age."""

    async def aclose(self) -> None:
        """Write what waits to be written, cursors too, and let go of the disk. Bounded by the caller."""
