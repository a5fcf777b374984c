"""Numbered messages, and the records that consumers keep of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ["SIZE", "Record", "message", "runs"]


def message(number: int) -> bytes:
    """Return message *number* as a line."""
    return b"message %08d\n" % number


SIZE: Final = len(message(1))


class Record:
    """The file that one consumer writes what it got into, across its lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __len__(self) -> int:
        """Return how many messages are in it, from its size alone."""
        return self.path.stat().st_size // SIZE

    def numbers(self) -> Iterator[int]:
        """
        Yield the numbers in it, in their order.

        Raises:
            ValueError: there is something else in it.
        """
        with self.path.open("rb") as file:
            for line in file:
                number = int(line.removeprefix(b"message "))
                if line != message(number):
                    raise ValueError(f"{line!r} is no message that was sent")
                yield number


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return *numbers* as runs of consecutive ones, first and last of each."""
    listed = list(numbers)
    if not listed:
        return []
    ends = [index for index, (one, other) in enumerate(pairwise(listed)) if other != one + 1]
    starts = [0, *(index + 1 for index in ends)]
    return [(listed[start], listed[end]) for start, end in zip(starts, [*ends, len(listed) - 1], strict=True)]
