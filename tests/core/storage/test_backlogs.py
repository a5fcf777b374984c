"""What lies in a database for one producer, counted from totals and not row by row."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_pool.model.batch import Batch
from producer_pool.model.stored import stored_size
from producer_pool.storage.backlogs import Missing, backlog_of, read_batches, skipped
from producer_pool.storage.database import Database
from producer_pool.storage.positions import Position
from producer_pool.storage.record import Pending, Row, grouped, row_of, targets_text

LAST = 40


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Return a database of 40 batches, one by one or several in a row, for all or for "a" only."""
    draw = random.Random(5)
    database = Database(tmp_path_factory.mktemp("spool") / "spool.db")
    waiting = []
    for number in range(1, LAST + 1):
        batch = Batch.of([b"x" * draw.randrange(9) for _ in range(draw.randrange(1, 4))])
        targets = targets_text(("a",)) if draw.random() < 0.2 else None
        waiting.append(Pending(number, batch.form, len(batch), stored_size(batch), targets, "", 0.0))
    database.begin()
    messages, nbytes = 0, 0
    for group in grouped(waiting):
        row = row_of(group, messages, nbytes, 1, 0.0)
        database.insert([row])
        if row.targets is None:
            messages, nbytes = messages + row.messages, nbytes + row.nbytes
    database.commit()
    yield database
    database.abandon()


def age(row: Row) -> float:
    return 0.0


NAMES = st.sampled_from("ab")
SPANS = st.lists(st.tuples(st.integers(0, LAST), st.integers(0, LAST)), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    number=st.integers(0, LAST),
    spans=SPANS,
    until=st.none() | st.integers(0, LAST),
    name=NAMES,
)
def test_counted_as_read(
    database: Database, number: int, spans: list[tuple[int, int]], until: int | None, name: str
) -> None:
    """Whatever was skipped, and from wherever: what is counted is what comes when it is read."""
    position = Position(number)
    for span in spans:
        position.skip(span)
    position.until = None if until is None else max(until, position.number)

    backlog = backlog_of(database, name, position, database.totals())
    batches, _, lost, _ = read_batches(
        database.rows(position.number, name), position, position.number, 1 << 30, None, age
    )
    assert lost == Missing(0, 0)
    assert backlog.messages == sum(len(one.batch) for one in batches)
    assert backlog.nbytes == sum(stored_size(one.batch) for one in batches)
    assert [one.number for one in batches] == sorted({one.number for one in batches})
    if batches:
        assert backlog.last >= batches[-1].number


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(after=st.integers(0, LAST), enough=st.integers(1, 500), name=NAMES)
def test_what_is_skipped_is_not_read(database: Database, after: int, enough: int, name: str) -> None:
    """What is said to be dropped, and what is left, is what there was."""
    position = Position(after)
    before = backlog_of(database, name, position, database.totals())
    upto, messages, nbytes = skipped(
        database.heads(after, name), position, after, lambda row, dropped: dropped >= enough
    )
    position.skip((after, upto))

    left = backlog_of(database, name, position, database.totals())
    assert (left.messages + messages, left.nbytes + nbytes) == (before.messages, before.nbytes)
    assert nbytes >= min(enough, before.nbytes)


def test_gaps_are_counted(database: Database) -> None:
    """Of rows that are not there, the totals of the next one say how much they were."""
    columns = [row for row in database.rows(0) if row[11] is None]
    first, *gone, last = columns[0], columns[1], columns[2], columns[3]
    batches, upto, lost, _ = read_batches([first, last], Position(0), 0, 1 << 30, (0, 0), age)

    assert upto is None
    assert lost == Missing(*(sum(int(str(row[at])) for row in gone) for at in (2, 3)))
    assert batches
    # Where something was skipped, what is not there need not be lost.
    position = Position(0, [(int(str(first[0])), int(str(last[1])) - 1)])
    assert read_batches([first, last], position, 0, 1 << 30, (0, 0), age)[2] == Missing(0, 0)
