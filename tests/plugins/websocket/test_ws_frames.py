"""Websocket frames: what is encoded is what the library reads, and what comes back."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import CLIENT, SERVER, Protocol

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES, Framing
from producer_pool_websocket.compression import DEFLATED
from producer_pool_websocket.frames import (
    MASKED_BINARY,
    MASKED_TEXT,
    PING,
    PLAIN_BINARY,
    PLAIN_TEXT,
    all_text,
    control_frame,
)

pytestmark = pytest.mark.usefixtures("each_loop")

MASKED = (MASKED_TEXT, MASKED_BINARY)
FRAMES = (*MASKED, PLAIN_TEXT, PLAIN_BINARY)
each_kind = pytest.mark.parametrize("framing", [*FRAMES, *DEFLATED.values()], ids=lambda kind: kind.name)

texts = st.lists(st.text(max_size=9).map(str.encode))
# Lengths around which the head of a frame changes.
LENGTHS = (0, 1, 125, 126, 127, 65535, 65536, 65537)


def read_by_the_library(framing: Framing, wire: bytes) -> list[bytes]:
    """Return the messages that the other side of the library finds in *wire*."""
    protocol = Protocol(SERVER if framing.name.startswith("websocket-masked") else CLIENT, max_size=None)
    protocol.extensions = []
    protocol.receive_data(wire)
    assert protocol.parser_exc is None
    return [bytes(frame.data) for frame in protocol.events_received()]  # type: ignore[union-attr]


@each_kind
@given(messages=texts)
def test_what_is_encoded_comes_back(framing: Framing, messages: list[bytes]) -> None:
    """Splitting, counting and finding frames agree with encoding."""
    wire = framing.encode(messages)
    offsets = [framing.offset(wire, index) for index in range(len(messages) + 1)]

    assert framing.split(wire) == messages
    assert framing.count(wire) == len(messages)
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert offsets[-1] == len(wire)
    assert [framing.index(wire, offset) for offset in offsets] == list(range(len(messages) + 1))
    assert [framing.index(wire, offset - 1) for offset in offsets[1:]] == list(range(len(messages)))


@pytest.mark.parametrize("framing", FRAMES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", LENGTHS)
def test_library_reads_them(framing: Framing, length: int) -> None:
    """Every form of length is one that others understand."""
    messages = [b"x" * length, b"between", random.Random(length).randbytes(length).hex().encode()]

    assert read_by_the_library(framing, framing.encode(messages)) == messages
    assert framing.split(framing.encode(messages)) == messages


@pytest.mark.parametrize("framing", MASKED, ids=lambda kind: kind.name)
def test_each_frame_has_a_fresh_mask(framing: Framing) -> None:
    """Equal messages look different, within one batch and from one batch to the next."""
    size = len(framing.encode([b"same"]))
    wire = framing.encode([b"same"] * 500) + framing.encode([b"same"] * 500)
    masks = {wire[start + 2 : start + 6] for start in range(0, len(wire), size)}

    # Of a thousand masks of 32 bits, two are the same once in nine thousand runs; never three.
    assert len(masks) >= 998


def test_one_encoding_for_all_consumers() -> None:
    """A batch is encoded once, whoever asks for it."""
    batch = Batch.from_wire(b"a\nb\n", LINES)

    assert batch.wire(MASKED_TEXT) is batch.wire(MASKED_TEXT)


@given(messages=st.lists(st.one_of(st.binary(max_size=4), st.text("aä€😀", max_size=2).map(str.encode))))
def test_text_that_is_no_text(messages: list[bytes]) -> None:
    """Text frames cannot carry what is not UTF-8, message by message; binary frames carry all."""
    bad = []
    for index, message in enumerate(messages):
        try:
            message.decode()
        except UnicodeDecodeError:
            bad.append(index)

    assert MASKED_TEXT.misfits(messages, b"") == tuple(bad)
    assert all_text(messages) is not bool(bad)
    assert MASKED_BINARY.misfits(messages, b"") == ()


def test_halves_of_a_character_are_no_text() -> None:
    """Two messages are not taken for text because they are text together."""
    halves = ["ä".encode()[:1], "ä".encode()[1:]]

    assert PLAIN_TEXT.misfits(halves, b"") == (0, 1)
    assert "use frames=binary" in PLAIN_TEXT.why_misfit()


@pytest.mark.parametrize("framing", [MASKED_TEXT, PLAIN_TEXT], ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", LENGTHS)
def test_where_frames_begin_among_many_of_one_size(framing: Framing, length: int) -> None:
    """It is known of each, also before, between and after runs of them."""
    run = [b"y" * length] * (20 if length > 1000 else 300)
    messages = [b"first", *run, b"between", *run, *[b"z" * (length + 1)] * 10]
    wire = framing.encode(messages)
    starts = [0, *accumulate(len(framing.encode([message])) for message in messages)]

    assert framing.count(wire) == len(messages)
    assert framing.split(wire) == messages
    for number in {0, 1, 2, 9, 10, len(run), len(run) + 1, len(run) + 2, len(messages) - 10, len(messages)}:
        assert framing.offset(wire, number) == starts[number]
        assert framing.index(wire, starts[number]) == number
        assert framing.index(wire, starts[number] - 1) == max(number - 1, 0)


@given(messages=texts, size=st.integers(1, 40))
def test_pieces_of_a_wire(messages: list[bytes], size: int) -> None:
    """They follow each other, are no longer than was asked for or one frame, and count their frames."""
    wire = MASKED_TEXT.encode(messages)
    pieces = list(MASKED_TEXT.cut(wire, size))

    assert b"".join(piece for piece, _ in pieces) == wire
    assert sum(count for _, count in pieces) == len(messages)
    for piece, count in pieces:
        assert MASKED_TEXT.count(piece) == count
        assert count == 1 or len(piece) <= size


@pytest.mark.parametrize("masked", [True, False])
def test_control_frames(masked: bool) -> None:
    """The library reads them, with the longest payload, too."""
    protocol = Protocol(SERVER if masked else CLIENT)
    protocol.receive_data(control_frame(PING, b"", masked=masked))
    protocol.receive_data(control_frame(PING, b"x" * 125, masked=masked))

    assert [frame.data for frame in protocol.events_received()] == [b"", b"x" * 125]  # type: ignore[union-attr]


def test_frames_are_no_stream_of_a_framing() -> None:
    """Whoever reads them has something to say, which a decoder cannot."""
    with pytest.raises(NotImplementedError, match="FrameReader"):
        MASKED_TEXT.decoder(1000)
