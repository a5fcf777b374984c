"""Up to where stored batches are settled at one producer."""

import pytest

from producer_pool.delivery.cursor import Cursor
from producer_pool.delivery.tally import Tally
from producer_pool.model.errors import Cancelled
from producer_pool.model.outcomes import ForwardResult, Outcome

DELIVERED = ForwardResult("a", Outcome.DELIVERED)
CANCELLED = ForwardResult("a", Outcome.CANCELLED, None, Cancelled("closed"))


class Followed:
    """A cursor, its moves, and the tallies that it was handed."""

    def __init__(self, after: int = 0) -> None:
        self.moves: list[int] = []
        self.cursor = Cursor(after, self.moves.append)
        self.tallies: dict[int, Tally] = {}

    def hand(self, *numbers: int, count: int = 1) -> None:
        for number in numbers:
            tally = self.tallies[number] = Tally(count)
            tally.begin(self, number, 100)
            self.cursor.hand(tally)

    def settled(self, tally: Tally) -> None:
        self.cursor.nbytes -= tally.size

    def settle(self, *numbers: int, result: ForwardResult = DELIVERED) -> None:
        for number in numbers:
            self.tallies[number].run(1, 1, result)
        self.cursor.move()


@pytest.fixture
def followed() -> Followed:
    return Followed()


def test_handing_over_does_not_move_it(followed: Followed) -> None:
    """What was handed over has not arrived."""
    followed.hand(1, 2, 3)
    followed.cursor.move()

    assert followed.moves == []
    assert (followed.cursor.handed, followed.cursor.nbytes) == (3, 300)


def test_it_moves_over_what_is_settled_from_the_front(followed: Followed) -> None:
    """What is settled behind something open has to wait."""
    followed.hand(1, 2, 3)
    followed.settle(2)
    before = list(followed.moves)
    followed.settle(1)
    followed.settle(3)

    assert before == []
    assert followed.moves == [2, 3]
    assert followed.cursor.nbytes == 0


def test_it_moves_over_numbers_of_others(followed: Followed) -> None:
    """Up to just before what is open: numbers between are not this producer's."""
    followed.hand(3, 9)
    followed.settle(3)

    assert followed.moves == [8]

    followed.settle(9)

    assert followed.moves == [8, 9]


def test_it_moves_over_what_is_gone(followed: Followed) -> None:
    """When nothing is open, all up to what was passed over is settled."""
    followed.cursor.handed = 7
    followed.cursor.move()
    followed.cursor.move()

    assert followed.moves == [7]


def test_batch_is_settled_when_all_of_it_is(followed: Followed) -> None:
    """A part of it is not enough: it goes out again as a whole."""
    followed.hand(1, count=3)
    followed.tallies[1].run(2, 2, DELIVERED)
    followed.cursor.move()
    before = list(followed.moves)
    followed.tallies[1].odd((2,), DELIVERED)
    followed.cursor.move()

    assert (before, followed.moves) == ([], [1])


def test_what_is_cancelled_is_kept(followed: Followed) -> None:
    """At the end of a pool, it stays before what is cancelled, and counts that."""
    followed.hand(1, 2, 3, 4)
    followed.cursor.keeps = True
    followed.settle(1)
    followed.settle(2, 4, result=CANCELLED)
    followed.settle(3)

    assert followed.moves == [1]
    assert followed.cursor.left_stored == 2


def test_what_is_cancelled_with_its_producer_is_not(followed: Followed) -> None:
    """A producer that is removed leaves nothing behind."""
    followed.hand(1, 2)
    followed.settle(1, 2, result=CANCELLED)

    assert followed.moves == [2]
    assert followed.cursor.left_stored == 0


def test_dead_letters_hold_it(followed: Followed) -> None:
    """What was given up is settled when its dead letter is kept, or lost: a crash must not take both."""
    followed.hand(1)
    tally = followed.tallies[1]
    tally.letters += 1
    followed.settle(1)
    before = list(followed.moves)
    tally.know(1, kept=True)
    followed.cursor.move()

    assert (before, followed.moves) == ([], [1])
    assert followed.cursor.nbytes == 0
