"""The ids of a pool's producers, as callers see them."""

import threading
from typing import Any

import pytest

from producer_pool.delivery.roster import Roster
from producer_pool.model.errors import DuplicateProducer, UnknownProducer, UsageError


@pytest.fixture
def roster() -> Roster:
    """Return a roster with the producers a, b and c."""
    roster = Roster()
    for name in ("a", "b", "c"):
        roster.reserve(name)
        roster.publish(name)
    return roster


def test_targets_in_the_order_of_adding(roster: Roster) -> None:
    """Everybody is told in the order in which they were reserved, not in that in which they were ready."""
    for name in ("later", "sooner"):
        roster.reserve(name)
    roster.publish("sooner")
    roster.publish("later")

    assert roster.all == ("a", "b", "c", "later", "sooner")


def test_reserved_only(roster: Roster) -> None:
    """It is no target yet, and its id is taken."""
    roster.reserve("new")

    assert roster.all == ("a", "b", "c")
    with pytest.raises(UnknownProducer):
        roster.one("new")
    with pytest.raises(DuplicateProducer):
        roster.reserve("new")


def test_targets_as_long_as_nothing_changes(roster: Roster) -> None:
    """They are one and the same object: that is how messages find their page."""
    assert roster.all is roster.all
    assert roster.one("a") is roster.one("a")


def test_taken_id(roster: Roster) -> None:
    """The error names those that there are, and what to do."""
    with pytest.raises(DuplicateProducer, match="'b' is in the pool already; known: a, b, c; remove_"):
        roster.reserve("b")


def test_discarded(roster: Roster) -> None:
    """It is no target any more; its id is taken until it is freed."""
    roster.discard("b")

    assert list(roster.all) == ["a", "c"]
    with pytest.raises(DuplicateProducer):
        roster.reserve("b")

    roster.free("b")
    roster.reserve("b")
    roster.publish("b")

    assert list(roster.all) == ["a", "c", "b"]


def test_discarded_twice(roster: Roster) -> None:
    """The second time it is unknown."""
    roster.discard("b")

    with pytest.raises(UnknownProducer, match=r"no producer 'b' in the pool; known: a, c$"):
        roster.discard("b")


@pytest.mark.parametrize("name", ["", "two\nlines", "a\0", 7, None, b"bytes"])
def test_no_id(roster: Roster, name: str) -> None:
    """It is refused."""
    with pytest.raises(UsageError, match="a producer's id is a text"):
        roster.reserve(name)


@pytest.mark.parametrize("name", ["x", "", None, b"a", 0])
def test_unknown_id(roster: Roster, name: str) -> None:
    """The error names those that there are."""
    with pytest.raises(UnknownProducer, match="known: a, b, c; nothing was sent"):
        roster.one(name)


def test_several(roster: Roster) -> None:
    """Each once, in the order in which they are named."""
    assert roster.many(name for name in ("c", "a", "c")) == ("c", "a")
    assert roster.many(()) == ()


def test_several_of_which_some_are_unknown(roster: Roster) -> None:
    """The error names them all."""
    with pytest.raises(UnknownProducer, match="no producer 'x', 'y' in the pool"):
        roster.many(["a", "x", "b", "y"])


def test_one_text_for_several(roster: Roster) -> None:
    """It is not taken for a collection of letters."""
    with pytest.raises(UsageError, match=r"use forward_to\(\) for one"):
        roster.many("abc")


@pytest.mark.parametrize("names", [["a", "x"], ("a", "b"), {"a"}, [], {"a": 1}])
def test_several_for_one(roster: Roster, names: Any) -> None:
    """They are not taken for an id."""
    with pytest.raises(UsageError, match="expected one id, got the ") as caught:
        roster.one(names)

    text = f"{type(names).__name__} {names!r}; use forward_to_many() for several"
    assert str(caught.value) == f"expected one id, got the {text}"

    with pytest.raises(UsageError, match=r"got the .*; remove_producer\(\) takes one at a time"):
        roster.discard(names)


@pytest.mark.parametrize("names", [5, None, [["a"]]])
def test_what_is_no_collection_of_ids(roster: Roster, names: Any) -> None:
    """The error says what is one."""
    with pytest.raises(UsageError, match="expected several ids, such as a list of texts, not "):
        roster.many(names)


def test_two_threads_reserve_one_id(roster: Roster) -> None:
    """One of them gets it."""
    got = []
    ready = threading.Barrier(8)

    def reserve() -> None:
        ready.wait()
        try:
            roster.reserve("new")
        except DuplicateProducer:
            return
        got.append(1)

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == [1]
