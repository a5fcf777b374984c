"""Which messages a framed stream cannot carry."""

from __future__ import annotations

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LENGTH4, LINES
from producer_pool.toolkit.streams.misfits import stream_misfits


def test_all_can_be_carried() -> None:
    """The usual case costs no new object for each batch."""
    first, second = (stream_misfits(Batch.of([b"one", b"two"]), LINES, 3, "tcp") for _ in range(2))

    assert first == {}
    assert first is second


def test_each_reason_is_its_own() -> None:
    """What is too long says so, what does not fit the framing says that, and the rest is not there."""
    found = stream_misfits(Batch.of([b"1\n3", b"fine", b"12345"]), LINES, 4, "tcp")

    assert sorted(found) == [0, 2]
    assert "framing=lines cannot carry a message that holds a newline" in str(found[0])
    assert str(found[2]) == "message of 5 bytes, and tcp takes 4; see max-message"


def test_no_limit() -> None:
    """A stream that takes any length is asked about the framing only."""
    batch = Batch.of([b"x" * 10_000_000, b"\n"])

    assert list(stream_misfits(batch, LINES, None, "tcp")) == [1]
    assert stream_misfits(batch, LENGTH4, None, "tcp") == {}
