"""A file of payloads: records, each with a head that says all of its row, so that no other file has to."""
# Rule: nothing is believed for its place: a head counts for its checksum and for whose it is, and a payload
# for the checksum of its row.

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from producer_pool.storage.record import Row

__all__ = ["ALIGN", "IDENTITY", "Place", "Record", "head_of", "padding", "payload_at", "records"]

ALIGN: Final = 4096
"""Where a record may begin. Whole pages are written, so none has to be read first."""

IDENTITY: Final = 16
"""Bytes by which a spool knows its own. They are told to nobody, so no message can look like a record."""

_MAGIC: Final = b"PPpayld2"
_FRONT: Final = struct.Struct("<8s16sIQII")
_NUMBERS: Final = struct.Struct("<qqqqqqdqdIiiii")
_SUM: Final = struct.Struct("<I")
_PLACE: Final = struct.Struct("<IQII")
_LEAST: Final = _FRONT.size + _NUMBERS.size + _SUM.size
_HEAD_AT_ONCE: Final = 512
_LONGEST_HEAD: Final = 1 << 24
_ZEROS: Final = bytes(ALIGN)


class Place(NamedTuple):
    """Where a payload is."""

    segment: int
    """The number of the file."""
    generation: int
    """The number of the batch with which that file was begun, which rises each time it is begun anew."""
    offset: int
    size: int
    """Bytes of the record, with its head."""

    def pack(self) -> bytes:
        """Write it as unpack() reads it."""
        return _PLACE.pack(*self)

    @classmethod
    def unpack(cls, data: object) -> Place | None:
        """Read what pack() wrote; None: it is nothing of the kind."""
        if not isinstance(data, bytes) or len(data) != _PLACE.size:
            return None
        return cls(*_PLACE.unpack(data))

    @property
    def room(self) -> int:
        """Return the bytes that it takes, up to where the next one may begin."""
        return -(-self.size // ALIGN) * ALIGN


class Record(NamedTuple):
    """What the head of a record says."""

    identity: bytes
    row: Row
    """Without its payload."""
    place: Place
    start: int
    """Where in the file the payload begins."""


def head_of(row: Row, identity: bytes, segment: int, generation: int) -> bytes:
    """Return the head of a record with the payload of *row*."""
    sizes, texts = _texts(row.framing, row.origin, row.targets)
    parts = row.parts
    numbers = _NUMBERS.pack(*row[:9], row.checksum, *sizes, -1 if parts is None else len(parts))
    if parts:
        texts += parts
    front = _FRONT.pack(_MAGIC, identity, segment, generation, _LEAST + len(texts), len(row.payload))
    head = front + numbers + texts
    return head + _SUM.pack(zlib.crc32(head))


@lru_cache(maxsize=1000)
def _texts(*texts: str | None) -> tuple[tuple[int, ...], bytes]:
    """Return the sizes of *texts* as they are written, -1 for None, and all of them in one piece."""
    words = [None if text is None else text.encode(errors="surrogatepass") for text in texts]
    return tuple([-1 if one is None else len(one) for one in words]), b"".join([one for one in words if one])


def padding(size: int) -> bytes:
    """Return what is written behind a record of *size* bytes, up to where the next one may begin."""
    return _ZEROS[: -size % ALIGN]


def payload_at(fd: int, place: Place, number: int, identity: bytes) -> bytes | None:
    """
    Return the payload of batch *number* at *place* of the file *fd*; None: it is not there.

    Raises:
        OSError: it cannot be read.
    """
    data = os.pread(fd, place.size, place.offset)
    found = _record(data, place.offset, identity)
    if found is None or found.place != place or found.row.number != number or len(data) < place.size:
        return None
    return data[found.start - place.offset :]


def records(fd: int, identity: bytes | None) -> Iterator[Record]:
    """
    Yield what the heads in the file *fd* say, wherever one is; *identity*: of that spool, None: of any.

    Those that were written before it was begun anew are among them, behind the newer ones.

    Raises:
        OSError: it is not known how long it is.
    """
    offset, end = 0, os.fstat(fd).st_size
    while offset < end:
        data = _read(fd, _HEAD_AT_ONCE, offset)
        if data.startswith(_MAGIC) and len(data) >= _FRONT.size:
            size = min(_FRONT.unpack_from(data)[4], _LONGEST_HEAD)
            if size > len(data):
                data = _read(fd, size, offset)
        record = _record(data, offset, identity)
        if record is not None:
            yield record
        offset += ALIGN if record is None else record.place.room


def _read(fd: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError:
        return b""  # A part of the disk that cannot be read.


def _record(data: bytes, offset: int, identity: bytes | None) -> Record | None:
    """Return what the head at the beginning of *data* says, if it is a whole one."""
    if len(data) < _LEAST or not data.startswith(_MAGIC):
        return None
    _, whose, segment, generation, size, payload = _FRONT.unpack_from(data)
    if not _LEAST <= size <= len(data) or (identity is not None and whose != identity):
        return None
    head = memoryview(data)[: size - _SUM.size]
    if (zlib.crc32(head),) != _SUM.unpack_from(data, size - _SUM.size):
        return None
    *numbers, checksum, framing, origin, targets, parts = _NUMBERS.unpack_from(data, _FRONT.size)
    texts = []
    at = _FRONT.size + _NUMBERS.size
    for length in (framing, origin, targets, parts):
        texts.append(None if length < 0 else data[at : at + length])
        at += max(length, 0)
    words = [None if text is None else text.decode(errors="surrogatepass") for text in texts[:3]]
    row = Row._make([*numbers, *words, checksum, texts[3], b"", None])
    return Record(whose, row, Place(segment, generation, offset, size + payload), offset + size)
