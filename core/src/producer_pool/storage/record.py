"""One row of a spool: a batch, or small ones that waited together, with a checksum over all that matters."""
# Rule: what a row holds is read through checked() alone: bytes from a disk are believed for their checksum.

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from producer_pool.model.batch import Batch
from producer_pool.model.framing import FRAMINGS, LENGTH4, Framing
from producer_pool.model.stored import ROW_OVERHEAD, StoredBatch

__all__ = [
    "MERGED_BYTES",
    "ONE_BY_ONE",
    "Pending",
    "Row",
    "checked",
    "grouped",
    "part_nbytes",
    "parts_in",
    "quoted",
    "row_of",
    "stored",
    "targets_of",
    "targets_text",
]

ONE_BY_ONE: Final = ""
"""What stands for a framing where messages came one by one. In the spool they are framed by length4."""

MERGED_BYTES: Final = 64 * 1024
"""Bytes of small batches that are made one row. A damaged page costs its whole row, so no more than that."""

_PART: Final = struct.Struct("<II")
_HEAD: Final = struct.Struct("<qqqqqqdqd")
_BY_NAME: Final = {framing.name: framing for framing in FRAMINGS}


class Pending(NamedTuple):
    """A batch that waits to be stored."""

    number: int
    form: tuple[Framing, bytes] | list[bytes]
    messages: int
    nbytes: int
    """As by stored_size()."""
    targets: str | None
    origin: str
    received: float
    """On the monotonic clock."""


class Row(NamedTuple):
    """The columns of a row, in their order."""

    number: int
    """The number of its last batch."""
    first: int
    """That of its first."""
    messages: int
    nbytes: int
    total: int
    """Messages stored before it, ever, of those that were for all producers: a gap shows what is lost."""
    total_nbytes: int
    """The same in bytes."""
    wall: float
    """The wall clock, for people; nothing is decided by it."""
    boot: int
    clock: float
    """Since boot, when the oldest of its batches was accepted."""
    framing: str
    origin: str
    targets: str | None
    """JSON; None: for all who had joined."""
    checksum: int
    parts: bytes | None
    """Of several batches: messages and bytes of payload of each."""
    payload: bytes
    """Empty where it has a place of its own."""
    place: bytes | None = None
    """Which that is: see segments.py."""


def _merges(one: Pending, other: Pending, size: int) -> bool:
    """Return whether *other* may follow *one* in a row which has *size* bytes already."""
    return (
        size + other.nbytes <= MERGED_BYTES
        and one.number + 1 == other.number
        # Those for some only are counted by whole rows: see Database.targeted().
        and one.targets is None
        and other.targets is None
        and one.origin == other.origin
        and (isinstance(one.form, list) if isinstance(other.form, list) else _same(one.form, other.form[0]))
    )


def _same(form: tuple[Framing, bytes] | list[bytes], framing: Framing) -> bool:
    return not isinstance(form, list) and form[0] is framing


def grouped(batches: Sequence[Pending]) -> Iterator[list[Pending]]:
    """Yield *batches* in their order, those together that are made one row."""
    group: list[Pending] = []
    size = 0
    for batch in batches:
        if group and not _merges(group[-1], batch, size):
            yield group
            group, size = [], 0
        group.append(batch)
        size += batch.nbytes
    if group:
        yield group


def row_of(batches: Sequence[Pending], total: int, total_nbytes: int, boot: int, since_boot: float) -> Row:
    """Make one row of *batches*, which merge; *since_boot* is now."""
    first, last = batches[0], batches[-1]
    pieces = []
    framing = ONE_BY_ONE
    for batch in batches:
        framing, payload = _payload(batch.form)
        pieces.append(payload)
    parts = None
    if len(batches) > 1:
        sizes = zip(batches, pieces, strict=True)
        parts = b"".join([_PART.pack(batch.messages, len(payload)) for batch, payload in sizes])
    row = Row(
        last.number,
        first.number,
        sum([batch.messages for batch in batches]),
        sum([batch.nbytes for batch in batches]),
        total,
        total_nbytes,
        time.time(),
        boot,
        min(since_boot, since_boot - (time.monotonic() - first.received)),
        framing,
        first.origin,
        first.targets,
        0,
        parts,
        pieces[0] if parts is None else b"".join(pieces),
    )
    return row._replace(checksum=_checksum(row))


def _payload(form: tuple[Framing, bytes] | list[bytes]) -> tuple[str, bytes]:
    """Return the framing's name and the bytes in which messages of *form* are stored."""
    if isinstance(form, list):
        return ONE_BY_ONE, LENGTH4.encode(form)
    framing, wire = form
    if _BY_NAME.get(framing.name) is framing:
        return framing.name, wire
    # One of a plugin: it may not be there when this is read.
    return ONE_BY_ONE, LENGTH4.encode(framing.split(wire))


def _checksum(row: Row) -> int:
    head = _HEAD.pack(*row[:9])
    words = f"{row.framing}\0{row.origin}\0{row.targets}".encode(errors="surrogatepass")
    return zlib.crc32(row.payload, zlib.crc32(row.parts or b"", zlib.crc32(words, zlib.crc32(head))))


def checked(columns: Sequence[object]) -> Row | None:
    """Return *columns*, as read from a disk, as a row; None: they are not what was written there."""
    try:
        row = Row(*columns)  # type: ignore[arg-type]
        if type(row.payload) is not bytes or row.framing not in (ONE_BY_ONE, *_BY_NAME):
            return None
        # The checksum does not tell where parts end and the payload begins.
        if row.parts is not None and (not row.parts or len(row.parts) % _PART.size):
            return None
        return row if _checksum(row) == row.checksum else None
    except (TypeError, ValueError, struct.error, AttributeError):
        return None


@lru_cache(maxsize=1000)
def targets_text(producer_ids: tuple[str, ...]) -> str:
    """Write the producers that a batch is for as targets_of() reads them."""
    return f"[{', '.join(map(quoted, sorted(set(producer_ids))))}]"


def quoted(producer_id: str) -> str:
    """Return *producer_id* as it stands in a list of targets: no other name holds it, quotes and all."""
    inside = json.dumps(producer_id)[1:-1]
    inside = inside.replace("\\\\", "\\u005c").replace('\\"', "\\u0022")
    return f'"{inside}"'


@lru_cache(maxsize=1000)
def targets_of(text: str) -> frozenset[str]:
    """Return the producers that *text*, the targets of a row, names."""
    return frozenset(json.loads(text))


def parts_in(parts: bytes | None, number: int, count: int, size: int) -> list[tuple[int, int, int]]:
    """Return number, messages and bytes of payload of each batch in the row *number*."""
    if parts is None:
        return [(number, count, size)]
    found = list(_PART.iter_unpack(parts))
    start = number - len(found) + 1  # Their numbers have no gaps: see _merges().
    return [(start + index, some, length) for index, (some, length) in enumerate(found)]


def stored(row: Row, after: int, age: float) -> list[StoredBatch]:
    """Return the batches of *row* behind number *after*, as they were when they were stored."""
    received = time.monotonic() - age
    batches = []
    position = 0
    for number, count, size in parts_in(row.parts, row.number, row.messages, len(row.payload)):
        if number > after:
            wire = row.payload if row.parts is None else row.payload[position : position + size]
            if row.framing == ONE_BY_ONE:
                batch = Batch.owning(LENGTH4.split(wire), received=received, origin=row.origin)
            else:
                framing = _BY_NAME[row.framing]
                batch = Batch.from_wire(wire, framing, count, received=received, origin=row.origin)
            batches.append(StoredBatch(number, batch, age))
        position += size
    return batches


def part_nbytes(framing: str, count: int, size: int) -> int:
    """Return what a batch of *size* bytes of payload counts for: see stored_size()."""
    return size - (4 * count if framing == ONE_BY_ONE else 0) + ROW_OVERHEAD
