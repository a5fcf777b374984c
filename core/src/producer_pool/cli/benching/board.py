"""What the processes of a bench tell each other while they are busy: numbers in memory that they share."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Board"]

_NUMBER: Final = 8


class Board:
    """
    For each producer: when its latest writes were due, and how far each consumer has got.

    Each number has one process that writes it, and is written and read whole.
    """

    def __init__(self, path: Path, *, producers: int, consumers: int, slots: int) -> None:
        """Open it; a *path* at which nothing is becomes a new one, all zero."""
        self.slots = slots
        """Writes of a producer that can be told apart."""
        numbers = producers * (consumers + slots)
        with path.open("ab+") as file:
            file.truncate(numbers * _NUMBER)
            self._memory = mmap.mmap(file.fileno(), numbers * _NUMBER)
        whole = memoryview(self._memory)
        self._all = whole.cast("q")
        reached = producers * consumers
        self.reached = [self._all[at : at + consumers] for at in range(0, reached, consumers)]
        """By producer and consumer: messages that have come there."""
        self.due = [self._all[at : at + slots] for at in range(reached, numbers, slots)]
        """By producer and write, modulo `slots`: nanoseconds of the monotonic clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for view in (*self.reached, *self.due, self._all):
            view.release()
        self._memory.close()
