"""Which files of payloads are needed, and when one may be begun anew."""

import pytest

from producer_pool.storage.segments import ALIGN, Place
from producer_pool.storage.uses import Use, Uses


def place(segment: int, generation: int = 1, size: int = 5000) -> bytes:
    return Place(segment, generation, 0, size).pack()


def commit(uses: Uses, *, safe: bool = True) -> None:
    uses.committed()
    if safe:
        uses.safe()


def test_life_of_a_file() -> None:
    """It is free when it was ended, nothing is in it any more, and that is safe."""
    uses = Uses({})
    assert uses.take() == 0
    uses.begin(0, 1)
    uses.added(place(0))
    uses.added(place(0))
    assert uses.changes() == {0: Use(1, 2, 4 * ALIGN)}
    commit(uses)
    assert uses.take() == 1

    uses.end()
    uses.removed(place(0))
    commit(uses)
    assert uses.of(0) == Use(1, 1, 2 * ALIGN)
    uses.removed(place(0))
    commit(uses, safe=False)
    assert (uses.unsafe, uses.take()) == (True, 1)

    uses.safe()
    assert (uses.unsafe, uses.take()) == (False, 0)


def test_ended_without_rows() -> None:
    """It has to be safe that they are gone, too."""
    uses = Uses({})
    uses.begin(0, 1)
    uses.added(place(0))
    uses.removed(place(0))
    commit(uses)
    assert list(uses.known()) == [0]

    uses.end()
    uses.settle()

    assert (uses.take(), uses.unsafe) == (1, True)


def test_ended_before_its_rows_are_stored() -> None:
    """A file that is full within a transaction is not free for a moment."""
    uses = Uses({})
    uses.begin(0, 1)
    uses.end()
    uses.begin(1, 2)
    uses.added(place(0))
    uses.added(place(1, generation=2))
    commit(uses)

    assert uses.give() == []
    assert sorted(uses.known()) == [0, 1]


def test_ended_and_rolled_back() -> None:
    """What was written to it is nothing, and it can be begun anew."""
    uses = Uses({})
    uses.begin(0, 1)
    uses.end()
    uses.rolled_back()
    uses.safe()

    assert (list(uses.known()), uses.take()) == ([], 0)


def test_rolled_back() -> None:
    """Nothing of that transaction was."""
    uses = Uses({0: Use(1, 1, 8192)})
    uses.removed(place(0))
    uses.rolled_back()
    commit(uses)

    assert uses.of(0) == Use(1, 1, 8192)


def test_of_an_earlier_generation() -> None:
    """A row whose file was begun anew since is not counted in it."""
    uses = Uses({0: Use(7, 1, 8192)})
    uses.removed(place(0, generation=6))
    uses.added(place(0, generation=6))
    commit(uses)

    assert uses.of(0) == Use(7, 1, 8192)


def test_no_place() -> None:
    """Rows that are in the database are in no file."""
    uses = Uses({})
    uses.added(None)
    uses.removed(b"?")

    assert uses.changes() == {}


def test_too_many_wait() -> None:
    """Then a sync is worth it; not while one is free."""
    uses = Uses({number: Use(1, 1, 8192) for number in range(8)})
    for number in range(7):
        uses.removed(place(number))
    commit(uses, safe=False)
    assert not uses.wants_safety
    uses.removed(place(7))
    commit(uses, safe=False)

    assert uses.wants_safety


def test_giving_back() -> None:
    """So many free files are kept, and the others removed."""
    uses = Uses({})
    for number in range(8):
        uses.found(number)
    assert uses.give() == []

    uses.safe()

    assert not uses.wants_safety
    assert uses.give(keep=3) == [0, 1, 2, 3, 4]
    assert uses.give() == [5, 6, 7]


def test_sparsest() -> None:
    """Not the one that is written to, and none that is full enough."""
    uses = Uses({0: Use(1, 5, 50_000), 1: Use(2, 2, 20_000)})
    uses.begin(2, 3)

    assert uses.sparsest(20_000) is None
    assert uses.sparsest(20_001) == (1, 2, 2)
    uses.emptied(1)
    commit(uses)
    assert uses.sparsest(60_000) == (0, 1, 5)


@pytest.mark.parametrize("text", ["", "1 2", "1 2 x", 7, None])
def test_text(text: object) -> None:
    """What is kept in the database comes back, and nothing else is taken for it."""
    assert Use.from_text(Use(1, 2, 3).as_text()) == Use(1, 2, 3)
    with pytest.raises(ValueError, match=r"unpack|invalid"):
        Use.from_text(text)
