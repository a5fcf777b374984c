"""Rows: what goes in comes back, and nothing else is believed."""

import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.framing import FRAMINGS, LINES, Decoder, Framing
from producer_pool.model.stored import stored_size
from producer_pool.storage.record import (
    MERGED_BYTES,
    Pending,
    checked,
    grouped,
    part_nbytes,
    parts_in,
    quoted,
    row_of,
    stored,
    targets_of,
    targets_text,
)

each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)


def pending(number: int, batch: Batch, targets: str | None = None) -> Pending:
    return Pending(number, batch.form, len(batch), stored_size(batch), targets, batch.origin, 0.0)


class Own(Framing):
    """A framing that a plugin brings, and that may be gone when the spool is read."""

    name = "lines"

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b";".join((*messages, b""))

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        return ()

    def why_misfit(self) -> str:
        return ""

    def split(self, wire: bytes) -> list[bytes]:
        return wire.split(b";")[:-1]

    def count(self, wire: bytes) -> int:
        return wire.count(b";")

    def offset(self, wire: bytes, index: int) -> int:
        raise NotImplementedError

    def index(self, wire: bytes, offset: int) -> int:
        raise NotImplementedError

    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        raise NotImplementedError

    def decoder(self, max_message: int) -> Decoder:
        raise NotImplementedError


@each_framing
def test_wire_comes_back(framing: Framing) -> None:
    """A batch in a framing of the house is stored as it is, and comes back as it was."""
    wire = framing.encode([b"one", b"two"])
    row = row_of([pending(7, Batch.from_wire(wire, framing, origin="tcp://127.0.0.1:5"))], 0, 0, 1, 0.0)

    assert row.payload is wire
    (found,) = stored(row, 0, age=1.0)
    assert (found.number, found.batch.form, len(found.batch)) == (7, (framing, wire), 2)
    assert found.batch.origin == "tcp://127.0.0.1:5"


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_messages_come_back(messages: list[bytes]) -> None:
    """Messages one by one are that again, and count for as many bytes as before."""
    batch = Batch.of(messages)
    row = row_of([pending(1, batch)], 0, 0, 1, 0.0)

    (found,) = stored(row, 0, age=0.0)
    assert found.batch.form == messages
    assert stored_size(found.batch) == row.nbytes == stored_size(batch)


def test_framing_of_a_plugin() -> None:
    """Only messages are kept of a framing that is not of the house, whatever it is called."""
    row = row_of([pending(1, Batch.from_wire(b"a;b\n;", Own(), 2))], 0, 0, 1, 0.0)

    (found,) = stored(row, 0, age=0.0)
    assert found.batch.form == [b"a", b"b\n"]


def test_small_ones_share_a_row() -> None:
    """They keep their numbers, and what each counts for; reading may begin between them."""
    batches = [Batch.of([b"x" * size] * size) for size in range(1, 5)]
    waiting = [pending(number, batch) for number, batch in enumerate(batches, 11)]

    (group,) = grouped(waiting)
    row = row_of(group, 0, 0, 1, 0.0)
    assert (row.first, row.number, row.messages) == (11, 14, 10)
    assert [(one.number, one.batch.form) for one in stored(row, 12, 0.0)] == [
        (13, batches[2].form),
        (14, batches[3].form),
    ]
    sizes = [part_nbytes(row.framing, *part[1:]) for part in parts_in(row.parts, 14, row.messages, 0)]
    assert sizes == [stored_size(batch) for batch in batches]
    assert sum(sizes) == row.nbytes


def test_what_does_not_share_a_row() -> None:
    """Targets, another origin, another form, a gap of numbers, too many bytes."""
    wire = Batch.from_wire(b"a\n", LINES)
    large = Batch.of([bytes(MERGED_BYTES - 100)])
    waiting = [
        pending(1, Batch.of([b"a"])),
        pending(2, Batch.of([b"a"]), targets_text(("a",))),
        pending(3, Batch.of([b"a"], origin="x")),
        pending(4, wire),
        pending(6, wire),
        pending(7, large),
        pending(8, large),
        pending(9, Batch.of([b"a"]), targets_text(("a",))),
        pending(10, Batch.of([b"a"]), targets_text(("a",))),
    ]

    assert [len(group) for group in grouped(waiting)] == [1] * 9


def test_any_change_is_seen() -> None:
    """A row of which one bit of one column is another one is not read. A place is only where to look."""
    row = row_of([pending(3, Batch.of([b"one", b"two"], origin="here"), targets_text(("a",)))], 5, 99, 1, 2.0)
    draw = random.Random(1)

    assert checked(tuple(row)) == row
    for index, value in enumerate(row[:-1]):
        for changed in changes(value, draw):
            assert checked((*row[:index], changed, *row[index + 1 :])) is None, row._fields[index]


@pytest.mark.parametrize("size", [0, 2, 10])
def test_parts_that_are_of_the_payload(size: int) -> None:
    """Where a column begins too late, its first bytes are not taken for parts, though all bytes are there."""
    row = row_of([pending(3, Batch.of([b"one", b"two", b"three"]))], 5, 99, 1, 2.0)
    moved = row._replace(parts=row.payload[:size], payload=row.payload[size:])

    assert checked(tuple(row)) == row
    assert checked(tuple(moved)) is None


def changes(value: object, draw: random.Random) -> list[object]:
    match value:
        case int():
            return [value ^ 1 << draw.randrange(62), None, "x", b"", 1 << 70]
        case float():
            return [value + 1e-6, None, float("nan")]
        case bytes():
            at = draw.randrange(len(value))
            return [value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :], value[:-1], value + b"\0", None, 7]
        case str():
            return [f"{value}x", None, b"x"]
        case _:
            return [b"x", 0.5, 7]


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary()), max_size=16))
def test_anything_is_no_row(columns: list[object]) -> None:
    """Whatever is read from a disk, the worst that comes of it is None."""
    assert checked(columns) is None


def test_targets() -> None:
    """The order of names makes no difference."""
    assert targets_text(("b", "a")) == targets_text(("a", "b"))


@given(st.sets(st.text('ab"\\\n\u00fc', max_size=4)), st.text('ab"\\\n\u00fc', max_size=4))
def test_names_in_targets(names: set[str], name: str) -> None:
    """Any names come back, and a name is found in the text exactly if it is one of them."""
    text = targets_text(tuple(names))

    assert targets_of(text) == names
    assert (quoted(name) in text) == (name in names)
