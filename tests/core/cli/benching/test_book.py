"""The messages of a bench, which are known to who receives them."""

import pytest

from producer_pool.cli.benching.book import WRITE, Book, Shape
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.framing import FRAMINGS, LINES, NUL

SHAPES = [Shape(128, 1, 508), Shape(10, 3, 5), Shape(6, 1, 1), Shape(2000, 64, 1), Shape(1024 * 1024, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_messages_differ(shape: Shape) -> None:
    """Each message has its size, tells whose it is, and is another one than all the others."""
    book = Book(shape)
    sent = [(producer, index) for producer in range(shape.producers) for index in range(book.round)]
    messages = [book.message(*one) for one in sent]

    assert {len(message) for message in messages} == {shape.size}
    assert len(set(messages)) == len(sent)
    assert [book.numbered(message) for message in messages] == sent


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches_are_the_round(shape: Shape) -> None:
    """The batches of a producer have its messages, in their order, as many as were asked for in each."""
    book = Book(shape)
    batches = book.batches(0)

    assert [message for batch in batches for message in batch.messages] == book.messages(0)
    assert {len(batch) for batch in batches} == {shape.batch}


def test_messages_are_text() -> None:
    """Any framing, and any protocol of texts, can carry them."""
    message = Book(Shape(300, 2, 4)).message(1, 7)

    assert message.decode("ascii").isprintable()
    assert LINES.misfits([message], LINES.encode([message])) == ()
    assert NUL.misfits([message], NUL.encode([message])) == ()


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
def test_ring_is_the_wire(framing) -> None:  # type: ignore[no-untyped-def]
    """A ring has the frames of a round, each of one length, and goes on with the first ones."""
    book = Book(Shape(20, 2, 4))
    ring = book.ring(1, framing)
    whole = framing.encode(book.messages(1))

    assert ring.wire.startswith(whole)
    assert whole.startswith(ring.wire[len(whole) :])
    assert len(ring.wire) >= len(whole) + 4 * ring.frame
    assert len(whole) == ring.frame * book.round
    assert ring.wire[ring.head : ring.head + 20] == book.message(1, 0)


@pytest.mark.parametrize("damage", [b"x", b"", b"0001" * 5, b"99999999999999999999"])
def test_what_nobody_sent(damage: bytes) -> None:
    """A message that differs in a byte, or in its length, or has a number that there is not, is nobody's."""
    book = Book(Shape(20, 2, 4))
    good = book.message(0, 3)

    assert book.numbered(good) == (0, 3)
    assert book.numbered(damage) is None
    assert book.numbered(good[:-1] + b"!") is None
    assert book.numbered(good + b"!") is None


def test_no_room_for_a_number() -> None:
    """Messages that could not be told apart are refused, and the error says which ones could."""
    with pytest.raises(
        ConfigurationError, match=r"a message of 2 bytes has no room for its number; .* [3-9] "
    ):
        Book(Shape(2, 1, 10))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_window_is_half_a_round(shape: Shape) -> None:
    """Of what may be under way, a number tells what was left out; and a whole write is among it."""
    assert shape.batch <= shape.window(ordered=True) <= shape.round // 2


@pytest.mark.parametrize("size", [1, 128, 1024, 8192, 60_000])
def test_window_of_datagrams(size: int) -> None:
    """Datagrams find room in a receive buffer of 208 KiB, where each takes a power of two of memory."""
    window = Shape(size, 1, 1).window(ordered=False)
    memory = 256
    while memory < size + 64:
        memory *= 2

    assert window >= 1
    assert window == 1 or window * (memory + 256) <= 208 * 1024


def test_messages_in_a_round_are_bounded() -> None:
    """However many producers there are, they do not take all memory."""
    for shape in (Shape(128, 256, WRITE // 129), Shape(128, 256, 1), Shape(1024 * 1024, 64, 1)):
        assert shape.producers * shape.round * shape.size <= 512 * 1024 * 1024
