"""The ledger of a consumer: it finds everything that can go wrong."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from producer_pool.cli.benching.board import Board
from producer_pool.cli.benching.book import Book, Shape
from producer_pool.cli.benching.verifying import Faults, Ledger
from producer_pool.model.batch import Batch
from producer_pool.model.framing import LENGTH4, LINES, OCTET_COUNTING, Framing

SHAPE = Shape(24, 3, 4)
FORMS: list[Framing | None] = [LINES, LENGTH4, OCTET_COUNTING, None]
"""None: messages one by one."""
formed = pytest.mark.parametrize("framing", FORMS, ids=lambda framing: framing.name if framing else "list")


@pytest.fixture
def book() -> Book:
    """Return the messages."""
    return Book(SHAPE)


@pytest.fixture
def ledger(book: Book, tmp_path: Path) -> Iterator[Ledger]:
    """Return the ledger of the second of two consumers."""
    with Board(tmp_path / "board", producers=SHAPE.producers, consumers=2, slots=book.round) as board:
        yield Ledger(book, board, 1)


def batched(messages: Sequence[bytes], framing: Framing | None) -> Batch:
    """Return messages as they come in this framing."""
    if framing is None:
        return Batch.of(messages)
    return Batch.from_wire(framing.encode(messages), framing)


@formed
def test_all_is_well(book: Book, ledger: Ledger, framing: Framing | None) -> None:
    """Whatever pieces come in whatever mixture of producers, in order, over many rounds: nothing is wrong."""
    chance = random.Random(3)
    sent = [0] * SHAPE.producers
    for _ in range(60):
        messages = []
        for _ in range(chance.randrange(1, 4)):
            producer = chance.randrange(SHAPE.producers)
            for _ in range(chance.choice((1, 4, 17, 3_000))):
                messages.append(book.message(producer, sent[producer] % book.round))
                sent[producer] += 1
        ledger.enter(batched(messages, framing), now=1)

    assert min(sent) > 2 * book.round
    assert ledger.faults(sent) == Faults()
    assert ledger.received == sum(sent)


def lose(messages: list[bytes]) -> list[bytes]:
    return messages[:5] + messages[7:]


def lose_the_end(messages: list[bytes]) -> list[bytes]:
    return messages[:-2]


def double(messages: list[bytes]) -> list[bytes]:
    return messages[:6] + messages[4:]


def reorder(messages: list[bytes]) -> list[bytes]:
    return messages[:5] + messages[7:9] + messages[5:7] + messages[9:]


def damage(messages: list[bytes]) -> list[bytes]:
    return [*messages[:5], messages[5][:-1] + b"!", messages[6][:9], *messages[7:]]


def add(messages: list[bytes]) -> list[bytes]:
    return [*messages[:5], b"", b"hello", *messages[5:]]


@formed
@pytest.mark.parametrize(
    "fault,expected",
    [
        (lose, Faults(lost=2)),
        (lose_the_end, Faults(lost=2)),
        (double, Faults(doubled=2)),
        (reorder, Faults(late=2)),
        (damage, Faults(lost=2, damaged=2)),
        (add, Faults(damaged=2)),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_faults_are_counted(
    book: Book,
    ledger: Ledger,
    framing: Framing | None,
    fault: Callable[[list[bytes]], list[bytes]],
    expected: Faults,
) -> None:
    """Each message that is not as it should be is found, and what comes after it is judged as before."""
    if framing is OCTET_COUNTING and fault is add:
        pytest.skip("this framing has no empty messages")
    messages = [book.message(1, index) for index in range(12)]
    ledger.enter(batched(fault(messages), framing), now=1)
    sent = [0, 12, 0]

    assert ledger.faults(sent) == expected
    following = [book.message(1, index) for index in range(12, 20)]
    ledger.enter(batched(following, framing), now=1)
    assert ledger.faults([0, 20, 0]) == expected


def test_a_whole_round_is_missing_or_twice(book: Book, ledger: Ledger) -> None:
    """Numbers come again after a round. So a round more or less shows at the end only, and there it does."""
    ledger.enter(batched(book.messages(0) * 2, LINES), now=1)

    assert ledger.faults([2 * book.round, 0, 0]) == Faults()
    assert ledger.faults([3 * book.round, 0, 0]) == Faults(lost=book.round)
    assert ledger.faults([book.round, 0, 0]) == Faults(doubled=book.round)


def test_two_messages_in_the_place_of_two_others(book: Book, ledger: Ledger) -> None:
    """The same bytes, cut at another place, are not the same messages."""
    both = book.message(0, 0) + book.message(0, 1)
    ledger.enter(Batch.of([both[:30], both[30:]]), now=1)

    assert ledger.faults([2, 0, 0]) == Faults(lost=2, damaged=2)


def test_latency_counts_from_when_a_write_was_due(book: Book, tmp_path: Path) -> None:
    """Each message has the time of its write, however many came at once."""
    with Board(tmp_path / "board", producers=3, consumers=2, slots=book.round) as board:
        ledger = Ledger(book, board, 1)
        ledger.begin(4)
        board.due[0][0], board.due[0][1] = 1_000, 3_000
        messages = [book.message(0, index) for index in range(8)]
        ledger.enter(batched(messages[:6], LINES), now=4_000)
        ledger.enter(batched(messages[6:], LINES), now=6_000)

        assert [count for _, count in ledger.latencies] == [2, 6]
        assert ledger.latencies.percentile(20) == pytest.approx(1_000, rel=0.02)
        assert ledger.latencies.longest == 3_000


def test_who_waits_sees_how_far_it_is(book: Book, tmp_path: Path) -> None:
    """The board has what has come of each producer, and nothing of what was before."""
    with Board(tmp_path / "board", producers=3, consumers=2, slots=book.round) as board:
        ledger = Ledger(book, board, 1)
        ledger.enter(batched([book.message(2, 0), book.message(2, 1)], LINES), now=1)

        assert [list(reached) for reached in board.reached] == [[0, 0], [0, 0], [0, 2]]

        ledger.begin(1)
        assert [list(reached) for reached in board.reached] == [[0, 0]] * 3
        assert ledger.received == ledger.latencies.total == 0
