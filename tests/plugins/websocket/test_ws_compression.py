"""Compressed messages: understood by the library, both ways, and never larger than is allowed."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import CLIENT, SERVER, Protocol

from producer_pool.model.errors import FramingError, MessageTooLarge
from producer_pool_websocket.compression import DEFLATED, Inflater
from producer_pool_websocket.frames import BINARY, CONTINUATION, FIN, MASKED_BINARY, MASKED_TEXT, RSV1
from producer_pool_websocket.reading import FrameReader
from support.webs import frame

pytestmark = pytest.mark.usefixtures("each_loop")

MESSAGES = [b"", b"short", b"x" * 10_000, random.Random(1).randbytes(10_000), b"y" * 3000]


def test_library_reads_them() -> None:
    """Compressed where that helps, and as they are where not."""
    wire = DEFLATED[MASKED_BINARY].encode(MESSAGES)
    protocol = Protocol(SERVER)
    protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(wire)

    assert [bytes(event.data) for event in protocol.events_received()] == MESSAGES  # type: ignore[union-attr]
    assert len(wire) < 10_500


def test_text_stays_text() -> None:
    """What is no text is rejected, compressed or not."""
    assert DEFLATED[MASKED_TEXT].misfits([b"good", b"\xff"], b"") == (1,)


@pytest.mark.parametrize("takeover", [True, False])
@given(messages=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(1, 90)))
def test_what_the_library_compresses(takeover: bool, messages: list[bytes], cuts: list[int]) -> None:
    """It is read, with a context taken over from message to message or not, in fragments too."""
    protocol = Protocol(CLIENT)
    protocol.extensions = [PerMessageDeflate(not takeover, not takeover, 15, 15)]
    for message in messages:
        protocol.send_binary(message[:50], fin=len(message) <= 50)
        if len(message) > 50:
            protocol.send_continuation(message[50:], fin=True)
    stream = b"".join(protocol.data_to_send())
    inflater = Inflater([PerMessageDeflate(not takeover, not takeover, 15, 15)])
    reader = FrameReader(300, masked=True, inflater=inflater)
    got = []
    for size in (*cuts, len(stream)):
        got += reader.feed(stream[:size], len(stream[:size]))
        stream = stream[size:]

    assert reader.error is None
    assert got == messages


def inflater(*, takeover: bool = True) -> Inflater:
    return Inflater([PerMessageDeflate(not takeover, not takeover, 15, 15)])


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize(
    "deflated",
    [
        "f2 48 cd c9 c9 07 00",
        "00 05 00 fa ff 48 65 6c 6c 6f 00",
        "f3 48 cd c9 c9 07 00 00",
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
        "f3 48 05 00 cb c9 c9 07 00 00",
    ],
    ids=["plain", "stored", "a-last-block", "two-blocks", "two-last-blocks"],
)
def test_examples_of_the_standard(deflated: str, takeover: bool) -> None:
    """All ways to compress in RFC 7692, 7.2.3: a block may say that it is the last, and others follow it."""
    reader = FrameReader(5, masked=True, inflater=inflater(takeover=takeover))
    wire = frame(BINARY, bytes.fromhex(deflated), rsv=RSV1)
    pieces = [frame(BINARY, bytes.fromhex(deflated)[:4], fin=False, rsv=RSV1)]
    pieces.append(frame(CONTINUATION, bytes.fromhex(deflated)[4:]))
    stream = wire + b"".join(pieces) + wire

    assert reader.feed(stream, len(stream)) == [b"Hello"] * 3
    assert reader.error is None


def test_context_that_is_taken_over() -> None:
    """The second one of RFC 7692, 7.2.3, refers to the first; without the first it is nothing."""
    first, second = bytes.fromhex("f2 48 cd c9 c9 07 00"), bytes.fromhex("f2 00 11 00 00")
    shared = inflater()

    assert shared.inflate(FIN | RSV1 | BINARY, first, 5) == b"Hello"
    assert shared.inflate(FIN | RSV1 | BINARY, second, 5) == b"Hello"
    with pytest.raises(FramingError, match="a compressed message that is none"):
        inflater().inflate(FIN | RSV1 | BINARY, second, 5)


def test_endless_ends() -> None:
    """Each last block makes the next one a new beginning: who sends nothing else is refused at once."""
    with pytest.raises(FramingError, match="begins anew"):
        inflater().inflate(FIN | RSV1 | BINARY, b"\x03\0" * 500_000, 100)


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("fragments", [1, 3])
def test_longest_message_that_does_not_get_smaller(level: int, fragments: int) -> None:
    """What counts is its size decompressed: compression may make it larger, and it is good all the same."""
    message = random.Random(2).randbytes(300_000)
    encoder = zlib.compressobj(level, wbits=-15)
    deflated = (encoder.compress(message) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    part = len(deflated) // fragments + 1
    stream = b"".join(
        frame(
            CONTINUATION if start else BINARY,
            deflated[start : start + part],
            fin=start + part >= len(deflated),
            rsv=0 if start else RSV1,
        )
        for start in range(0, len(deflated), part)
    )
    reader = FrameReader(300_000, masked=True, inflater=inflater())

    assert len(deflated) > 300_000
    assert reader.feed(stream, len(stream)) == [message]


def test_message_that_is_not_compressed_and_too_long() -> None:
    """Where compression was agreed on, the limit is the same for messages without it, whole or in parts."""
    for parts in ([301], [200, 101]):
        reader = FrameReader(300, masked=True, inflater=inflater())
        stream = b"".join(
            frame(CONTINUATION if number else BINARY, bytes(size), fin=number == len(parts) - 1)
            for number, size in enumerate(parts)
        )

        assert reader.feed(stream, len(stream)) == []
        assert reader.code == 1009


def bomb(size: int) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return (encoder.compress(bytes(size)) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("size", [1001, 100_000_000])
def test_bomb(size: int) -> None:
    """What grows beyond the limit is refused; no more than the limit is ever made of it."""
    deflated = bomb(size)
    wire = frame(BINARY, deflated, rsv=RSV1)
    inflater = Inflater([PerMessageDeflate(True, True, 15, 15)])
    reader = FrameReader(max(1000, len(deflated)), masked=True, inflater=inflater)
    if size == 1001:
        reader = FrameReader(1000, masked=True, inflater=inflater)

    assert reader.feed(wire, len(wire)) == []
    assert isinstance(reader.error, MessageTooLarge)
    assert reader.code == 1009
    assert reader.tail == 0


def test_bomb_in_fragments() -> None:
    """The limit is one for all fragments of a message."""
    inflater = Inflater([PerMessageDeflate(True, True, 15, 15)])
    reader = FrameReader(1000, masked=True, inflater=inflater)
    encoder = zlib.compressobj(wbits=-15)
    first = encoder.compress(bytes(800)) + encoder.flush(zlib.Z_SYNC_FLUSH)
    second = (encoder.compress(bytes(800)) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stream = frame(BINARY, first, fin=False, rsv=RSV1)
    stream += frame(CONTINUATION, second)

    assert reader.feed(stream, len(stream)) == []
    assert reader.code == 1009


@pytest.mark.parametrize("most", [0, 1, 10])
def test_limit_to_the_byte(most: int) -> None:
    """As many bytes as are allowed are good, and one more is not."""
    inflater = Inflater([PerMessageDeflate(True, True, 15, 15)])

    assert inflater.inflate(FIN | RSV1 | BINARY, bomb(most), most) == bytes(most)
    with pytest.raises(MessageTooLarge):
        inflater.inflate(FIN | RSV1 | BINARY, bomb(most + 1), most)


def test_nonsense_that_says_it_is_compressed() -> None:
    """It is refused as such."""
    inflater = Inflater([PerMessageDeflate(True, True, 15, 15)])
    with pytest.raises(FramingError, match="a compressed message that is none"):
        inflater.inflate(FIN | RSV1 | BINARY, b"\xff\xff\xff", 100)
    reader = FrameReader(1000, masked=True, inflater=inflater)
    wire = frame(BINARY, b"\xff\xff", rsv=RSV1)
    reader.feed(wire, len(wire))

    assert reader.code == 1002
