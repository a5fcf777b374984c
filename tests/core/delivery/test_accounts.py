"""What became of messages: counted, recorded and told, each of them once."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from producer_pool.delivery.accounts import Accounts
from producer_pool.delivery.entry import Entry
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Cancelled, DeliveryError, Filtered, Full, Rejected, SendError
from producer_pool.model.given_up import GivenUp
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.testing import in_virtual_time


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

    def entry(self, *messages: bytes, upstream: bool = False) -> Entry:
        page = Page(None, ("audit",), tracked=True, upstream=upstream)
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


class Keeper:
    """Who keeps dead letters, as long as there is room."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.taken: list[GivenUp] = []
        self.tell: list[Callable[[bool], None]] = []

    def take(self, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        if len(self.taken) >= self.room:
            return False
        self.taken.append(given_up)
        self.tell.append(done)
        return True

    def messages(self) -> list[bytes]:
        return [one.batch.messages[index] for one in self.taken for index in one.indexes]


ENDS: dict[str, tuple[Outcome, DeliveryError, bool]] = {
    "given up": (Outcome.FAILED, SendError("gone"), True),
    "dropped by a full buffer": (Outcome.DROPPED, Full("full"), True),
    "left out by a stage": (Outcome.DROPPED, Filtered("removed"), False),
    "refused by a stage that raised": (Outcome.FAILED, Filtered("raised"), True),
    "cancelled": (Outcome.CANCELLED, Cancelled("closed"), False),
}


@pytest.mark.parametrize("outcome,error,kept", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("way", ["end", "turn_away"])
def test_what_is_a_dead_letter(way: str, outcome: Outcome, error: DeliveryError, kept: bool) -> None:
    """What was given up is: not what was not wanted, and not what somebody cancelled."""
    books, keeper = Books(), Keeper()
    books.accounts.letters = keeper
    entry = books.entry(b"a", b"b")
    if way == "end":
        entry.accepted = 7.0
        books.accounts.end(entry, outcome, error)
    else:
        books.accounts.turn_away(entry.page, entry.batch, range(2), error, outcome)

    assert keeper.messages() == ([b"a", b"b"] if kept else [])
    assert entry.page.results(0)["audit"].dead_lettered == kept
    assert [one.accepted for one in keeper.taken] == [7.0 if way == "end" else None] * kept


def test_dead_letters_of_a_batch_partly_settled() -> None:
    """Each message is given up once: not those delivered, and not again those refused."""
    books, keeper = Books(), Keeper()
    books.accounts.letters = keeper
    entry = books.entry(b"a", b"b", b"c", b"d")
    entry.attempts = 1
    books.accounts.deliver(entry, 1, 1)
    entry.start = 1
    books.accounts.reject(entry, [2], Rejected("no"))
    books.accounts.end(entry, Outcome.FAILED, SendError("gone"))

    assert keeper.messages() == [b"c", b"b", b"d"]
    assert [result.dead_lettered for result in map(partial(at, entry), range(4))] == [False, True, True, True]
    assert books.accounts.stats.dead_lettered == 0

    for tell in keeper.tell:
        tell(True)

    assert books.accounts.stats.dead_lettered == 3


def at(entry: Entry, index: int) -> ForwardResult:
    return entry.page.results(index)["audit"]


def test_no_room_for_dead_letters() -> None:
    """It is counted, and the result claims nothing."""
    books = Books()
    books.accounts.letters = Keeper(room=0)
    entry = books.entry(b"a", b"b")
    books.accounts.end(entry, Outcome.FAILED, SendError("gone"))

    assert books.accounts.stats.dead_letters_lost == 2
    assert not at(entry, 0).dead_lettered
    assert not entry.page.track("audit").letters  # type: ignore[union-attr]


def test_dead_letters_that_could_not_be_kept() -> None:
    """The results take back what they said."""
    books, keeper = Books(), Keeper()
    books.accounts.letters = keeper
    entry = books.entry(b"a")
    books.accounts.end(entry, Outcome.FAILED, SendError("gone"))

    assert at(entry, 0).dead_lettered

    keeper.tell[0](False)

    assert not at(entry, 0).dead_lettered
    assert (books.accounts.stats.dead_lettered, books.accounts.stats.dead_letters_lost) == (0, 1)


@pytest.mark.parametrize("kept", [True, False])
@in_virtual_time
async def test_acknowledging_dead_letters(kept: bool) -> None:
    """A sender waits until it is known whether they are kept; if so, it need not send them again."""
    books, keeper = Books(), Keeper()
    books.accounts.letters = keeper
    entry = books.entry(b"a", b"b", upstream=True)
    receipt = BatchReceipt(entry.page, asyncio.get_running_loop())
    done = asyncio.Event()
    receipt.when_done(done.set)
    entry.attempts = 1
    entry.page.settled(books.accounts.deliver(entry, 1, 1))
    entry.start = 1
    places = books.accounts.end(entry, Outcome.FAILED, SendError("gone"))
    books.accounts.tell(entry.page, places, Outcome.FAILED, 1, SendError("gone"))
    await asyncio.sleep(0)

    assert entry.page.done(0)
    assert not receipt.done
    assert not done.is_set()

    keeper.tell[0](kept)
    await done.wait()

    assert receipt.delivered == kept


def test_whoever_is_no_sender_waits_for_no_disk() -> None:
    """The outcome of a message that the program itself submitted is known at once."""
    books, keeper = Books(), Keeper()
    books.accounts.letters = keeper
    entry = books.entry(b"a")
    books.accounts.end(entry, Outcome.FAILED, SendError("gone"))

    assert entry.page.done(None)
