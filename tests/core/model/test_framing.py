"""Framings: encode, split, count, offset, index and misfits agree with each other."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.framing import LENGTH4, LINES, NUL, OCTET_COUNTING, Framing, framing_named

FRAMINGS = (LINES, NUL, LENGTH4, OCTET_COUNTING)
each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)

# Bytes that mean something to one of the framings come up often.
payloads = st.lists(st.one_of(st.binary(max_size=9), st.text("\n\0 019a", max_size=9).map(str.encode)))


def carried(framing: Framing, messages: list[bytes]) -> list[bytes]:
    """Return those of *messages* that *framing* can carry."""
    misfits = framing.misfits(messages, framing.encode(messages))
    return [message for index, message in enumerate(messages) if index not in misfits]


@each_framing
@given(messages=payloads)
def test_what_fits_comes_back(framing: Framing, messages: list[bytes]) -> None:
    """Encoding and splitting returns exactly the messages, in order."""
    messages = carried(framing, messages)
    wire = framing.encode(messages)

    assert framing.split(wire) == messages
    assert framing.count(wire) == len(messages)
    assert framing.misfits(messages, wire) == ()


@each_framing
@given(messages=payloads)
def test_one_message(framing: Framing, messages: list[bytes]) -> None:
    """It is framed as several are, and None if it does not fit."""
    fitting = carried(framing, messages)
    frames = [frame for message in messages if (frame := framing.frame(message)) is not None]

    assert frames == [framing.encode([message]) for message in fitting]


@each_framing
@given(messages=payloads)
def test_misfits_are_those_that_do_not_come_back(framing: Framing, messages: list[bytes]) -> None:
    """A message is a misfit if a decoder would not return it, alone, as it was. No other one is."""
    expected = []
    for index, message in enumerate(messages):
        wire = framing.encode([message])
        decoder = framing.decoder(100)
        found = framing.split(decoder.feed(wire, len(wire)))
        if found != [message] or decoder.error is not None:
            expected.append(index)

    assert list(framing.misfits(messages, framing.encode(messages))) == expected


@each_framing
@given(messages=payloads)
def test_offset_and_index_are_inverse(framing: Framing, messages: list[bytes]) -> None:
    """Frame n starts where the first n messages end, and so many lie wholly before each byte after that."""
    messages = carried(framing, messages)
    wire = framing.encode(messages)
    starts = [len(framing.encode(messages[:index])) for index in range(len(messages) + 1)]

    assert [framing.offset(wire, index) for index in range(len(messages) + 1)] == starts
    assert [framing.index(wire, offset) for offset in range(len(wire) + 1)] == [
        sum(start <= offset for start in starts) - 1 for offset in range(len(wire) + 1)
    ]


@each_framing
@given(messages=payloads, size=st.integers(1, 30))
def test_cut(framing: Framing, messages: list[bytes], size: int) -> None:
    """Pieces follow each other, are no longer than was asked for or one frame, and as long as they may be."""
    messages = carried(framing, messages)
    wire = framing.encode(messages)
    pieces = list(framing.cut(wire, size))

    assert b"".join(piece for piece, _ in pieces) == wire
    assert [framing.count(piece) for piece, _ in pieces] == [count for _, count in pieces]
    for piece, count in pieces:
        assert count == 1 or len(piece) <= size
    for (piece, _), (following, _) in pairwise(pieces):
        assert len(piece) + framing.offset(following, 1) > size


@pytest.mark.parametrize("framing", [LENGTH4, OCTET_COUNTING], ids=repr)
def test_cut_walks_once(framing: Framing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where frames are found by walking, that is done once, and not for each piece."""
    kind: Any = type(framing)
    walk, walked = kind.ends, []

    def counting(self: Framing, wire: bytes) -> list[int]:
        walked.append(len(wire))
        ends: list[int] = walk(self, wire)
        return ends

    monkeypatch.setattr(kind, "ends", counting)
    wire = framing.encode([b"message"] * 100)

    assert len(list(framing.cut(wire, 25))) == 50
    assert walked == [len(wire)]


class Counted(bytes):
    """Bytes that count how many of them were copied."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.copied += len(part)
            return Counted(part)
        return part

    def split(self, *args: Any) -> list[Any]:
        Counted.copied += len(self)
        return super().split(*args)


@each_framing
def test_cut_copies_once(framing: Framing) -> None:
    """Twice as many pieces are twice as much work: what is to be cut yet is not copied for each of them."""
    wire = Counted(framing.encode([b"message"] * 1000))
    Counted.copied = 0

    assert len(list(framing.cut(wire, len(wire) // 100))) >= 100
    assert Counted.copied < 10 * len(wire)


@each_framing
def test_no_messages(framing: Framing) -> None:
    """No messages make no bytes, in which there are no messages."""
    assert framing.encode([]) == b""
    assert framing.split(b"") == []
    assert framing.count(b"") == framing.offset(b"", 0) == framing.index(b"", 0) == 0
    assert framing.misfits([], b"") == ()


@pytest.mark.parametrize("framing", FRAMINGS[:2], ids=lambda framing: framing.name)
@pytest.mark.parametrize("size", [1, 127, 40_000])
def test_count_of_many(framing: Framing, size: int) -> None:
    """A wire that is too long to be copied at once is counted right, also at the seams."""
    number = 600_000 // size

    assert framing.count(framing.encode([b"x" * size] * number)) == number


@pytest.mark.parametrize(
    "framing,wire",
    [
        (LINES, b"one\r\n\ntwo\n"),
        (NUL, b"one\r\0\0two\0"),
        (LENGTH4, b"\0\0\0\4one\r\0\0\0\0\0\0\0\3two"),
    ],
)
def test_on_the_wire(framing: Framing, wire: bytes) -> None:
    """This is what the other side has to speak. A carriage return belongs to the message."""
    assert framing.encode([b"one\r", b"", b"two"]) == wire


def test_octet_counting_on_the_wire() -> None:
    """RFC 6587, 3.4.1: the length in decimal, a space, the message."""
    assert OCTET_COUNTING.encode([b"<34>1 - x", b"a" * 10]) == b"9 <34>1 - x10 aaaaaaaaaa"


@each_framing
def test_why_misfit_names_the_framing(framing: Framing) -> None:
    """Who reads why a message was rejected learns which option to look at."""
    assert f"framing={framing.name} cannot carry" in framing.why_misfit()


@each_framing
def test_framing_is_found_by_its_name(framing: Framing) -> None:
    """The name is what stands in URLs, and makes two framings equal."""
    assert framing_named(framing.name) is framing
    assert {framing: 1}[framing_named(framing.name)] == 1
    assert framing != next(other for other in FRAMINGS if other is not framing)
    assert repr(framing) == f"<Framing {framing.name}>"


def test_unknown_framing() -> None:
    """The error lists those that exist, and the nearest."""
    with pytest.raises(ConfigurationError) as raised:
        framing_named("line")

    assert str(raised.value) == (
        "no framing 'line'; there are: lines, nul, length4, octet-counting; did you mean lines?"
    )
