"""What the store could not take, in its place in the order."""

from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.unstored import Unstored, UnstoredBatch
from producer_pool.model.batch import Batch


def item(behind: int, message: bytes, budget: Budget) -> UnstoredBatch:
    page = Page(None, ("a",), tracked=False)
    batch = Batch.of([message])
    page.open(budget, batch)
    return UnstoredBatch(behind, page, batch, 0.0)


def test_turn_comes_behind_the_number() -> None:
    """The oldest is next as soon as what was stored before it is handed over."""
    unstored, budget = Unstored(), Budget(0)
    first, second = item(3, b"one", budget), item(3, b"two", budget)
    unstored.put(first)
    unstored.put(second)

    assert unstored.next_behind(2) is None
    assert unstored.next_behind(3) is first

    unstored.take()

    assert unstored.next_behind(7) is second


def test_what_it_holds_is_counted() -> None:
    """In messages, in bytes, and in the budget of the pool, until whoever took it releases it."""
    unstored, budget = Unstored(), Budget(0)
    one = item(0, b"one", budget)
    unstored.put(one)

    assert (unstored.messages, unstored.cost, budget.used) == (1, one.batch.cost, one.batch.cost)

    taken = unstored.take()

    assert (bool(unstored), unstored.cost, budget.used) == (False, 0, one.batch.cost)

    taken.page.release()

    assert budget.used == 0
