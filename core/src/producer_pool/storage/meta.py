"""The small values of a database by their names: where producers are, and what belongs to all of it."""
# Rule: each has a checksum with its name in it, and there are no other names. One changed bit
# could tell that a producer is not there, or is done with all: nobody would miss what was dropped for that.

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Final

__all__ = ["AT", "PAYLOADS", "Meta"]

AT: Final = "at:"
"""Before the name of a producer: where it is. In one table with the rest, so that one page is written."""

PAYLOADS: Final = "payloads:"
"""Before the number of a file of payloads: how much is in it."""

_TRIAL: Final = "trial"
"""What was written only to see whether it can be. It may be large, and is worth nothing."""
_NAMES: Final = {"format", "identity", "resend", "total", "total_nbytes"}
"""Another one is damage. So the format version grows when there is one more."""


class Meta:
    """The table `meta` of an open database. Every method may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: Final = connection

    def check(self) -> None:
        """
        See that all of it is what was written.

        Raises:
            sqlite3.DatabaseError: it is not.
        """
        # All rows, one after the other: to look one up, its name has to be right.
        for name, value, checksum in self._connection.execute(
            "SELECT name, value, checksum FROM meta WHERE name IS NOT ?", (_TRIAL,)
        ):
            known = isinstance(name, str) and (name in _NAMES or name.startswith((AT, PAYLOADS)))
            if not known or _checksum(name, value) != checksum:
                raise sqlite3.DatabaseError("what it says of itself or of producers is not what was written")

    def get(self, name: str) -> object:
        """Return a value that was kept under *name*."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set(self, name: str, value: int | str | bytes) -> None:
        """Keep a value under *name*."""
        self._connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, _checksum(name, value))
        )

    def remove(self, name: str) -> None:
        """Keep none under *name*."""
        self._connection.execute("DELETE FROM meta WHERE name = ?", (name,))

    def behind(self, prefix: str) -> dict[str, str]:
        """Return the values whose names begin so, by what follows."""
        found: Iterable[tuple[str, str]] = self._connection.execute(
            "SELECT name, value FROM meta WHERE name >= ? AND name < ?", (prefix, f"{prefix[:-1]};")
        ).fetchall()
        return {name.removeprefix(prefix): value for name, value in found}

    def try_to_write(self, nbytes: int) -> None:
        """Have *nbytes* written that are worth nothing."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, zeroblob(?), 0)", (_TRIAL, nbytes))

    def end_trial(self) -> None:
        """Take them back."""
        self.remove(_TRIAL)


def _checksum(name: str, value: object) -> int:
    return zlib.crc32(f"{name}\0{value!r}".encode(errors="surrogatepass"))
