"""Positions in a stream, and the messages that lie before them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LENGTH4, LINES, Framing
from producer_pool.toolkit.streams.ledger import Ledger

BATCHES = st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=5), min_size=1, max_size=6)


def _fill(ledger: Ledger, framing: Framing, batches: list[list[bytes]]) -> list[int]:
    """Take everything; return the position after each message."""
    ends: list[int] = []
    position = 0
    for messages in batches:
        wire = framing.encode(messages)
        ledger.take(Batch.of(messages), 0, len(wire), 0)
        for message in messages:
            position += len(framing.encode([message]))
            ends.append(position)
    return ends


@given(BATCHES, st.data())
def test_messages_within_any_position(batches: list[list[bytes]], data: st.DataObject) -> None:
    """At any position, the messages that count are those that end there or before."""
    ledger = Ledger(LENGTH4, keeps=True)
    ends = _fill(ledger, LENGTH4, batches)
    reached = data.draw(st.integers(0, ends[-1]))

    within = ledger.within(reached)

    assert within == sum(end <= reached for end in ends)
    assert ledger.splits(reached) == (reached not in (0, *ends))


@given(BATCHES, st.data())
def test_advancing_confirms_whole_batches(batches: list[list[bytes]], data: st.DataObject) -> None:
    """Confirming goes by batches, never backwards, and does not change what within() says."""
    ledger = Ledger(LENGTH4, keeps=True)
    ends = _fill(ledger, LENGTH4, batches)
    whole = list(itertools.accumulate(map(len, batches)))

    for reached in sorted(data.draw(st.lists(st.integers(0, ends[-1])))):
        before = ledger.confirmed
        moved = ledger.advance(reached)

        assert ledger.confirmed == max((n for n in whole if ends[n - 1] <= reached), default=0)
        assert moved == (ledger.confirmed > before)
        assert ledger.within(reached) == sum(end <= reached for end in ends)


def test_batch_that_is_partly_taken() -> None:
    """With an offset, the messages before it are none of this connection's."""
    ledger = Ledger(LINES, keeps=True)
    ledger.take(Batch.of([b"aa", b"bb", b"cc"]), 1, 6, 0)

    assert ledger.taken == 2
    assert [ledger.within(reached) for reached in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_bytes_that_belong_to_no_message() -> None:
    """What a protocol says between messages moves the positions of those after it."""
    ledger = Ledger(LINES, keeps=True)
    ledger.take(Batch.of([b"a"]), 0, 2, 0)
    ledger.skip(10)
    ledger.take(Batch.of([b"b"]), 0, 2, 0)

    assert [ledger.within(reached) for reached in (1, 2, 12, 13, 14)] == [0, 1, 1, 1, 2]


def test_unsent_rest_is_not_written() -> None:
    """A batch counts as written when the kernel has its last byte."""
    ledger = Ledger(LINES, keeps=False)
    ledger.take(Batch.of([b"a", b"b"]), 0, 4, 0)
    ledger.take(Batch.of([b"c", b"d"]), 0, 4, 1)
    before = ledger.written, ledger.within(7)
    ledger.flushed()

    assert before == (2, 3)
    assert (ledger.written, ledger.waits) == (4, False)


@pytest.mark.parametrize("keeps", [False, True])
def test_batches_are_kept_no_longer_than_needed(keeps: bool) -> None:
    """Only what may be asked about later is referred to."""
    ledger = Ledger(LINES, keeps=keeps)
    ledger.take(Batch.of([b"a"]), 0, 2, 0)

    assert ledger.waits is keeps
    ledger.advance(2)
    assert not ledger.waits


@pytest.mark.parametrize("keeps", [True, False])
def test_messages_that_this_connection_does_not_get(keeps: bool) -> None:
    """They count as taken and written, and those around them stay where they are in the stream."""
    ledger = Ledger(LINES, keeps=keeps)
    ledger.miss(2)
    ledger.take(Batch.of([b"a", b"b"]), 0, 4, 0)
    ledger.miss(3)
    ledger.take(Batch.of([b"c"]), 0, 2, 1)

    assert (ledger.taken, ledger.written) == (8, 7)
    assert ledger.within(4) == ledger.within(5) == 7
    assert ledger.within(6) == 8
    if keeps:
        assert [ledger.within(reached) for reached in (0, 1, 2, 3)] == [2, 2, 3, 3]
        assert ledger.advance(4)
        assert ledger.confirmed == 4
    ledger.flushed()
    assert ledger.written == 8


@pytest.mark.parametrize("keeps", [False, True])
def test_messages_that_passed_by(keeps: bool) -> None:
    """They are confirmed with all before them, and what is taken after them begins behind their bytes."""
    ledger = Ledger(LINES, keeps=keeps)
    ledger.pass_by(40, 10)

    assert (ledger.position, ledger.taken, ledger.written, ledger.confirmed) == (40, 10, 10, 10)

    ledger.take(Batch.of([b"a", b"b"]), 0, 4, 2)

    assert [ledger.within(reached) for reached in (40, 42, 44)] == [10, 11, 12]
