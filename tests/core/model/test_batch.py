"""Batches: one form that came, at most one more, and which message is which."""

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.decoders import Decoder
from producer_pool.model.framing import LENGTH4, LINES, NUL, OCTET_COUNTING, Framing
from producer_pool.model.policies import BATCH_OVERHEAD, MESSAGE_OVERHEAD

FRAMINGS = (LINES, NUL, LENGTH4, OCTET_COUNTING)
each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)

plain = st.lists(st.text("abc", min_size=1, max_size=5).map(str.encode), max_size=20)


class Counted(Framing):
    """A framing that counts how often it is asked to work."""

    def __init__(self, name: str, inner: Framing) -> None:
        self.name = name
        self.calls: list[str] = []
        self._inner = inner

    def encode(self, messages: Sequence[bytes]) -> bytes:
        self.calls.append("encode")
        return self._inner.encode(messages)

    def misfits(self, messages: Sequence[bytes], wire: bytes) -> tuple[int, ...]:
        self.calls.append("misfits")
        return self._inner.misfits(messages, wire)

    def split(self, wire: bytes) -> list[bytes]:
        self.calls.append("split")
        return self._inner.split(wire)

    def count(self, wire: bytes) -> int:
        self.calls.append("count")
        return self._inner.count(wire)

    def why_misfit(self) -> str:
        return self._inner.why_misfit()

    def offset(self, wire: bytes, index: int) -> int:
        return self._inner.offset(wire, index)

    def index(self, wire: bytes, offset: int) -> int:
        return self._inner.index(wire, offset)

    def cut(self, wire: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        return self._inner.cut(wire, size)

    def decoder(self, max_message: int) -> Decoder:
        return self._inner.decoder(max_message)


@pytest.fixture
def lines() -> Counted:
    return Counted("lines", LINES)


@pytest.fixture
def length4() -> Counted:
    return Counted("length4", LENGTH4)


# -- in and out ------------------------------------------------------------------------------------


def test_messages_of_all_kinds() -> None:
    """Text is UTF-8; whatever holds bytes is copied, so that its owner may change it."""
    buffer = bytearray(b"two")
    batch = Batch.of(["one é", buffer, memoryview(b"three"), b"four"], received=1.5, origin="here")  # type: ignore[list-item]
    buffer[:] = b"XXX"

    assert batch.messages == ["one é".encode(), b"two", b"three", b"four"]
    assert list(batch) == batch.messages
    assert {type(message) for message in batch.messages} == {bytes}
    assert (batch.received, batch.origin, batch.kept) == (1.5, "here", None)
    assert repr(batch) == "<Batch of 4 messages, 18 bytes>"


@pytest.mark.parametrize("message,name", [(1, "int"), (None, "NoneType"), (["x"], "list")])
def test_message_of_another_type(message: Any, name: str) -> None:
    """The error says what a message may be."""
    with pytest.raises(TypeError, match=f"^a message is bytes or str, not {name}$"):
        Batch.of([b"fine", message])


@pytest.mark.parametrize("message", ["text", b"bytes", bytearray(b"x"), memoryview(b"x")])
def test_single_message_instead_of_several(message: Any) -> None:
    """A text is not taken for as many messages as it has letters."""
    with pytest.raises(TypeError, match=r"for a single one write Batch\.of\(\[message\]\)"):
        Batch.of(message)


@each_framing
def test_empty_batch(framing: Framing) -> None:
    """No messages are valid in every form."""
    for batch in (Batch.of([]), Batch.from_wire(b"", framing)):
        assert len(batch) == batch.nbytes == batch.longest == 0
        assert list(batch.messages) == []
        assert batch.wire(framing) == b""
        assert batch.misfits(framing) == ()
        assert len(batch.select([])) == 0


@pytest.mark.parametrize("framing", [LINES, NUL, LENGTH4], ids=lambda framing: framing.name)
def test_empty_messages(framing: Framing) -> None:
    """An empty message is a message."""
    batch = Batch.of(["", b"", "x", ""])
    back = Batch.from_wire(batch.wire(framing), framing)

    assert back.messages == [b"", b"", b"x", b""]
    assert len(back) == 4


@each_framing
@given(messages=plain)
def test_wire_comes_back(framing: Framing, messages: list[bytes]) -> None:
    """What goes out in a framing is, read in that framing, the same messages."""
    batch = Batch.of(messages)
    back = Batch.from_wire(batch.wire(framing), framing)

    assert len(back) == len(messages)
    assert back.messages == messages
    assert back.longest == batch.longest == max(map(len, messages), default=0)


# -- forms -----------------------------------------------------------------------------------------


def test_same_framing_in_and_out(lines: Counted) -> None:
    """The bytes that came are the bytes that go out: the same object, and nothing looks into it."""
    wire = b"one\ntwo\n"
    batch = Batch.from_wire(wire, lines, 2)

    assert batch.wire(lines) is wire
    assert batch.misfits(lines) == ()
    assert len(batch) == 2
    assert lines.calls == []


def test_count_is_made_once(lines: Counted) -> None:
    """Who passes no count has the frames counted when somebody asks, once."""
    batch = Batch.from_wire(b"one\ntwo\n", lines)

    assert len(batch) == len(batch) == 2
    assert lines.calls == ["count"]


def test_many_ask_for_another_framing(lines: Counted, length4: Counted) -> None:
    """It is split once, encoded once and checked once, for all of them."""
    batch = Batch.from_wire(b"one\ntwo\n", lines, 2)
    wires = [batch.wire(length4) for _ in range(3) if batch.misfits(length4) == ()]

    assert wires[0] == b"\0\0\0\3one\0\0\0\3two"
    assert wires[1] is wires[2] is wires[0]
    assert lines.calls == ["split"]
    assert length4.calls == ["encode", "misfits"]


def test_two_framings_take_turns(lines: Counted, length4: Counted) -> None:
    """A batch that came as messages keeps two forms: two kinds of consumers do not undo each other."""
    batch = Batch.of(["one", "two"])
    for _ in range(3):
        assert batch.wire(lines) == b"one\ntwo\n"
        assert batch.wire(length4) == b"\0\0\0\3one\0\0\0\3two"

    assert lines.calls == length4.calls == ["encode", "misfits"]


def test_third_framing_replaces_the_second(lines: Counted, length4: Counted) -> None:
    """There is room for the form that came and one more; a third one takes the place of that."""
    batch = Batch.from_wire(b"one\n", lines, 1)
    for _ in range(2):
        assert batch.wire(length4) == b"\0\0\0\3one"
        assert batch.wire(OCTET_COUNTING) == b"3 one"

    assert length4.calls == ["encode", "misfits"] * 2


def test_misfits_stay_misfits() -> None:
    """A framing that cannot carry all messages never becomes the form of the batch."""
    batch = Batch.of(["one", "t\nwo", "th\0ree", "\n"])

    assert batch.misfits(LINES) == (1, 3)
    assert batch.misfits(NUL) == (2,)
    assert batch.misfits(LINES) == (1, 3)
    assert batch.misfits(LENGTH4) == ()
    assert batch.misfits(LINES) == (1, 3)
    assert list(batch.messages) == [b"one", b"t\nwo", b"th\0ree", b"\n"]


@each_framing
@given(messages=plain)
def test_wire_from_a_message_on(framing: Framing, messages: list[bytes]) -> None:
    """A start leaves out just the messages before it, in the form that came and in another."""
    for batch in (Batch.of(messages), Batch.from_wire(LENGTH4.encode(messages), LENGTH4)):
        found = [batch.wire(framing, start) for start in range(len(messages) + 1)]

        assert found == [framing.encode(messages[start:]) for start in range(len(messages) + 1)]


def test_messages_are_made_once(lines: Counted) -> None:
    """Everybody who asks for the messages gets the same list."""
    batch = Batch.from_wire(b"one\ntwo\n", lines, 2)

    assert batch.messages is batch.messages
    assert batch.longest == batch.longest == 3
    assert lines.calls == ["split"]


def test_compact_lets_go_of_the_messages() -> None:
    """Afterwards a batch holds wire forms only; the messages are made again for whoever asks."""
    came, made = Batch.from_wire(b"one\ntwo\n", LINES, 2), Batch.of([b"one", b"two"])
    made.wire(LINES)
    for batch in (came, made):
        before = batch.messages
        batch.compact()

        assert batch.messages == before
        assert batch.messages is not before


def test_form_is_what_it_was_made_of() -> None:
    """Whoever stores a batch gets the very object that it holds, also when other forms were made of it."""
    messages = [b"one", b"two"]
    wire = b"one\ntwo\n"
    one_by_one, framed = Batch.owning(messages), Batch.from_wire(wire, LINES)
    framed.wire(LENGTH4)

    assert one_by_one.form is messages
    assert framed.form == (LINES, wire)
    assert framed.form[1] is wire


def test_compact_keeps_the_only_form() -> None:
    """Messages that no wire form holds are kept: not encoded yet, or not to be carried by a framing."""
    batch = Batch.of(["o\nne"])
    batch.compact()
    batch.wire(LINES)
    batch.compact()

    assert batch.messages == [b"o\nne"]


# -- bounds ----------------------------------------------------------------------------------------


def test_cost_of_a_wire() -> None:
    """It counts for its bytes and what every batch costs."""
    batch = Batch.from_wire(b"one\ntwo\n", LINES)

    assert (batch.nbytes, batch.cost) == (8, 8 + BATCH_OVERHEAD)


def test_cost_of_messages() -> None:
    """Each message after the first counts for what Python needs to hold it on its own."""
    assert Batch.of([]).cost == BATCH_OVERHEAD
    assert Batch.of(["one"]).cost == 3 + BATCH_OVERHEAD
    assert Batch.of(["one", "two", "three"]).cost == 11 + BATCH_OVERHEAD + 2 * MESSAGE_OVERHEAD


def test_cost_never_changes() -> None:
    """What was added to a bound is what is taken off it, whatever was done with the batch in between."""
    for batch in (Batch.of(["one", "two"]), Batch.from_wire(b"one\ntwo\n", LINES)):
        before = batch.cost, batch.nbytes
        batch.wire(LENGTH4)
        batch.wire(LINES)
        _ = batch.messages
        batch.compact()

        assert (batch.cost, batch.nbytes) == before


# -- lineage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch",
    [Batch.of("abcdef"[i] for i in range(6)), Batch.from_wire(b"a\nb\nc\nd\ne\nf\n", LINES)],
    ids=["messages", "wire"],
)
def test_lineage_over_several_steps(batch: Batch) -> None:
    """`kept` says for each message left which one of the submitted batch it is."""
    one = batch.select([0, 2, 3, 5])
    two = one.replace(["A", "C\n", "D", "F"])
    three = two.select([1, 3])
    four = three.replace([message * 2 for message in three.messages])

    assert (one.messages, one.kept) == ([b"a", b"c", b"d", b"f"], (0, 2, 3, 5))
    assert (two.messages, two.kept) == ([b"A", b"C\n", b"D", b"F"], (0, 2, 3, 5))
    assert (three.messages, three.kept) == ([b"C\n", b"F"], (2, 5))
    assert (four.messages, four.kept) == ([b"C\nC\n", b"FF"], (2, 5))
    assert (len(batch), batch.kept) == (6, None)


@given(st.data())
def test_lineage_of_any_selections(data: st.DataObject) -> None:
    """However often messages are left out, `kept` leads back to the first batch."""
    first = Batch.of([str(number) for number in range(data.draw(st.integers(0, 9)))])
    batch = first
    for _ in range(3):
        indexes = st.sets(st.integers(0, len(batch) - 1)) if len(batch) else st.just(set[int]())
        batch = batch.select(sorted(data.draw(indexes)))
        kept = range(len(first)) if batch.kept is None else batch.kept

        assert list(batch.messages) == [first.messages[index] for index in kept]


def test_selected_lines_are_lines(lines: Counted) -> None:
    """What a stage leaves of a wire goes out as it is, and counts as a wire does."""
    batch = Batch.from_wire(b"one\ntwo\nthree\n", lines, 3, received=2.0, origin="there").select([0, 2])
    lines.calls.clear()

    assert batch.wire(lines) == b"one\nthree\n"
    assert batch.cost == 10 + BATCH_OVERHEAD
    assert (len(batch), batch.received, batch.origin) == (2, 2.0, "there")
    assert lines.calls == []


def test_selecting_all() -> None:
    """Where nothing is left out there is no new batch."""
    batch = Batch.of(["one", "two"])

    assert batch.select([0, 1]) is batch


@pytest.mark.parametrize("indexes", [[1, 0], [0, 0], [-1], [2], [0, 2]])
def test_selecting_what_cannot_be(indexes: list[int]) -> None:
    """A message twice, in another order, or from outside would make the accounting wrong."""
    with pytest.raises(ValueError, match="rising indexes of its 2 messages"):
        Batch.of(["one", "two"]).select(indexes)


def test_replacing_by_another_number() -> None:
    """Nobody could say what became of which message."""
    with pytest.raises(ValueError, match=r"2 messages cannot be replaced by 1; leave some out with select"):
        Batch.of(["one", "two"]).replace(["one"])


@pytest.mark.parametrize("size", [1, 10, 128, 1024])
def test_cost_is_what_it_takes(size: int) -> None:
    """A batch takes no more memory than it counts for, however it came, and however small its messages."""
    # Other threads of this process take memory, too, now and then.
    came, made = (min(taken) for taken in zip(*[memory_of_batches(size) for _ in range(5)], strict=True))

    assert came <= 0
    assert made <= 0


def memory_of_batches(size: int) -> tuple[float, float]:
    """Return by how much two batches take more than they may: one that came as bytes, and one of messages."""
    number = 100_000 // size
    wire = LINES.encode([b"x" * size] * number)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        came = Batch.from_wire(bytes(bytearray(wire)), LINES)
        _ = came.longest
        came.compact()
        between = tracemalloc.get_traced_memory()[0]
        made = Batch.of([bytes(bytearray(b"x" * size)) for _ in range(number)])
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    return between - before - came.cost, after - between - made.cost * 1.05


@each_framing
def test_pieces(framing: Framing) -> None:
    """They are what goes out, in parts; made once for all who ask for the same."""
    messages = [b"%d" % number for number in range(50)]
    batch = Batch.of(messages)
    pieces = batch.pieces(framing, 40)

    assert isinstance(pieces, tuple)
    assert b"".join(piece.wire(framing) for piece in pieces) == batch.wire(framing)
    assert [message for piece in pieces for message in piece] == messages
    assert max(piece.nbytes for piece in pieces) <= 40
    assert batch.pieces(framing, 40) is pieces
    assert len(list(batch.pieces(framing, 100))) < len(pieces)


def test_runs() -> None:
    """They are its messages, in their order, as many equally long ones as are allowed; made once."""
    messages = [b"", b"", b"a", b"bc", b"de", b"fg", b"hi", b"long enough", b"j"]
    batch = Batch.of(messages)
    runs = batch.runs(3, 8)

    assert runs == (
        (b"", 0, 2),
        (b"a", 1, 1),
        (b"bcdefg", 2, 3),
        (b"hi", 2, 1),
        (b"long enough", 11, 1),
        (b"j", 1, 1),
    )
    assert batch.runs(3, 8) is runs
    assert [count for _, _, count in batch.runs(2, 8)] == [2, 1, 2, 2, 1, 1]
    assert [count for _, _, count in batch.runs(3, 5)] == [2, 1, 2, 2, 1, 1]


@pytest.mark.parametrize("when", ["before", "after"])
def test_runs_are_let_go_of(when: str) -> None:
    """As pieces are."""
    batch = Batch.of([b"x" * 1000] * 1000)
    tracemalloc.start()
    try:
        if when == "before":
            assert len(list(batch.runs(10, 10_000))) == 100
        batch.compact()
        if when == "after":
            assert sum(1 for _ in batch.runs(10, 10_000)) == 100
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert taken < batch.nbytes // 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_pieces_are_let_go_of(when: str) -> None:
    """They take as much room again, so a batch that has to wait keeps none, also if they are made later."""
    wire = LINES.encode([b"x" * 1000] * 1000)
    batch = Batch.from_wire(wire, LINES)
    tracemalloc.start()
    try:
        if when == "before":
            assert len(list(batch.pieces(LINES, 2000))) == 1000
        batch.compact()
        if when == "after":
            assert sum(map(len, batch.pieces(LINES, 2000))) == 1000
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert taken < len(wire) // 2
