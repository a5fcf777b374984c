"""Decoders: whatever way a stream is cut, the same frames come out of it, and the same refusals."""

import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.decoders import Decoder
from producer_pool.model.errors import FramingError, MessageTooLarge
from producer_pool.model.framing import LENGTH4, LINES, NUL, OCTET_COUNTING, Framing

FRAMINGS = (LINES, NUL, LENGTH4, OCTET_COUNTING)
each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
each_counted = pytest.mark.parametrize("framing", FRAMINGS[2:], ids=lambda framing: framing.name)

LIMIT = 12
NO_DELIMITER = bytes(byte if byte not in b"\n\0" else ord("x") for byte in range(256))
messages_within = st.lists(st.binary(min_size=1, max_size=LIMIT).map(lambda m: m.translate(NO_DELIMITER)))
garbage = st.one_of(st.binary(), st.text("0123 \n\0x", max_size=30).map(str.encode))
cuts = st.lists(st.integers(1, 30))


def chunks(stream: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut *stream* into chunks of these sizes, and a last one with the rest."""
    cut, position = [], 0
    for size in sizes:
        cut.append(stream[position : position + size])
        position += size
    return [*cut, stream[position:]]


def decode(decoder: Decoder, pieces: Sequence[bytes]) -> bytes:
    """Feed all *pieces* through one buffer, which is overwritten each time, and return what came out."""
    buffer = bytearray(max(map(len, pieces), default=0))
    wire = b""
    for piece in pieces:
        buffer[: len(piece)] = piece
        wire += decoder.feed(buffer, len(piece))
        buffer[:] = b"\xff" * len(buffer)
    return wire


@each_framing
@given(messages=messages_within, sizes=cuts)
def test_stream_cut_anywhere(framing: Framing, messages: list[bytes], sizes: list[int]) -> None:
    """All frames come out whole and unchanged, and nothing is left over."""
    wire = framing.encode(messages)
    decoder = framing.decoder(LIMIT)

    assert decode(decoder, chunks(wire, sizes)) == wire
    assert decoder.error is None
    assert decoder.tail == 0
    assert decoder.finish() is None


@each_framing
@given(messages=messages_within, sizes=cuts)
def test_each_chunk_gives_what_is_whole(framing: Framing, messages: list[bytes], sizes: list[int]) -> None:
    """After each chunk, just the frames that are whole have come out, and the rest is the tail."""
    wire = framing.encode(messages)
    decoder = framing.decoder(LIMIT)
    fed = out = 0
    for piece in chunks(wire, sizes):
        found = decoder.feed(piece, len(piece))
        fed += len(piece)
        out += len(found)

        assert out == framing.offset(wire, framing.index(wire, fed))
        assert decoder.tail == fed - out
        assert decoder.frames in (None, framing.count(found))


@each_framing
@given(stream=garbage, sizes=cuts)
def test_garbage_cut_anywhere(framing: Framing, stream: bytes, sizes: list[int]) -> None:
    """What breaks the rules never raises, and breaks them at the same place wherever the stream is cut."""
    whole, cut = framing.decoder(LIMIT), framing.decoder(LIMIT)
    found = whole.feed(stream, len(stream))

    assert decode(cut, chunks(stream, sizes)) == found
    assert type(cut.error) is type(whole.error)
    assert cut.tail == whole.tail
    assert cut.finish() == whole.finish()
    assert all(len(message) <= LIMIT for message in framing.split(found))


@each_framing
@given(sizes=cuts)
def test_message_at_the_limit(framing: Framing, sizes: list[int]) -> None:
    """A message exactly as long as allowed passes."""
    wire = framing.encode([b"a", b"b" * LIMIT, b"c"])
    decoder = framing.decoder(LIMIT)

    assert decode(decoder, chunks(wire, sizes)) == wire
    assert decoder.error is None


@each_framing
@given(sizes=cuts, more=st.binary())
def test_message_above_the_limit(framing: Framing, sizes: list[int], more: bytes) -> None:
    """One byte more is refused, after the good frames before it have come out; nothing comes after it."""
    good = framing.encode([b"a", b"b" * LIMIT])
    decoder = framing.decoder(LIMIT)

    assert decode(decoder, chunks(good + framing.encode([b"c" * (LIMIT + 1), b"d"]) + more, sizes)) == good
    assert isinstance(decoder.error, MessageTooLarge)
    assert decoder.error.limit == LIMIT
    assert decoder.feed(good, len(good)) == b""
    assert decoder.tail == 0
    assert decoder.finish() is None


@each_counted
def test_promise_above_the_limit(framing: Framing) -> None:
    """A length that is too large is refused when it is read; no byte of the message is waited for."""
    header = framing.encode([b"x" * (LIMIT + 1)])[: -LIMIT - 1]
    decoder = framing.decoder(LIMIT)

    assert decoder.feed(header, len(header)) == b""
    assert isinstance(decoder.error, MessageTooLarge)


def test_line_that_is_read_as_a_length() -> None:
    """It promises more than any limit: the framing of one side is wrong, and the error says that, too."""
    decoder = LENGTH4.decoder(LIMIT)

    assert decoder.feed(b"hi there\n", 9) == b""
    assert "framing=length4" in str(decoder.error)


@each_framing
@given(message=st.binary(max_size=LIMIT).map(lambda m: m.translate(NO_DELIMITER)), data=st.data())
def test_stream_ends_inside_a_frame(framing: Framing, message: bytes, data: st.DataObject) -> None:
    """finish() returns what there is of the message, or None, and forgets it."""
    frame = framing.encode([message])
    header = len(framing.encode([b"x" * len(message)])) - len(message) if framing in FRAMINGS[2:] else 0
    size = data.draw(st.integers(0, len(frame) - 1))
    decoder = framing.decoder(LIMIT)
    decoder.feed(frame, size)

    expected = frame[header:size] or None
    if framing is OCTET_COUNTING and not message:
        expected = None

    assert decoder.finish() == expected
    assert decoder.finish() is None
    assert decoder.tail == 0


def test_finish_after_an_error() -> None:
    """What was refused as too long does not come out at the end of the stream after all."""
    decoder = LINES.decoder(3)
    decoder.feed(b"four", 4)

    assert decoder.finish() is None


def test_only_the_size_given_counts() -> None:
    """What lies in the buffer beyond the size that was received is not looked at."""
    decoder = LINES.decoder(LIMIT)

    assert decoder.feed(bytearray(b"one\ntwo\n"), 5) == b"one\n"
    assert decoder.finish() == b"t"


@pytest.mark.parametrize(
    "stream,error",
    [
        (b"x", FramingError),
        (b" hello", FramingError),
        (b"05 hello", FramingError),
        (b"0 ", FramingError),
        (b"-1 x", FramingError),
        (b"+1 x", FramingError),
        (b"1_0 x", FramingError),
        ("٣ abc".encode(), FramingError),
        (b"5\nhello", FramingError),
        (b"<34>1 2003-10-11T22:14:15.003Z a lines sender", FramingError),
        (b"13 ", MessageTooLarge),
        (b"99 ", MessageTooLarge),
        (b"100", MessageTooLarge),
        (b"9" * 5000, MessageTooLarge),
    ],
)
def test_bad_octet_count(stream: bytes, error: type[FramingError]) -> None:
    """RFC 6587: digits without a leading zero, a space. Anything else is refused as soon as it is seen."""
    whole, byte_by_byte = OCTET_COUNTING.decoder(LIMIT), OCTET_COUNTING.decoder(LIMIT)

    assert whole.feed(b"2 ok" + stream, 4 + len(stream)) == b"2 ok"
    assert decode(byte_by_byte, [b"2 ok", *chunks(stream, [1] * len(stream))]) == b"2 ok"
    assert type(whole.error) is type(byte_by_byte.error) is error


def test_octet_count_is_waited_for() -> None:
    """Half a length is no error."""
    decoder = OCTET_COUNTING.decoder(LIMIT)

    assert decode(decoder, [b"1", b"2", b" ", b"x" * 11]) == b""
    assert decoder.error is None
    assert decoder.finish() == b"x" * 11


@each_framing
def test_long_message_byte_by_byte(framing: Framing) -> None:
    """The work grows with the bytes, not with their square: what has come is not gone over again."""
    small, large = 16 * 1024, 1024 * 1024
    most = 10 * (large / small) * min(seconds(framing, small) for _ in range(3))

    # What others take makes it longer, and never shorter: the shortest of several counts.
    assert any(seconds(framing, large) < most for _ in range(3))


def seconds(framing: Framing, size: int) -> float:
    """Return the seconds of this process that it takes to decode a message that comes byte by byte."""
    wire = framing.encode([b"x" * size])
    decoder = framing.decoder(size)
    buffer = bytearray(1)
    found = b""
    start = time.process_time()
    for byte in wire:
        buffer[0] = byte
        found = decoder.feed(buffer, 1)
    taken = time.process_time() - start
    assert found == wire
    return taken
