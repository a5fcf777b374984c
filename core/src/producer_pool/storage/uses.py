"""Which files of payloads are needed: how many rows are in each, and which may be begun anew."""
# Rule: nothing here touches a disk. A file is free only when it is safe from a power cut that no row is in it
# any more: a row that came back would find what was written over its payload.

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from producer_pool.storage.segments import Place

__all__ = ["Use", "Uses"]


_RESTING: Final = 8
"""Files that may wait for it to be safe that nothing is in them, if another sync is needed for it."""


class Use(NamedTuple):
    """What is in one file."""

    generation: int
    rows: int = 0
    nbytes: int = 0
    """What these take of it."""

    def as_text(self) -> str:
        """Write it as from_text() reads it."""
        return f"{self.generation} {self.rows} {self.nbytes}"

    @classmethod
    def from_text(cls, text: object) -> Use:
        """
        Read what as_text() wrote.

        Raises:
            ValueError: it is nothing of the kind.
        """
        generation, rows, nbytes = map(int, str(text).split())
        return cls(generation, rows, nbytes)


class Uses:
    """Counts rows along with the transactions of the database, which keeps what is counted."""

    def __init__(self, known: dict[int, Use]) -> None:
        self._known: Final = known
        """As it was committed last, and the file that is written to, with rows or without."""
        self._changed: dict[int, Use] = {}
        """As it is in this transaction."""
        self._current: int | None = None
        self._ended: set[int] = set()
        """Those that were ended since the last transaction, with rows or without."""
        self._resting: list[int] = []
        """Without rows, which is not safe from a power cut yet."""
        self._free: list[int] = []
        """Without rows, and that is."""

    # -- files -------------------------------------------------------------------------------------

    def begin(self, segment: int, generation: int) -> None:
        """Note that a file is begun anew, and written to from now on."""
        self._current = segment
        self._known[segment] = Use(generation)

    def end(self) -> None:
        """Note that no more is written to it."""
        segment, self._current = self._current, None
        if segment is not None:
            self._ended.add(segment)  # Rows of it may be on their way into the database.

    def found(self, segment: int) -> None:
        """Note that there is a file without a row, which may not be safe from a power cut yet."""
        self._resting.append(segment)

    def take(self) -> int:
        """Return a file to begin anew: a free one, or one that is not there yet."""
        if self._free:
            return self._free.pop()
        taken = {*self._known, *self._resting}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def give(self, keep: int = 0) -> list[int]:
        """Return free files that are to be removed, so that only *keep* are left."""
        some = self._free[: max(0, len(self._free) - keep)]
        del self._free[: len(some)]
        return some

    @property
    def idle(self) -> bool:
        """Whether there are files without rows that nothing is written to."""
        return bool(self._resting or self._free)

    @property
    def spare(self) -> bool:
        """Whether there is a file that may be begun anew."""
        return bool(self._free)

    @property
    def unsafe(self) -> bool:
        """Whether there are files without rows, which is not safe from a power cut yet."""
        return bool(self._resting)

    @property
    def wants_safety(self) -> bool:
        """Whether no file is free, and many would be if it were safe that nothing is in them."""
        return not self._free and len(self._resting) >= _RESTING

    def known(self) -> Collection[int]:
        """Return the files with rows, and the one that is written to."""
        return self._known.keys()

    def of(self, segment: int) -> Use:
        """Return what is in a file of known()."""
        return self._known[segment]

    def sparsest(self, nbytes: int) -> tuple[int, int, int] | None:
        """Return the file whose rows take least, its generation and its rows; None: these take *nbytes*."""
        found = [(use.nbytes, segment) for segment, use in self._known.items() if segment != self._current]
        least, segment = min(found, default=(nbytes, -1))
        if least >= nbytes:
            return None
        use = self._known[segment]
        return segment, use.generation, use.rows

    # -- transactions ------------------------------------------------------------------------------

    def added(self, data: object) -> None:
        """Note that a row with this place is in the database now."""
        self._count(data, 1)

    def removed(self, data: object) -> None:
        """Note that one is in it no more."""
        self._count(data, -1)

    def _count(self, data: object, sign: int) -> None:
        place = Place.unpack(data)
        if place is None:
            return
        use = self._changed.get(place.segment) or self._known.get(place.segment)
        if use is None:
            if sign < 0:
                return
            use = Use(place.generation)
        if use.generation == place.generation:  # Else it was there before the file was begun anew.
            self._changed[place.segment] = Use(
                use.generation, use.rows + sign, use.nbytes + sign * place.room
            )

    def emptied(self, segment: int, generation: int | None = None) -> None:
        """Note that no row of a file is in the database; *generation*: it was begun anew with that."""
        self._changed[segment] = Use(self._known[segment].generation if generation is None else generation)

    def changes(self) -> dict[int, Use]:
        """Return what is another now; a file without rows need not be kept."""
        return self._changed

    def committed(self) -> None:
        """Note that the transaction is committed."""
        self._known.update(self._changed)
        self._ended.update(self._changed)
        self._changed = {}
        self.settle()

    def rolled_back(self) -> None:
        """Note that the transaction never was."""
        self._changed = {}
        self.settle()

    def settle(self) -> None:
        """Note that no row is on its way into the database."""
        for segment in self._ended - {self._current}:
            if self._known[segment].rows <= 0:
                del self._known[segment]
                self._resting.append(segment)
        self._ended = set()

    def safe(self) -> None:
        """Note that what was committed is safe from a power cut."""
        self._free += self._resting
        self._resting = []
