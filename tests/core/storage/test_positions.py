"""Who is done with what: spans of numbers, and what is free for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.storage.positions import Position, free

NUMBERS = st.integers(0, 30)
SPANS = st.tuples(NUMBERS, NUMBERS)


@st.composite
def positions(draw: st.DrawFn) -> Position:
    position = Position(draw(NUMBERS))
    for span in draw(st.lists(SPANS, max_size=4)):
        position.skip(span)
    position.until = draw(st.none() | NUMBERS)
    return position


def test_moving() -> None:
    """It goes forward only."""
    position = Position(5)
    position.move(9)
    position.move(7)

    assert position.number == 9
    assert [position.wants(number) for number in (9, 10)] == [False, True]


def test_moving_up_to_what_was_skipped() -> None:
    """When all in front of a span is settled, all up to its end is."""
    position = Position(1)
    position.skip((3, 8))
    position.move(3)

    assert (position.number, position.skipped) == (8, [])


def test_one_that_is_away() -> None:
    """What is stored while it is away is not for it, and what was there before stays for it."""
    position = Position(2, until=10)
    assert [position.wants(number) for number in (2, 3, 10, 11, 99)] == [False, True, True, False, False]

    position.come(20)

    assert [position.wants(number) for number in (3, 10, 11, 20, 21)] == [True, True, False, False, True]


@given(positions(), NUMBERS)
def test_text_comes_back(position: Position, last: int) -> None:
    """What is written is read, and coming back later changes nothing about what it waited for."""
    wanted = [number for number in range(last + 1) if position.wants(number)]

    again = Position.from_text(position.as_text())
    assert again == position
    again.come(last)
    assert [number for number in range(last + 1) if again.wants(number)] == wanted


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["1", null, []]', "[1, null, [2]]", "[1, null, 3]"])
def test_text_that_is_none(text: str) -> None:
    """Damage is an error of one kind."""
    with pytest.raises((ValueError, TypeError)):
        Position.from_text(text)


@given(st.dictionaries(st.sampled_from("abc"), positions()), st.none() | st.sets(st.sampled_from("abcd")))
def test_free(known: dict[str, Position], targets: set[str] | None) -> None:
    """A number is free when none of those that it is for waits for it; never when nobody is known."""
    spans = free(known, targets)

    for number in range(40):
        waits = any(known[name].wants(number) for name in known if targets is None or name in targets)
        assert any(after < number <= upto for after, upto in spans) == (bool(known) and not waits)
