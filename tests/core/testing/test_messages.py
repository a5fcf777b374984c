"""Messages of a trial: what they are like, and how two lists of them differ."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pytest

from producer_pool.testing.messages import difference, numbered, shown

A, B, C = numbered(3)


@pytest.mark.parametrize("size", [18, 19, 64, 1000, 65536])
def test_numbered_messages(size: int) -> None:
    """They have the size that was asked for, no two are alike, and they are lines of text."""
    messages = numbered(50, size=size, start=7)

    assert {len(message) for message in messages} == {size}
    assert len(set(messages)) == 50
    assert messages[0].startswith(b"00000007 ")
    assert all(message.isascii() and b"\n" not in message for message in messages)
    assert messages == sorted(messages)


@pytest.mark.parametrize("size", [400, 4096, 16 * 1024, 64 * 1024, 3 * 1024 * 1024 // 2])
def test_messages_that_are_compressed(size: int) -> None:
    """They are hardly shorter, all of them: who counts the bytes of a connection knows what is on its way."""
    wire = b"".join(numbered(2_000_000 // size + 2, size=size))

    assert len(zlib.compress(wire)) > 0.7 * len(wire)


@pytest.mark.parametrize(
    "received,ordered,text",
    [
        ([A, B, C], True, ""),
        ([C, A, B], False, ""),
        ([C, A, B], True, f"another order: {shown(C)} arrived before {shown(A)}"),
        ([A, C], True, f"1 of 3 messages did not arrive, such as {shown(B)}"),
        ([A, B, B, C], True, f"1 of 3 messages arrived more than once, such as {shown(B)}"),
        ([A, b"x", C], True, f"b'x' arrived in the place of {shown(B)}, and nobody sent it"),
        ([A, b"x", b"y"], False, "b'x' arrived, and nobody sent it, and 1 others like it"),
        ([A, B, C, b"x"], True, "b'x' arrived, and nobody sent it"),
    ],
)
def test_difference(received: Sequence[bytes], ordered: bool, text: str) -> None:
    """It is named as what it is: a message altered, missing, doubled, or in another order."""
    assert difference([A, B, C], received, ordered=ordered) == text


def test_difference_of_messages_that_were_sent_twice() -> None:
    """Then two have to arrive."""
    assert difference([A, A, B], [A, A, B]) == ""
    assert "did not arrive" in difference([A, A, B], [A, B])


def test_long_message_is_shown_in_part() -> None:
    """A verdict is read by people."""
    assert shown(b"short") == "b'short'"
    assert shown(b"x" * 100) == f"{b'x' * 40!r}... (100 bytes)"
