"""Rows that can be read of a spool without SQLite: from pages, and from the heads of payloads."""
# Rule: as in rawpages.py: whatever the bytes are, this ends, and what it yields was checked.

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path

from producer_pool.storage.payload_files import PayloadFiles, PayloadReader
from producer_pool.storage.rawpages import raw_rows
from producer_pool.storage.record import Row, checked
from producer_pool.storage.segments import Place

__all__ = ["remaining_rows", "rows_behind"]


def remaining_rows(database: Path, log: Path, identity: bytes | None) -> Generator[Row, None, None]:
    """
    Yield the rows of *database*, its *log*, and its files of payloads, with their payloads, in no order.

    One may come twice, or be one that was removed. *identity*: whose payloads; None: it is not known.

    Raises:
        OSError: a file cannot be read now, such as for want of descriptors: what is in it is not lost.
    """
    files = PayloadFiles(database)
    identity = identity or files.identity()
    if identity is None:
        yield from raw_rows(database, log)
        return
    newest = _newest(files, identity)
    seen: set[int] = set()

    def payload(data: object, number: int) -> bytes | None:
        place = Place.unpack(data)
        # What was begun anew since had been settled.
        if place is None or number in seen or newest.get(place.segment) != place.generation:
            return None
        try:
            return reader.read(data, number)
        except FileNotFoundError:
            return None

    with closing(PayloadReader(files, identity)) as reader:
        for row in raw_rows(database, log, payload):
            if row.place is not None:
                seen.add(row.number)
            yield row
        for segment in files.numbers():
            for record in files.records(segment, identity):
                place, row = record.place, record.row
                columns = (*row[:-2], payload(place.pack(), row.number), place.pack())
                if place.segment == segment and (found := checked(columns)):
                    seen.add(found.number)
                    yield found


def rows_behind(files: PayloadFiles, identity: bytes, number: int) -> Generator[Row, None, None]:
    """
    Yield the rows of batches behind *number* whose payloads are whole, as their heads tell, in no order.

    Files without such batches are not read, but for their first heads.

    Raises:
        OSError: as by remaining_rows().
    """
    begun: dict[int, int] = {}
    for segment in files.numbers():
        first = files.first(segment)
        if first is not None and (first.identity, first.place.segment) == (identity, segment):
            begun[segment] = first.place.generation
    # One file was written after the other: that number may be within one of them.
    within = max((one for one in begun.values() if one <= number), default=number)
    with closing(PayloadReader(files, identity)) as reader:
        for segment, generation in begun.items():
            if generation < within:
                continue
            for record in files.records(segment, identity):
                place, row = record.place, record.row
                if (place.segment, place.generation) != (segment, generation) or row.number <= number:
                    continue
                with suppress(FileNotFoundError):
                    columns = (*row[:-2], reader.read(place.pack(), row.number), place.pack())
                    if found := checked(columns):
                        yield found


def _newest(files: PayloadFiles, identity: bytes) -> dict[int, int]:
    """Return the generation with which each file was begun last."""
    return {
        segment: max(
            (
                record.place.generation
                for record in files.records(segment, identity)
                if record.place.segment == segment
            ),
            default=0,
        )
        for segment in files.numbers()
    }
