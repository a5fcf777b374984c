"""Dead letters for programs: look through a folder, take messages out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

from producer_pool.storage.dead_letters import LetterFile
from producer_pool.storage.dead_letters_values import Letter

__all__ = ["DeadLetter", "DeadLetterFolder", "open_dead_letters"]


@dataclass(frozen=True, slots=True)
class DeadLetter(Letter):
    """
    Messages that one producer gave up in a row, for one reason.

    Times are in seconds since 1970, as of ``time.time()``.
    """

    messages: tuple[bytes, ...] | None = None
    """Its messages; None: they are damaged."""


class DeadLetterFolder:
    """
    The dead letters of one folder, for the thread that opened it: see open_dead_letters().

    A pool may go on writing to it, and what it writes meanwhile comes at the end.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._file = LetterFile(folder, new=False)

    def __iter__(self) -> Iterator[DeadLetter]:
        """
        Yield the letters, the oldest first, each read when it is its turn.

        Raises:
            StorageError: the file cannot be read.
        """
        for letter in self._file.letters():
            found = self._file.messages(letter.number)
            if found is not None:  # Else somebody removed it meanwhile.
                known = {field.name: getattr(letter, field.name) for field in fields(Letter)}
                messages = None if found[1] is None else tuple(found[1])
                yield DeadLetter(**known, messages=messages)

    def remove(self, letter: DeadLetter) -> bool:
        """
        Remove a letter for good; say whether it was still there.

        Raises:
            StorageError: the file cannot be changed.
        """
        return self._file.remove([letter.number]) > 0

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self._file.path.parent)!r}>"


def open_dead_letters(folder: str | os.PathLike[str]) -> DeadLetterFolder:
    """
    Open the folder that a policy's ``dead_letters`` names.

    ::

        with open_dead_letters("letters") as letters:
            for letter in letters:
                print(letter.producer_id, letter.reason, letter.messages)
                letters.remove(letter)

    Raises:
        StorageError: there are no letters, or they cannot be read.
    """
    return DeadLetterFolder(folder)
