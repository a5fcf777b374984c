"""Pages: who holds them, what became of their messages, who waits to know."""

import sys
import threading
from collections.abc import Iterator

import pytest

from producer_pool.delivery.page import Budget, Page, Track
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import ForwardResult, Outcome
from producer_pool.model.policies import Role

DELIVERED = ForwardResult("audit", Outcome.DELIVERED)
FAILED = ForwardResult("audit", Outcome.FAILED)


def page_of(count: int, *targets: str, tracked: bool = True, budget: Budget | None = None) -> Page:
    page = Page(None, targets, tracked=tracked)
    page.open(budget or Budget(10**6), Batch.of([b"x"] * count))
    return page


def deliver(page: Page, producer_id: str, stop: int, start: int = 0) -> None:
    """Record that the messages from *start* to *stop* were delivered, as an outbox does it."""
    track = page.track(producer_id)
    assert track is not None
    track.run(stop, stop - start, DELIVERED)
    page.settled(range(start, stop))


# -- tracks ----------------------------------------------------------------------------------------


def test_runs() -> None:
    """Each result is that of the messages from the end of the one before."""
    track = Track(6)
    track.run(2, 2, DELIVERED)
    track.run(5, 3, FAILED)

    assert [track.at(index) for index in range(6)] == [DELIVERED] * 2 + [FAILED] * 3 + [None]
    assert track.left == 1


def test_single_messages_between_runs() -> None:
    """What was recorded for a single message stands, whatever is said of those around it."""
    track = Track(4)
    track.odd([2], FAILED)
    track.run(4, 3, DELIVERED)

    assert [track.at(index) for index in range(4)] == [DELIVERED, DELIVERED, FAILED, DELIVERED]
    assert track.left == 0


# -- holding ---------------------------------------------------------------------------------------


def test_held_by_several() -> None:
    """It counts once for the pool, however many hold it, and until the last lets go."""
    budget = Budget(10**6)
    page = page_of(3, "a", "b", budget=budget)
    used = []
    for step in (page.hold, page.hold, page.release, page.release, page.hold, page.release):
        step()
        used.append(budget.used)

    assert used == [page.cost, page.cost, page.cost, 0, page.cost, 0]


def test_part_of_another_batch() -> None:
    """Its messages are counted from its own first one."""
    page = Page(None, ("audit",), tracked=True)
    page.open(Budget(0), Batch.of([b"a", b"b", b"c"]).select([1, 2]))
    deliver(page, "audit", 2)

    assert page.done(None)
    assert page.results(1)["audit"].ok


# -- asking ----------------------------------------------------------------------------------------


def test_before_it_was_opened() -> None:
    """Everything is pending, at each producer it is meant for."""
    page = Page(None, ("a", "b"), tracked=True)

    assert not page.done(0)
    assert [result.outcome for result in page.results(0).values()] == [Outcome.PENDING] * 2


def test_without_targets() -> None:
    """There is nothing to wait for."""
    assert Page(None, (), tracked=True).done(0)


def test_not_tracked() -> None:
    """Nobody is told anything."""
    page = page_of(1, "audit", tracked=False)

    assert page.track("audit") is None
    assert not page.done(None)


def test_done_at_one_of_two() -> None:
    """A message is done when it is at each producer."""
    page = page_of(2, "a", "b")
    deliver(page, "a", 2)
    deliver(page, "b", 1)

    assert (page.done(0), page.done(1), page.done(None)) == (True, False, False)


# -- waiting ---------------------------------------------------------------------------------------


@pytest.fixture
def woken() -> list[object]:
    return []


def test_wakes_when_done(woken: list[object]) -> None:
    """Once, for the message that is waited for, and not for others."""
    page = page_of(3, "audit")
    for index in (0, 1, 2, None):
        page.when_done(index, lambda index=index: woken.append(index))  # type: ignore[misc]
    deliver(page, "audit", 1)

    assert woken == [0]

    deliver(page, "audit", 3, start=1)
    page.settled(range(3))

    assert sorted(map(str, woken)) == ["0", "1", "2", "None"]


def test_done_already(woken: list[object]) -> None:
    """It is called at once."""
    page = page_of(1, "audit")
    deliver(page, "audit", 1)
    page.when_done(0, lambda: woken.append(0))

    assert woken == [0]


def test_withdrawn(woken: list[object]) -> None:
    """It is not called any more, and the others are."""
    page = page_of(1, "audit")
    withdraw = page.when_done(0, lambda: woken.append("withdrawn"))
    page.when_done(0, lambda: woken.append("stays"))
    withdraw()
    withdraw()
    deliver(page, "audit", 1)
    withdraw()

    assert woken == ["stays"]


def test_waker_that_calls_back_in(woken: list[object]) -> None:
    """Each is called once, although one of them looks again."""
    page = page_of(2, "audit")
    page.when_done(0, lambda: (woken.append(0), page.settled(range(2)))[0])  # type: ignore[func-returns-value]
    page.when_done(0, lambda: woken.append(1))
    deliver(page, "audit", 2)

    assert woken == [0, 1]


def test_all_at_once(woken: list[object]) -> None:
    """What one producer settled at once is noted for each message; who waits for others goes on waiting."""
    page = page_of(3, "audit", "b")
    page.when_done(1, lambda: woken.append(1))
    page.passed("audit", 3, DELIVERED)

    assert [page.results(index)["audit"] for index in range(3)] == [DELIVERED] * 3
    assert woken == []

    page.passed("b", 3, DELIVERED)

    assert woken == [1]


def test_many_who_wait() -> None:
    """Who is settled one by one is woken one by one: nobody looks through all of them each time."""
    count = 3000
    looks = 0
    woken = []

    class Counting(Page):
        __slots__ = ()

        def done(self, index: int | None) -> bool:
            nonlocal looks
            looks += 1
            return super().done(index)

    page = Counting(None, ("audit",), tracked=True)
    page.open(Budget(0), Batch.of([b"x"] * count))
    for index in range(count):
        page.when_done(index, lambda: woken.append(1))
    looks = 0
    for index in range(count):
        deliver(page, "audit", index + 1, start=index)

    assert len(woken) == count
    assert looks <= 2 * count


@pytest.fixture
def fast_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("fast_switching")
def test_threads_that_wait_while_it_is_settled() -> None:
    """No wake-up is lost, and none comes twice, whenever they begin to wait and give up."""
    count = 400
    page = page_of(count, "audit")
    lost = []
    ready = threading.Barrier(5)

    def wait(first: int) -> None:
        ready.wait()
        for index in range(first, count, 4):
            woken = threading.Semaphore(0)
            page.when_done(index, lambda: None)()
            page.when_done(index, woken.release)
            if not woken.acquire(timeout=20) or woken.acquire(blocking=False):
                lost.append(index)

    threads = [threading.Thread(target=wait, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    ready.wait()
    for index in range(count):
        deliver(page, "audit", index + 1, start=index)
    for thread in threads:
        thread.join()

    assert lost == []


# -- roles -----------------------------------------------------------------------------------------

ROLES = {"helper": Role.BEST_EFFORT, "shadow": Role.SHADOW, "elsewhere": Role.SHADOW}


def page_with_roles(*targets: str, upstream: bool = False) -> Page:
    page = Page(None, targets, tracked=True, upstream=upstream)
    page.open(Budget(10**6), Batch.of([b"x", b"y"]), ROLES)
    return page


def test_nobody_waits_for_a_shadow() -> None:
    """The page is done without it; a best-effort producer is waited for, and what is missing is PENDING."""
    page = page_with_roles("first", "helper", "shadow")
    woken: list[str] = []
    page.when_done(None, lambda: woken.append("all"))
    page.when_done(1, lambda: woken.append("one"))
    deliver(page, "first", 2)

    assert not page.done(None)

    deliver(page, "helper", 2)

    assert page.done(None)
    assert sorted(woken) == ["all", "one"]
    assert page.results(0)["shadow"].outcome is Outcome.PENDING
    assert page.results(0).ok


def test_page_for_shadows_alone() -> None:
    """Then they are waited for."""
    page = page_with_roles("shadow")

    assert not page.done(None)

    deliver(page, "shadow", 2)

    assert page.done(None)


def test_page_that_is_acknowledged_upstream() -> None:
    """Required producers alone decide when; without any, there is nothing to wait for."""
    page = page_with_roles("helper", "first", "shadow", upstream=True)

    assert not page.done(None)

    deliver(page, "first", 2)

    assert page.done(None)
    assert page_with_roles("helper", "shadow", upstream=True).done(None)


def test_what_fails_at_others_than_required_producers() -> None:
    """It is in the results, and does not count."""
    page = page_with_roles("first", "helper")
    deliver(page, "first", 2)
    track = page.track("helper")
    assert track is not None
    track.run(2, 2, FAILED)
    results = page.results(1)

    assert results["helper"] is FAILED
    assert results.ok
