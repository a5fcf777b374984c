"""What became of messages: counted, recorded and told, each of them once."""

import pytest

from producer_pool.delivery.accounts import Accounts
from producer_pool.delivery.entry import Entry
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Filtered, Rejected, SendError
from producer_pool.model.outcomes import Ack, Outcome


class Books:
    """The accounts of one producer, and what they told."""

    def __init__(self) -> None:
        self.accounts = Accounts("audit", self, ack=Ack.KERNEL)
        self.told: list[tuple[Outcome, int]] = []

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        self.told.append((outcome, count))

    def blocked(self, yes: bool) -> None:
        raise AssertionError

    def emptied(self) -> None:
        raise AssertionError

    def entry(self, *messages: bytes) -> Entry:
        page = Page(None, ("audit",), tracked=True)
        page.open(Budget(10**9), Batch.of(messages))
        assert page.batch is not None
        return Entry(page, page.batch, page.track("audit"), 10.0)


def outcomes(entry: Entry) -> list[Outcome]:
    assert entry.page.batch is not None
    return [entry.page.results(index)["audit"].outcome for index in range(len(entry.page.batch))]


def test_first_tries_share_a_result() -> None:
    """What went well at once costs no object of its own."""
    books = Books()
    one, two = books.entry(b"a"), books.entry(b"b")
    for entry in (one, two):
        entry.attempts = 1
        books.accounts.deliver(entry, 1, 1)

    assert one.page.results(0)["audit"] is two.page.results(0)["audit"]
    assert books.accounts.stats.delivered == 2


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.DROPPED, Outcome.CANCELLED])
def test_an_end(outcome: Outcome) -> None:
    """It concerns what is still open, is counted, and says after how many attempts."""
    books = Books()
    entry = books.entry(b"a", b"b", b"c")
    entry.start = 1
    entry.attempts = 3
    places = books.accounts.end(entry, outcome, SendError("gone"))

    assert list(places) == [1, 2]
    assert getattr(books.accounts.stats, outcome.value) == 2
    assert entry.page.results(2)["audit"].attempts == 3
    assert books.told == []


def test_nothing_is_left_to_end() -> None:
    """It is not counted, and nobody is told."""
    books = Books()
    entry = books.entry(b"a")
    entry.start = 1
    places = books.accounts.end(entry, Outcome.FAILED, SendError("gone"))
    books.accounts.tell(entry.page, places, Outcome.FAILED, 0, SendError("gone"))

    assert books.accounts.stats.failed == 0
    assert books.told == []


def test_refused_from_a_batch_that_was_cut() -> None:
    """It is recorded at the places that its messages have in the page."""
    books = Books()
    entry = books.entry(b"a", b"b", b"c")
    entry.batch = entry.batch.select([0, 2])
    entry.count = 2
    places = books.accounts.reject(entry, [1], Rejected("no"))
    books.accounts.end(entry, Outcome.DROPPED, SendError("gone"))

    assert list(places) == [2]
    assert outcomes(entry) == [Outcome.DROPPED, Outcome.PENDING, Outcome.FAILED]


def test_turned_away() -> None:
    """What never gets in is accepted and settled in one."""
    books = Books()
    entry = books.entry(b"a", b"b")
    books.accounts.turn_away(entry.page, entry.batch, [1], Filtered("removed"), Outcome.DROPPED)

    assert books.accounts.stats.accepted == books.accounts.stats.dropped == 1
    assert outcomes(entry) == [Outcome.PENDING, Outcome.DROPPED]
    assert books.told == [(Outcome.DROPPED, 1)]
