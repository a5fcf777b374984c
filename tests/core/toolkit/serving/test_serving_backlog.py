"""What waits for one peer: the order, the cost, and what is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES
from producer_pool.toolkit.serving.backlog import Backlog


def run(*sizes: int) -> Batch:
    return Batch.of([b"x" * size for size in sizes])


def emptied(backlog: Backlog) -> list[tuple[int, int, bool]]:
    """Take all out; return the first message of each, how many, and whether they are there."""
    found = []
    while backlog:
        first, count, batch = backlog.next()
        assert batch is None or len(batch) == count
        found.append((first, count, batch is not None))
    return found


def test_small_batches_are_joined() -> None:
    """They come out as one, with the same bytes; a large one, and one behind a gap, alone."""
    backlog = Backlog(LINES)
    backlog.add(0, Batch.of([b"a", b"b"]))
    backlog.add(2, Batch.of([b"c"]))
    backlog.leave_out(3, 2)
    backlog.add(5, Batch.of([b"d"]))
    backlog.add(6, run(100_000))
    first = backlog.next()

    assert (first.first, first.messages) == (0, 3)
    assert first.run is not None
    assert first.run.wire(LINES) == b"a\nb\nc\n"
    assert emptied(backlog) == [(3, 2, False), (5, 1, True), (6, 1, True)]
    assert backlog.cost == 0


def test_batch_alone_is_not_copied() -> None:
    """It is the one that all peers share."""
    backlog = Backlog(LINES)
    batch = run(10)
    backlog.add(0, batch)

    assert backlog.next().run is batch


def test_oldest_are_dropped() -> None:
    """As few as make room, from the front; a gap stands in their place, and the rest keeps its order."""
    backlog = Backlog(LINES)
    for number in range(5):
        backlog.add(number, run(1000))
    dropped = backlog.drop_oldest(3 * run(1000).cost)

    assert dropped == [(0, 1), (1, 2)]
    assert backlog.cost == 3 * run(1000).cost
    assert emptied(backlog) == [(0, 2, False), (2, 3, True)]


def test_gaps_are_not_dropped_again() -> None:
    """What was left out before is no part of the answer, and all that is left out is one gap."""
    backlog = Backlog(LINES)
    backlog.add(0, run(1))
    backlog.leave_out(1, 4)
    backlog.add(5, run(1))
    backlog.leave_out(6, 1)
    backlog.leave_out(7, 1)

    assert backlog.drop_oldest(0) == [(0, 1), (5, 6)]
    assert backlog.drop_oldest(0) == []
    assert emptied(backlog) == [(0, 6, False), (6, 2, False)]


def test_nothing_has_to_be_dropped() -> None:
    """Within the bound, all stays as it is."""
    backlog = Backlog(LINES)
    backlog.leave_out(0, 1)
    backlog.add(1, run(1))

    assert backlog.drop_oldest(backlog.cost) == []
    assert emptied(backlog) == [(0, 1, False), (1, 1, True)]


def test_forgotten() -> None:
    """Nothing is left, and costs nothing."""
    backlog = Backlog(LINES)
    backlog.add(0, run(1, 2))
    backlog.clear()

    assert not backlog
    assert backlog.cost == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 3)),
            st.tuples(st.just("leave_out"), st.integers(1, 3)),
            st.tuples(st.just("drop_oldest"), st.integers(0, 4000)),
            st.tuples(st.just("next"), st.just(0)),
        )
    )
)
def test_every_message_has_its_place(steps: list[tuple[str, int]]) -> None:
    """Whatever happens: each message comes out once, in order, and is there, or was left out."""
    backlog = Backlog(LINES)
    sent = taken = 0
    there: dict[int, bool] = {}
    for step, value in steps:
        if step == "add":
            backlog.add(sent, run(*[700] * value))
            there.update((number, True) for number in range(sent, sent + value))
            sent += value
        elif step == "leave_out":
            backlog.leave_out(sent, value)
            there.update((number, False) for number in range(sent, sent + value))
            sent += value
        elif step == "drop_oldest":
            for first, end in backlog.drop_oldest(value):
                assert all(there[number] for number in range(first, end))
                there.update((number, False) for number in range(first, end))
            assert backlog.cost <= value
        elif backlog:
            first, count, batch = backlog.next()
            assert first == taken
            assert [there[number] for number in range(first, first + count)] == [batch is not None] * count
            taken += count
    for first, count, is_there in emptied(backlog):
        assert first == taken
        assert [there[number] for number in range(first, first + count)] == [is_there] * count
        taken += count

    assert taken == sent
    assert backlog.cost == 0
