"""Reading frames: however they are cut, the same messages as the library finds, and the same refusals."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

from producer_pool_websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    control_frame,
    head,
)
from producer_pool_websocket.reading import FrameReader
from support.webs import frame

pytestmark = pytest.mark.usefixtures("each_loop")

LIMIT = 300
ALL_KINDS = tuple(range(16))


def read(reader: FrameReader, stream: bytes, sizes: Iterable[int] = ()) -> list[bytes]:
    """Feed *stream* in pieces of these sizes, through one buffer that is overwritten each time."""
    messages = []
    position = 0
    for size in (*sizes, len(stream)):
        piece = bytearray(stream[position : position + size])
        position += size
        messages += reader.feed(piece, len(piece))
        piece[:] = b"\xff" * len(piece)
    return messages


# -- messages ---------------------------------------------------------------------------------------

payloads = st.one_of(st.text("aä€😀", max_size=40).map(str.encode), st.binary(max_size=200))
cuts = st.lists(st.integers(1, 50))


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[int, bytes, bool]]:
    """Return frames as (opcode, payload, fin) that break no rule, but perhaps that of text."""
    frames: list[tuple[int, bytes, bool]] = []
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from([TEXT, BINARY]))
        payload = draw(payloads)
        parts = draw(st.lists(st.integers(0, len(payload)), max_size=3).map(sorted))
        edges = [0, *parts, len(payload)]
        for number, (start, end) in enumerate(pairwise(edges)):
            if draw(st.booleans()):
                frames.append((draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=4)), True))
            frames.append((CONTINUATION if number else kind, payload[start:end], end == edges[-1]))
            if end == edges[-1]:
                break
    return frames


def by_the_library(stream: bytes, *, masked: bool, limit: int | None = LIMIT) -> tuple[list[bytes], Protocol]:
    """Return the messages that the library finds, put together from their fragments, and its verdict."""
    protocol = Protocol(SERVER if masked else CLIENT, max_size=limit)
    protocol.receive_data(stream)
    messages = []
    parts: list[bytes] = []
    text = False
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if event.opcode is not Opcode.CONT:
                text = event.opcode is Opcode.TEXT
            parts.append(bytes(event.data))
            if event.fin:
                message = b"".join(parts)
                parts.clear()
                if text and message.decode(errors="replace").encode() != message:
                    break  # The library leaves it to others to find that out.
                messages.append(message)
    return messages, protocol


@given(frames=conversations(), sizes=cuts, masked=st.booleans())
def test_same_messages_as_the_library(
    frames: list[tuple[int, bytes, bool]], sizes: list[int], masked: bool
) -> None:
    """Whole and in fragments, with pings in between, and however the stream is cut."""
    stream = b"".join(frame(opcode, data, fin=fin, masked=masked) for opcode, data, fin in frames)
    expected, protocol = by_the_library(stream, masked=masked)
    reader = FrameReader(LIMIT, masked=masked)

    assert read(reader, stream, sizes) == expected
    assert protocol.parser_exc is None
    if reader.error is None:
        assert reader.tail == 0
        pings = [data for opcode, data, _ in frames if opcode == PING]
        assert reader.ping == (pings[-1] if pings else None)
        assert reader.pongs == [data for opcode, data, _ in frames if opcode == PONG]
    else:
        assert reader.code == 1007


@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 125, 126, 130]),
            st.integers(1, 600),
            st.sampled_from([TEXT, BINARY, PING]),
            st.binary(max_size=3),
        ),
        max_size=4,
    ),
    sizes=cuts,
    masked=st.booleans(),
)
def test_many_of_one_size(runs: list[tuple[int, int, int, bytes]], sizes: list[int], masked: bool) -> None:
    """What is read together is the same as one by one, up to what is no message, or no text, or not whole."""
    frames = [
        (opcode, (b"%d" % number).rjust(size)[:size], True)
        for size, many, opcode, _ in runs
        for number in range(1 if opcode == PING else many)
    ] + [(TEXT, odd, True) for *_, odd in runs]
    stream = b"".join(frame(opcode, data, fin=fin, masked=masked) for opcode, data, fin in frames)
    expected, _ = by_the_library(stream, masked=masked)

    assert read(FrameReader(LIMIT, masked=masked), stream, sizes) == expected


@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from(ALL_KINDS), payloads, st.booleans(), st.sampled_from([0, 0, 0, 0x40, 0x10])
        ),
        max_size=5,
    ),
    sizes=cuts,
    masked=st.booleans(),
    turned=st.booleans(),
)
def test_same_refusals_as_the_library(
    frames: list[tuple[int, bytes, bool, int]], sizes: list[int], masked: bool, turned: bool
) -> None:
    """Frames of any kind, order, length and mask: what the library refuses is refused, and nothing else."""
    stream = b"".join(
        frame(opcode, data, fin=fin, rsv=rsv, masked=masked is not (turned and number == len(frames) - 1))
        for number, (opcode, data, fin, rsv) in enumerate(frames)
    )
    expected, protocol = by_the_library(stream, masked=masked)
    reader = FrameReader(LIMIT, masked=masked)

    assert read(reader, stream, sizes) == expected
    if reader.error is not None and reader.code == 1007:
        return  # Text that is none: see the test before this one.
    if "incomplete fragmented message" in str(protocol.parser_exc):
        # To the library this is no good end, though control frames may stand there (RFC 6455, 5.4).
        assert reader.closed is not None
        return
    assert (reader.error is not None) is (protocol.parser_exc is not None)
    assert (reader.closed is not None) is (protocol.close_rcvd is not None and protocol.parser_exc is None)


@given(stream=st.binary(max_size=200), sizes=cuts)
def test_any_bytes(stream: bytes, sizes: list[int]) -> None:
    """Nonsense is refused as the library refuses it, or not whole yet; it raises nothing and keeps little."""
    expected, protocol = by_the_library(stream, masked=True)
    reader = FrameReader(LIMIT, masked=True)
    messages = read(reader, stream, sizes)

    stricter = reader.code == 1007 or "the shortest form" in str(reader.error)
    assert messages[: len(expected)] == expected or stricter
    if protocol.parser_exc is not None:
        assert reader.is_over()
    assert reader.tail <= len(stream)


@pytest.mark.parametrize("size", [1, 125, 126, 300, 65535, 65536, 1 << 20])
def test_large_and_small(size: int) -> None:
    """Every form of length, in one read and in many."""
    message = b"x" * size
    stream = frame(TEXT, message) + frame(BINARY, message)
    reader = FrameReader(1 << 20, masked=True)

    assert read(reader, stream) == [message, message]
    assert read(reader, stream, [size // 3 + 1] * 5) == [message, message]


def test_large_message_in_many_pieces() -> None:
    """Its cost grows with its size, and not with the square of it."""

    def cost(size: int) -> float:
        stream = frame(BINARY, bytes(size))
        reader = FrameReader(size, masked=True)
        began = time.process_time()
        assert len(read(reader, stream, [256] * (size // 256))) == 1
        return time.process_time() - began

    # Pieces are so small that the program costs, and not the memory. Nothing that others do makes it cheaper.
    small, large = cost(1 << 18), cost(1 << 22)
    for _ in range(5):
        if large < 64 * small:
            break
        small, large = min(small, cost(1 << 18)), min(large, cost(1 << 22))

    assert large < 64 * small


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream,code,why",
    [
        (frame(TEXT, b"x", masked=False), 1002, "without a mask"),
        (frame(TEXT, b"x", rsv=0x40), 1002, "a reserved bit"),
        (frame(BINARY, b"x", rsv=0x20), 1002, "a reserved bit"),
        (frame(PING, b"x", rsv=0x10), 1002, "a reserved bit"),
        (frame(3, b"x"), 1002, "unknown kind 3"),
        (frame(0xB, b"x"), 1002, "unknown kind 11"),
        (frame(PING, b"x", fin=False), 1002, "a control frame in fragments"),
        (frame(PONG, b"x" * 126), 1002, "more than 125 bytes"),
        (frame(CONTINUATION, b"x"), 1002, "a fragment of no message"),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002, "inside another one's fragments"),
        (frame(CLOSE, b"\x03"), 1002, "a code that means nothing"),
        (frame(CLOSE, struct.pack("!H", 1005)), 1002, "a code that means nothing"),
        (frame(CLOSE, struct.pack("!H", 999)), 1002, "a code that means nothing"),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007, "the reason for its end is not UTF-8"),
        (frame(TEXT, b"\xff"), 1007, "not UTF-8"),
        (frame(TEXT, "ä".encode()[:1], fin=False) + frame(CONTINUATION, b"x"), 1007, "not UTF-8"),
        (frame(TEXT, b"x" * 301), 1009, "longer than 300 bytes"),
        (frame(TEXT, b"x" * 200, fin=False) + frame(CONTINUATION, b"x" * 101), 1009, "longer than 300"),
        (b"\x82\xff" + struct.pack("!Q", 1 << 62) + b"mask", 1009, "longer than 300 bytes"),
        (b"\x82\xff" + struct.pack("!Q", 1 << 63) + b"mask", 1002, "the shortest form"),
        (b"\x82\xff" + struct.pack("!Q", 65535) + b"mask", 1002, "the shortest form"),
        (b"\x82\xfe" + struct.pack("!H", 125) + b"mask" + bytes(125), 1002, "the shortest form"),
        (b"\x02\xfe" + struct.pack("!H", 1) + b"mask" + bytes(1), 1002, "the shortest form"),
    ],
)
def test_rules_of_the_protocol(stream: bytes, code: int, why: str) -> None:
    """Each has its close code; what came before is good, and what comes after is not read."""
    good = frame(TEXT, b"good")
    for sizes in ([], [1] * len(good + stream)):
        reader = FrameReader(LIMIT, masked=True)

        assert read(reader, good + stream + good, sizes) == [b"good"]
        assert reader.code == code
        assert why in str(reader.error)
        assert reader.tail == 0
        assert read(reader, good) == []


def test_length_is_refused_before_the_message_comes() -> None:
    """The head is enough: nothing of a message that is too long is kept."""
    reader = FrameReader(LIMIT, masked=True)
    assert read(reader, b"\x82\xff" + struct.pack("!Q", 1 << 40)) == []

    assert reader.code == 1009
    assert reader.tail == 0


def test_good_text_before_bad_text() -> None:
    """In one read, messages before the bad one are passed on, and none after it."""
    reader = FrameReader(LIMIT, masked=True)
    stream = frame(TEXT, b"one") + frame(TEXT, "zwö".encode()) + frame(TEXT, b"\xc3") + frame(TEXT, b"\xb6")

    assert read(reader, stream) == [b"one", "zwö".encode()]
    assert reader.code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 1014, 3000, 4999])
def test_ends(code: int) -> None:
    """Code and reason are read; nothing after them is."""
    reader = FrameReader(LIMIT, masked=True)
    payload = struct.pack("!H", code) + "grün".encode()

    assert read(reader, frame(TEXT, b"one") + frame(CLOSE, payload) + frame(TEXT, b"two")) == [b"one"]
    assert reader.closed == (code, "grün")
    assert reader.error is None
    assert reader.tail == 0


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_end_between_fragments(limit: int | None) -> None:
    """Control frames may stand there (RFC 6455, 5.4): it is a good end, and the message is none."""
    reader = FrameReader(limit, masked=True)
    stream = frame(TEXT, b"half", fin=False) + frame(CLOSE, struct.pack("!H", 1011) + b"I failed")

    assert read(reader, stream + frame(CONTINUATION, b"late")) == []
    assert reader.closed == (1011, "I failed")
    assert reader.error is None
    assert reader.tail == (0 if limit is None else 4)


def test_end_without_a_code() -> None:
    """It is one, too."""
    reader = FrameReader(LIMIT, masked=True)
    read(reader, control_frame(CLOSE, b"", masked=True))

    assert reader.closed == (1005, "")


# -- whose messages nobody wants ---------------------------------------------------------------------


@given(frames=conversations(), sizes=cuts)
def test_messages_that_are_skipped(frames: list[tuple[int, bytes, bool]], sizes: list[int]) -> None:
    """Without a limit only control frames count, and not a byte of a message is kept."""
    reader = FrameReader(None, masked=False)
    stream = b"".join(frame(opcode, data, fin=fin, masked=False) for opcode, data, fin in frames)

    assert read(reader, stream, sizes) == []
    assert reader.error is None
    assert reader.tail == 0
    assert reader.pongs == [data for opcode, data, _ in frames if opcode == PONG]


def test_endless_message_that_is_skipped() -> None:
    """A terabyte that nobody wants takes no room, and a ping after it is seen."""
    reader = FrameReader(None, masked=False)
    size = 1 << 22
    chunk = bytearray(1 << 20)
    reader.feed(head(FIN | BINARY, size, 0), 10)
    for _ in range(4):
        reader.feed(chunk, len(chunk))
        assert reader.tail == 0
    reader.feed(frame(PING, b"there?", masked=False), 8)

    assert reader.ping == b"there?"


def test_rules_hold_for_what_is_skipped() -> None:
    """Who cannot make frames is not listened to."""
    for stream in (
        frame(TEXT, b"x", fin=False, masked=False) + frame(TEXT, b"x", masked=False),
        b"\x82\x7f" + struct.pack("!Q", 1 << 63),
    ):
        reader = FrameReader(None, masked=False)
        read(reader, stream)

        assert reader.error is not None
        assert reader.code == 1002
