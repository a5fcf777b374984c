"""Acknowledgements on the wire: which counts are read, however they are cut, and what is refused."""

from __future__ import annotations

import pytest

from producer_pool.model.envelope import EnvelopeFraming
from producer_pool.model.errors import FramingError
from producer_pool.model.framing import FRAMINGS, LENGTH4, LINES, OCTET_COUNTING, Framing
from producer_pool.toolkit.acknowledging.answers import AnswerReader, answer


class Put(EnvelopeFraming):
    """A framing of a plugin's own."""

    name = "put"

    def wrap(self, message: bytes) -> bytes:
        return b"PUT " + message

    def unwrap(self, envelope: bytes) -> bytes:
        if not envelope.startswith(b"PUT "):
            raise FramingError("a line does not begin with PUT")
        return envelope[4:]


ALL = [*FRAMINGS, Put()]


@pytest.mark.parametrize(
    "framing,wire",
    [(LINES, b"1000\n"), (LENGTH4, b"\0\0\0\x041000"), (OCTET_COUNTING, b"4 1000"), (Put(), b"PUT 1000\n")],
    ids=lambda one: getattr(one, "name", ""),
)
def test_wire(framing: Framing, wire: bytes) -> None:
    """A count is a message of digits, in the framing of the connection."""
    assert answer(1000, framing) == wire


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.name)
def test_however_it_is_cut(framing: Framing) -> None:
    """Every cut of the stream comes to the same count, and counts may be left out or repeated."""
    wire = b"".join(answer(count, framing) for count in (0, 1, 1, 17, 10**19))
    for cut in range(len(wire) + 1):
        reader = AnswerReader(framing)
        reader.feed(wire[:cut])

        assert reader.feed(wire[cut:]) == reader.count == 10**19


@pytest.mark.parametrize(
    "said",
    [
        b"1\r\n",
        b"-1\n",
        b"+1\n",
        b" 1\n",
        b"1.0\n",
        b"0x1\n",
        b"\n",
        b"ok\n",
        "\N{ARABIC-INDIC DIGIT ONE}\n".encode(),
        b"1" * 21 + b"\n",
        b"1" * 21,
        b"a secret\n",
    ],
)
def test_no_count(said: bytes) -> None:
    """Anything but digits is refused, and not shown: it may be a message that came back."""
    reader = AnswerReader(LINES)
    with pytest.raises(
        FramingError, match=r"in up to 20 digits \(framing=lines\); does it acknowledge"
    ) as error:
        reader.feed(b"5\n" + said)

    assert "secret" not in str(error.value)
    assert reader.count in (0, 5)


def test_goes_back() -> None:
    """A count below the last one is refused: it counts since the connection began."""
    reader = AnswerReader(LINES)
    reader.feed(b"7\n")
    with pytest.raises(FramingError, match="acknowledged 7 messages, and then 6"):
        reader.feed(b"6\n")

    assert reader.count == 7


@pytest.mark.parametrize("framing", ALL, ids=lambda framing: framing.name)
def test_garbage_is_not_kept(framing: Framing) -> None:
    """What never becomes a count is refused as soon as it is too long for one, and nothing of it is kept."""
    reader = AnswerReader(framing)
    for _ in range(100):
        with pytest.raises(FramingError):
            reader.feed(b"9" * 50)

        assert reader._decoder.tail == 0
