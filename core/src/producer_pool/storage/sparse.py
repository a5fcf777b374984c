"""Rows whose file of payloads is hardly needed any more, or is not theirs any more."""

from __future__ import annotations

from typing import Final

from producer_pool.storage.database import Database
from producer_pool.storage.positions import Span
from producer_pool.storage.segments import Place

__all__ = ["drop_overwritten", "give_up_sparse"]

_PART: Final = 4
"""A file of which less than this part is needed is given up, if room is."""
_AT_ONCE: Final = 4
"""Files that are given up at once. Who wants something else waits meanwhile."""


def give_up_sparse(database: Database) -> bool:
    """Move what is needed of files that are nearly empty into the database; return whether there were any."""
    payloads = database.payloads
    for done in range(_AT_ONCE):
        found = payloads.uses.sparsest(payloads.size // _PART)
        if found is None:
            return done > 0
        _move_in(database, *found)
    return True


def _move_in(database: Database, segment: int, generation: int, rows: int) -> None:
    """Move the *rows* whose payloads are in *segment* into the database, in a transaction of its own."""
    places = []
    for _, number, data in database.places(generation - 1):
        if _is_in(data, segment, generation):
            places.append((number, data))
            if len(places) == rows:
                break
    database.begin()
    database.move_in(places)
    payloads = database.payloads
    payloads.uses.emptied(segment)
    database.commit()


def drop_overwritten(database: Database) -> list[Span]:
    """
    Remove rows whose payloads were written over, and return which batches these were; within a transaction.

    That happens only when all are done with them, and it is safe that they are. So this is a database
    of an earlier moment, or its disk had not what it said to have.
    """
    spans = []
    for segment, newest in database.payloads.newer_files().items():
        generation = database.payloads.uses.of(segment).generation
        for first, number, data in database.places(-1):
            if _is_in(data, segment, generation):
                spans.append((first - 1, number))
        database.payloads.uses.emptied(segment, newest)
    database.drop([number for _, number in spans])
    return spans


def _is_in(data: object, segment: int, generation: int) -> bool:
    place = Place.unpack(data)
    return place is not None and (place.segment, place.generation) == (segment, generation)
