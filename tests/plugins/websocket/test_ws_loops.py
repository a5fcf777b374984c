"""What was compiled does the same as Python, to the byte, and takes nothing that it cannot hold."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer_pool_websocket import loops, runs
from producer_pool_websocket.frames import BINARY, FIN, PING, TEXT
from support.webs import frame

LIMIT = 300
# Around these the head of a frame changes, or four and eight bytes are masked at once.
SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 299, 300, 301)

payloads = st.one_of(st.binary(max_size=20), st.sampled_from(SIZES).map(os.urandom))
frames = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, TEXT, BINARY, BINARY, PING, 0, 3]),
    payloads,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0x40, 0x10]),
    masked=st.booleans(),
)
runs_of_frames = st.builds(lambda one, many: one * many, frames, st.integers(1, 30))
streams = st.lists(st.one_of(frames, runs_of_frames, st.binary(min_size=1, max_size=9)), min_size=1).map(
    b"".join
)


@given(stream=streams, masked=st.booleans(), limit=st.integers(0, LIMIT), data=st.data())
@example(stream=b"\x81\xfe\x00\x7d" + bytes(129), masked=True, limit=LIMIT, data=None)
@example(stream=b"\x81\xff" + bytes(7) + b"\x01" + bytes(5), masked=True, limit=LIMIT, data=None)
@example(stream=b"\x81\xfe\xff\xff" + bytes(4), masked=True, limit=LIMIT, data=None)
@example(stream=b"\x81\x00" * 12, masked=False, limit=LIMIT, data=None)
def test_reads_as_python_does(
    compiled: ModuleType, stream: bytes, masked: bool, limit: int, data: st.DataObject | None
) -> None:
    """From wherever it is begun, and wherever it is cut: the same messages, up to the same place."""
    position = data.draw(st.integers(0, len(stream) - 1)) if data else 0
    size = data.draw(st.integers(position + 1, len(stream))) if data else len(stream)
    given = (stream[:size], position, limit, masked)

    assert compiled.read_messages(*given) == runs.read_messages(*given)


@given(messages=st.lists(payloads), first=st.integers(0, 255), masked=st.booleans())
def test_writes_as_python_does(compiled: ModuleType, messages: list[bytes], first: int, masked: bool) -> None:
    """The same wire from the same keys, of a list and of a tuple."""
    keys = os.urandom(4 * len(messages)) if masked else b""
    expected = runs.write_messages(first, messages, keys)

    assert compiled.write_messages(first, messages, keys) == expected
    assert compiled.write_messages(first, tuple(messages), keys) == expected


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [65535, 65536, 65537, 1 << 20])
def test_large_messages(compiled: ModuleType, size: int, masked: bool) -> None:
    """They are written in the longer forms; the longest one is left to Python when read."""
    messages = [b"before", os.urandom(size), b"after"]
    keys = os.urandom(12) if masked else b""
    wire = compiled.write_messages(FIN | BINARY, messages, keys)

    assert wire == runs.write_messages(FIN | BINARY, messages, keys)
    assert compiled.read_messages(wire, 0, size, masked) == runs.read_messages(wire, 0, size, masked)


@pytest.mark.parametrize(
    "given,error",
    [
        ((bytearray(b"\x81\x00ab"), 0, 9, False), TypeError),
        ((memoryview(b"\x81\x00ab"), 0, 9, False), TypeError),
        (("text", 0, 9, False), TypeError),
        ((b"\x81\x00ab", 4, 9, False), IndexError),
        ((b"\x81\x00ab", -1, 9, False), IndexError),
        ((b"", 0, 9, False), IndexError),
        ((b"\x81\x00ab", 0, 1 << 63, False), OverflowError),
        ((b"\x81\x00ab", 0), TypeError),
    ],
)
def test_what_cannot_be_read(compiled: ModuleType, given: tuple[object, ...], error: type[Exception]) -> None:
    """It is an error, and no look beyond what is there."""
    with pytest.raises(error):
        compiled.read_messages(*given)


def test_limit_below_zero(compiled: ModuleType) -> None:
    """Nothing is as short as that."""
    assert compiled.read_messages(b"\x81\x00ab", 0, -1, False) == ([], 0)


@pytest.mark.parametrize(
    "given,error",
    [
        ((256, [b"x"], b""), OverflowError),
        ((-1, [b"x"], b""), OverflowError),
        ((1, [b"x", b"y"], b"four"), ValueError),
        ((1, [b"x"], b"four more"), ValueError),
        ((1, [], b"four"), ValueError),
        ((1, [b"x", "y"], b""), TypeError),
        ((1, [b"x", bytearray(b"y")], b""), TypeError),
        ((1, 7, b""), TypeError),
        ((1, [b"x"], bytearray(b"four")), TypeError),
    ],
)
def test_what_cannot_be_written(
    compiled: ModuleType, given: tuple[object, ...], error: type[Exception]
) -> None:
    """It is an error, and no look beyond what is there."""
    with pytest.raises(error):
        compiled.write_messages(*given)


def test_nothing_is_kept(compiled: ModuleType) -> None:
    """What was given and what came back belong to nobody else afterwards."""
    messages = [os.urandom(20), os.urandom(200)]
    keys = os.urandom(8)
    wire = compiled.write_messages(FIN | TEXT, messages, keys)
    before = [sys.getrefcount(one) for one in (*messages, messages, keys, wire)]

    for _ in range(100):
        compiled.write_messages(FIN | TEXT, messages, keys)
        compiled.write_messages(FIN | TEXT, tuple(messages), b"")
        compiled.read_messages(wire, 0, LIMIT, True)
        with pytest.raises(ValueError, match="four bytes of a key"):
            compiled.write_messages(FIN | TEXT, messages, b"four")
        with pytest.raises(TypeError):
            compiled.write_messages(FIN | TEXT, [*messages, None], b"")

    assert [sys.getrefcount(one) for one in (*messages, messages, keys, wire)] == before
    read, _ = compiled.read_messages(wire, 0, LIMIT, True)
    assert {sys.getrefcount(read[number]) for number in range(2)} == {2}


def test_without_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python does it, if nothing is installed or nothing could be compiled."""
    monkeypatch.setitem(sys.modules, "producer_pool_websocket_speedups", None)
    try:
        importlib.reload(loops)

        assert loops.read_messages is runs.read_messages
        assert loops.write_messages is runs.write_messages
    finally:
        monkeypatch.undo()
        importlib.reload(loops)


def test_with_what_was_compiled(compiled: ModuleType) -> None:
    """It is what is used, where it is installed."""
    importlib.reload(loops)

    assert loops.read_messages is compiled.read_messages
    assert loops.write_messages is compiled.write_messages
