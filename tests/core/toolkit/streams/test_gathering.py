"""What is joined in a turn, and when it pays to wait for more."""

from __future__ import annotations

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES, Framing
from producer_pool.toolkit.streams.gathering import Gathering

DELAY = 2.0**-10


class Gathered:
    """A gathering, its clock, and what it passed on."""

    def __init__(self) -> None:
        self.fed: list[Batch] = []
        self.now = 100.0
        self._gathering = Gathering(DELAY, LINES, origin="tcp://here", feed=self.fed.append, now=self.now)

    def take(self, *wires: bytes, framing: Framing = LINES) -> None:
        for number, wire in enumerate(wires):
            origin = f"tcp://there:{number}"
            self._gathering.take(Batch.from_wire(wire, framing, received=self.now, origin=origin))

    def end_turn(self, after: float) -> float:
        self.now += after
        return self._gathering.end_turn(self.now)


@pytest.fixture
def gathered() -> Gathered:
    return Gathered()


def test_one_turn_is_one_batch(gathered: Gathered) -> None:
    """In the order in which it came, from the listener, with the time of the oldest."""
    gathered.take(b"a\nb\n", b"c\n", b"d\n")
    before = list(gathered.fed)
    gathered.end_turn(0.0)
    (batch,) = gathered.fed

    assert before == []
    assert batch.wire(LINES) == b"a\nb\nc\nd\n"
    assert len(batch) == 4
    assert batch.origin == "tcp://here"
    assert batch.received == 100.0


def test_batch_alone_stays_as_it_is(gathered: Gathered) -> None:
    """It says where it came from."""
    gathered.take(b"a\n")
    gathered.end_turn(0.0)
    gathered.end_turn(0.0)

    assert [batch.origin for batch in gathered.fed] == ["tcp://there:0"]


def test_large_batches_are_not_copied(gathered: Gathered) -> None:
    """What is large goes on as it came, behind what came before it."""
    large = b"x" * 70_000 + b"\n"
    gathered.take(b"a\n", b"b\n", large, b"c\n")
    gathered.end_turn(0.0)

    assert [batch.wire(LINES) for batch in gathered.fed] == [b"a\nb\n", large, b"c\n"]


def test_pays_where_four_are_expected(gathered: Gathered) -> None:
    """Four in the time of the delay are enough, and three are not."""
    rests = {}
    for messages in (4, 3):
        for _ in range(4 * messages):
            gathered.take(b"a\n")
            rests[messages] = gathered.end_turn(DELAY / messages)

    assert rests == {4: DELAY, 3: 0.0}


def test_goes_on_while_they_come(gathered: Gathered) -> None:
    """Turn after turn that finds enough is followed by a wait, and the first that does not by none."""
    rests = []
    for many in (0, 9, 9, 2, 9):
        gathered.take(*[b"a\n"] * many)
        rests.append(gathered.end_turn(DELAY))

    assert rests == [0.0, DELAY, DELAY, 0.0, DELAY]


def test_burst_after_silence_waits_for_nothing(gathered: Gathered) -> None:
    """A hundred messages at once are passed on at once: nobody knows of more."""
    gathered.take(*[b"a\n"] * 100)

    assert gathered.end_turn(10.0) == 0.0
    assert len(gathered.fed) == 1


def test_flood_waits_for_nothing(gathered: Gathered) -> None:
    """Who sends as fast as it can is not slowed down: what it sends is large already."""
    rests = []
    for _ in range(5):
        gathered.take(b"a\n" * 30_000, b"a\n" * 30_000)
        rests.append(gathered.end_turn(DELAY))

    assert rests == [0.0] * 5
