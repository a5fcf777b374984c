"""Spools under test that have payloads in files of their own, which a few messages fill."""

from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.stored import stored_size
from producer_pool.storage import payloads
from producer_pool.storage.payload_files import PayloadFiles, payload_names
from producer_pool.storage.payloads import Payloads
from producer_pool.storage.record import Pending, Row, row_of

__all__ = ["FILE", "put_apart", "row", "sizes", "within"]

FILE = 64 * 1024
"""Bytes of a file."""


def put_apart(patch: pytest.MonkeyPatch, file: int = FILE, least: int = 1000) -> None:
    """Have payloads of *least* bytes in files of *file* bytes, however few there are."""
    whole = Payloads.keep
    patch.setattr(payloads, "LARGE", least)
    patch.setattr(payloads, "WORTH_IT", 1)
    patch.setattr(Payloads, "keep", lambda self, size: whole(self, size and file))


def row(number: int, size: int = 10_000, targets: str | None = None, origin: str = "here") -> Row:
    """Return a row with one message of *size* bytes."""
    batch = Batch.of([b"%06d" % number * (size // 6 + 1)], origin=origin)
    pending = Pending(number, batch.form, 1, stored_size(batch), targets, origin, 0.0)
    return row_of([pending], number - 1, 0, 1, 0.0)


def sizes(folder: Path) -> dict[int, int]:
    """Return the sizes of the files of payloads in *folder*, by their numbers."""
    return {number: path.stat().st_size for number, path in sorted(payload_names(folder).items())}


def within(folder: Path, segment: int) -> list[int]:
    """Return the numbers of the batches in a file of payloads, as it was begun last."""
    records = list(PayloadFiles(folder / "spool.db").records(segment, None))
    newest = max(record.place.generation for record in records)
    return [record.row.number for record in records if record.place.generation == newest]
