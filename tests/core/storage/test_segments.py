"""Records in a file of payloads: what was written comes back, and nothing else does."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.storage.record import Pending, Row, checked, row_of
from producer_pool.storage.segments import ALIGN, Place, head_of, padding, payload_at, records
from support.apart import row

OURS, OTHERS = b"o" * 16, b"x" * 16


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "payload-3", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def write(
    fd: int, rows: list[Row], offset: int = 0, generation: int = 1, identity: bytes = OURS
) -> list[Place]:
    """Write *rows* one behind the other, and return their places."""
    places = []
    for one in rows:
        head = head_of(one, identity, 3, generation)
        place = Place(3, generation, offset, len(head) + len(one.payload))
        os.pwrite(fd, head + one.payload + padding(place.size), offset)
        places.append(place)
        offset += place.room
    return places


ROWS = [
    row(1, 1),
    row(2, 5000, '["a", "b"]'),
    row(3, 3 * ALIGN, origin="tcp://\udcff.example:1"),
    row_of(  # with a head longer than a page
        [Pending(number, [b"small"], 1, 69, None, "", 0.0) for number in range(4, 904)], 3, 0, 1, 0.0
    ),
    row(904),
]


def test_all_comes_back(fd: int) -> None:
    """Heads say all of a row, and where its payload is."""
    places = write(fd, ROWS)
    found = list(records(fd, OURS))

    assert [record.place for record in found] == places
    assert [record.row for record in found] == [one._replace(payload=b"") for one in ROWS]
    for one, place in zip(ROWS, places, strict=True):
        assert payload_at(fd, place, one.number, OURS) == one.payload
        assert Place.unpack(place.pack()) == place
    assert os.fstat(fd).st_size % ALIGN == 0


def test_what_is_another_is_not_returned(fd: int) -> None:
    """Of another number, file, generation or spool; or cut off."""
    _, place, *_ = write(fd, ROWS)

    assert payload_at(fd, place, 3, OURS) is None
    assert payload_at(fd, place, 2, OTHERS) is None
    for other in (
        place._replace(segment=4),
        place._replace(generation=2),
        place._replace(size=place.size - 1),
    ):
        assert payload_at(fd, other, 2, OURS) is None
    assert payload_at(fd, place._replace(offset=0), 2, OURS) is None
    os.truncate(fd, place.offset + place.size - 1)
    assert payload_at(fd, place, 2, OURS) is None


@pytest.mark.parametrize("data", [None, "text", b"", bytes(19), bytes(21), 7])
def test_no_place(data: object) -> None:
    """What is read from a damaged page may be anything."""
    assert Place.unpack(data) is None


def test_any_bit(fd: int) -> None:
    """With one bit changed, a record is not there, or its row is not; the others are."""
    places = write(fd, ROWS)
    draw = random.Random(5)
    whole = os.pread(fd, 1 << 20, 0)
    for _ in range(300):
        index = draw.randrange(len(ROWS))
        offset = places[index].offset + draw.randrange(places[index].size)
        os.pwrite(fd, bytes([whole[offset] ^ 1 << draw.randrange(8)]), offset)
        found = {
            record.row.number: checked(
                record.row._replace(payload=payload_at(fd, record.place, record.row.number, OURS) or b"")
            )
            for record in records(fd, OURS)
        }
        assert found.pop(ROWS[index].number, None) is None
        assert found == {one.number: one for one in ROWS if one is not ROWS[index]}
        os.pwrite(fd, whole, 0)


def test_begun_anew(fd: int) -> None:
    """What was there before is still found behind it, and is of an older generation."""
    write(fd, ROWS)
    write(fd, [row(9, 5000)], generation=9)

    found = [(record.row.number, record.place.generation) for record in records(fd, OURS)]
    assert found[0] == (9, 9)
    assert {generation for _, generation in found[1:]} == {1}


def test_of_another_spool(fd: int) -> None:
    """It is found by whoever asks for any, and not by its own."""
    write(fd, ROWS, identity=OTHERS)

    assert list(records(fd, OURS)) == []
    assert {record.identity for record in records(fd, None)} == {OTHERS}


def test_anything(fd: int) -> None:
    """Whatever the bytes are, reading them ends, and finds nothing."""
    draw = random.Random(6)
    for _ in range(20):
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"".join(b"PPpayld2" + draw.randbytes(ALIGN - 8) for _ in range(8)), 0)
        assert list(records(fd, None)) == []


def test_a_message_that_looks_like_a_record(fd: int) -> None:
    """It is passed over with the record that it is in, and is nobody's where that one is damaged."""
    inside = head_of(row(7), OTHERS, 3, 1)
    trap = row(1)._replace(payload=bytes(ALIGN - len(head_of(row(1), OURS, 3, 1))) + inside + row(7).payload)
    write(fd, [trap, row(2)])

    assert [record.row.number for record in records(fd, OURS)] == [1, 2]
    os.pwrite(fd, bytes(8), 0)
    assert [record.row.number for record in records(fd, OURS)] == [2]
