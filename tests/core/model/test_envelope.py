"""Framings of a plugin's own keep what every framing keeps, and let nothing pass that is no envelope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.envelope import EnvelopeFraming
from producer_pool.model.errors import FramingError, MessageTooLarge
from producer_pool.model.framing import LENGTH4, LINES, NUL, OCTET_COUNTING, Framing


class Put(EnvelopeFraming):
    """What the docstring shows, with any framing inside, and a count of what it did."""

    name = "put"

    def __init__(self, inner: Framing = LINES) -> None:
        self.inner = inner
        self.unwrapped = 0

    def wrap(self, message: bytes) -> bytes:
        return b"PUT " + message

    def unwrap(self, envelope: bytes) -> bytes:
        self.unwrapped += 1
        if not envelope.startswith(b"PUT "):
            raise FramingError("a line does not begin with PUT")
        return envelope[4:]


class Hexadecimal(EnvelopeFraming):
    """An envelope whose length depends on the message, and whose errors are Python's own."""

    name = "hexadecimal"

    def wrap(self, message: bytes) -> bytes:
        return message.hex().encode()

    def unwrap(self, envelope: bytes) -> bytes:
        return bytes.fromhex(envelope.decode())

    def longest(self, max_message: int) -> int:
        return 2 * max_message


class Bare(EnvelopeFraming):
    """No envelope at all: also an empty one."""

    name = "bare"
    inner = OCTET_COUNTING

    def wrap(self, message: bytes) -> bytes:
        return message

    def unwrap(self, envelope: bytes) -> bytes:
        return envelope


FRAMINGS = (Put(), Put(NUL), Put(LENGTH4), Put(OCTET_COUNTING), Hexadecimal(), Bare())
each_framing = pytest.mark.parametrize(
    "framing", FRAMINGS, ids=lambda framing: f"{framing.name}-{framing.inner.name}"
)
payloads = st.lists(st.one_of(st.binary(max_size=9), st.text("PUT\n\0 0a", max_size=9).map(str.encode)))


def decoded(framing: Framing, stream: bytes, sizes: list[int], limit: int = 100) -> tuple[bytes, object]:
    """Feed *stream* to a decoder in chunks of *sizes*; return what came out, and the type of its error."""
    decoder, wire = framing.decoder(limit), b""
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        found = decoder.feed(piece, len(piece))
        assert decoder.frames in (None, framing.count(found))
        wire += found
    return wire, type(decoder.error)


@each_framing
@given(messages=payloads)
def test_misfits_are_those_that_do_not_come_back(framing: EnvelopeFraming, messages: list[bytes]) -> None:
    """A message is a misfit if a decoder would not return it, alone, as it was. No other one is."""
    expected = []
    for index, message in enumerate(messages):
        wire, error = decoded(framing, framing.encode([message]), [])
        if error is not type(None) or framing.split(wire) != [message]:
            expected.append(index)

    assert list(framing.misfits(messages, framing.encode(messages))) == expected


@each_framing
@given(messages=payloads, sizes=st.lists(st.integers(1, 30)))
def test_stream_cut_anywhere(framing: EnvelopeFraming, messages: list[bytes], sizes: list[int]) -> None:
    """All envelopes come out whole, and in them the messages; positions are those of the inner framing."""
    misfits = framing.misfits(messages, framing.encode(messages))
    messages = [message for index, message in enumerate(messages) if index not in misfits]
    wire = framing.encode(messages)
    starts = [len(framing.encode(messages[:index])) for index in range(len(messages) + 1)]

    assert decoded(framing, wire, sizes) == (wire, type(None))
    assert framing.split(wire) == messages
    assert framing.count(wire) == len(messages)
    assert [framing.offset(wire, index) for index in range(len(messages) + 1)] == starts
    assert [framing.index(wire, start) for start in starts] == list(range(len(messages) + 1))


@given(sizes=st.lists(st.integers(1, 9)))
def test_what_is_no_envelope(sizes: list[int]) -> None:
    """What came before it is good, and nothing is after it, however the stream is cut."""
    stream = b"PUT one\nPUT two\nGET /\nPUT three\n"

    assert decoded(Put(), stream, sizes) == (b"PUT one\nPUT two\n", FramingError)


def test_python_error_while_unwrapping() -> None:
    """It means the same, and the text does not show what was received."""
    decoder = Hexadecimal().decoder(100)

    assert decoder.feed(b"6f\nsecret\n6f\n", 13) == b"6f\n"
    assert str(decoder.error) == "hexadecimal: ValueError while unwrapping what came"
    assert decoder.tail == 0
    assert decoder.feed(b"6f\n", 3) == b""


@pytest.mark.parametrize("framing", [Put(), Hexadecimal()], ids=lambda framing: framing.name)
def test_limit_is_that_of_messages(framing: EnvelopeFraming) -> None:
    """A message of just that size passes; one that is longer does not, and the error names the limit."""
    fits, too_long = framing.encode([b"x" * 10]), framing.encode([b"x" * 11])

    assert decoded(framing, fits, [], limit=10) == (fits, type(None))
    assert decoded(framing, too_long, [], limit=10) == (b"", MessageTooLarge)
    decoder = framing.decoder(10)
    decoder.feed(too_long, len(too_long))
    assert isinstance(decoder.error, MessageTooLarge)
    assert decoder.error.limit == 10


def test_short_message_in_a_long_envelope() -> None:
    """An envelope may be as long as longest() says, whoever wrote it; the message counts."""

    class Padded(Put):
        def unwrap(self, envelope: bytes) -> bytes:
            return super().unwrap(envelope).strip()

        def longest(self, max_message: int) -> int:
            return 40

    wire = b"PUT " + b" " * 30 + b"x\n"

    assert decoded(Padded(), wire, [], limit=10) == (wire, type(None))


@pytest.mark.parametrize(
    "stream, unfinished", [(b"PUT one\nPUT tw", b"tw"), (b"PUT one\nPU", None), (b"PUT one\n", None)]
)
def test_end_inside_an_envelope(stream: bytes, unfinished: bytes | None) -> None:
    """What is unfinished is a message if it passes as an envelope; else nobody gets it."""
    decoder = Put().decoder(100)
    decoder.feed(stream, len(stream))
    tail = decoder.tail

    assert decoder.finish() == unfinished
    assert tail == len(stream) - len(b"PUT one\n")


def test_check_of_its_own() -> None:
    """Then finding out and cutting are two things, and each is done once for each message."""

    class Checked(Put):
        checked = 0

        def check(self, envelope: bytes) -> None:
            self.checked += 1
            if envelope != b"PUT one":
                raise FramingError("it is not one")

    framing = Checked()
    wire, error = decoded(framing, b"PUT one\nPUT one\nPUT two\n", [])
    messages = Batch.from_wire(wire, framing).messages

    assert error is FramingError
    assert messages == [b"one", b"one"]
    assert (framing.checked, framing.unwrapped) == (3, 2)


def test_two_of_one_name() -> None:
    """They are not equal, and a batch encodes for each of them: they may hold two keys."""

    class Keyed(Put):
        def wrap(self, message: bytes) -> bytes:
            return b"PUT %d" % id(self) + message

    one, two = Keyed(), Keyed()
    batch = Batch.of([b"x"])

    assert one != two
    assert len({one, two}) == 2
    assert batch.wire(one) == one.encode([b"x"])
    assert batch.wire(two) == two.encode([b"x"])


def test_why_misfit() -> None:
    """The text names this framing, and no option that its URLs may not have."""
    assert Put().why_misfit() == "put: framing=lines cannot carry a message that holds a newline"
