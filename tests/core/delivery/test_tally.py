"""Stored batches at one producer: what became of each, and who still asks."""

import gc

from producer_pool.delivery.page import Budget, Page, Track
from producer_pool.delivery.receipts import Receipt
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.delivery.tally import Awaited, Mark, PageReadBack, Tally, record, tally_of
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Lost
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.stored import StoredBatch

DELIVERED = ForwardResult("a", Outcome.DELIVERED)


class Owner:
    def __init__(self) -> None:
        self.told: list[int] = []

    def settled(self, tally: Tally) -> None:
        self.told.append(tally.number)


def page_of(count: int) -> Page:
    page = Page(None, ("a",), tracked=True)
    page.open(Budget(0), Batch.of([b"x"] * count))
    assert page.tracks is not None
    page.tracks["a"] = Tally(count, like=page.tracks["a"])
    return page


def test_keeper_is_told_once() -> None:
    """When the last message is settled, whatever the way; an empty addition tells nothing again."""
    owner = Owner()
    tally = Tally(3)
    tally.begin(owner, 7, 100)
    tally.odd((1,), DELIVERED)
    tally.run(1, 1, DELIVERED)
    before = list(owner.told)
    tally.run(3, 1, DELIVERED)
    tally.odd((), DELIVERED)

    assert (before, owner.told) == ([], [7])


def test_tally_is_awaited_as_its_track_was() -> None:
    """The role of its producer goes on to say who waits."""
    track = Track(1)
    track.required = track.awaited = False
    tally = Tally(1, like=track)

    assert (tally.required, tally.awaited) == (False, False)


def test_page_that_was_read_back_tells_at_the_one_it_came_with() -> None:
    """Whoever waits there is woken, and finds the result."""
    origin = page_of(2)
    woken: list[int] = []
    origin.when_done(1, lambda: woken.append(1))
    stored = StoredBatch(5, Batch.of([b"x", b"x"]), 3.0)
    tally = tally_of(origin, "a", 2)
    back = PageReadBack(stored, Budget(0), tally, origin)
    tally.run(2, 2, DELIVERED)
    back.settled((0, 1))

    assert woken == [1]
    assert origin.results(1)["a"].ok
    assert (back.stored, back.age) == (True, 3.0)


def test_page_that_nobody_waits_for() -> None:
    """It is counted all the same, in a place of its own."""
    tally = tally_of(None, "a", 2)
    back = PageReadBack(StoredBatch(5, Batch.of([b"x", b"x"]), 0.0), Budget(0), tally, None)
    tally.run(2, 2, DELIVERED)
    back.settled((0, 1))

    assert tally.over
    assert tally.at(0) is None


def test_mark_counts_as_a_tally_does() -> None:
    """In runs and in single messages, with what is cancelled, and its owner is told once."""
    owner = Owner()
    for tally in (Tally(4), Mark(4)):
        tally.begin(owner, 7, 100)
        tally.odd((3,), ForwardResult("a", Outcome.CANCELLED))
        tally.run(2, 2, DELIVERED)
        before = list(owner.told)
        tally.letters += 1
        tally.run(3, 1, DELIVERED)
        between = list(owner.told)
        tally.know(1, kept=True)
        tally.odd((), DELIVERED)

        assert (before, between, owner.told) == ([], [], [7])
        assert (tally.left, tally.cancelled, tally.over) == (0, 1, True)

        owner.told.clear()


def test_record_of_what_is_gone() -> None:
    """All that has no result gets one, and who waits is woken."""
    page = page_of(3)
    assert page.tracks is not None
    page.tracks["a"].odd((1,), DELIVERED)
    done: list[bool] = []
    page.when_done(None, lambda: done.append(True))
    record(page, "a", Outcome.FAILED, Lost("a: gone"))
    record(page, "b", Outcome.FAILED, Lost("b: is not asked"))

    assert [page.results(index)["a"].outcome.value for index in range(3)] == ["failed", "delivered", "failed"]
    assert done == [True]


def test_awaited_pages_come_in_order() -> None:
    """Up to a number, each once."""
    awaited = Awaited()
    pages = {number: page_of(1) for number in (5, 3, 9)}
    for number, page in pages.items():
        awaited.put(number, page)

    assert awaited.take_up_to(5) == [pages[3], pages[5]]
    assert awaited.take(3) is None
    assert awaited.take(9) is pages[9]
    assert awaited.take_up_to(100) == []


def test_page_without_a_receipt_is_forgotten() -> None:
    """A page that only matters to those with receipts goes with the last of them."""
    log: SubmitLog[Receipt] = SubmitLog(lambda: None, Receipt)
    awaited = Awaited()
    awaited.put(1, OpenPage(log, ("a",)))
    held = OpenPage(log, ("a",))
    awaited.put(2, held)
    gc.collect()

    assert awaited.take(1) is None
    assert awaited.take(2) is held
