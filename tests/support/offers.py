"""Pages offered to one producer, and what became of them."""

import asyncio

from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import ForwardResult

__all__ = ["offer", "results"]


def offer(producer: Producer, *messages: bytes, batch: Batch | None = None) -> Page:
    """Offer *messages* together, or *batch*, and return the page that tells what becomes of them."""
    producer.start()
    page = Page(None, (producer.id,), tracked=True)
    page.open(Budget(0), batch or Batch.of(messages))
    producer.offer(page, asyncio.get_running_loop().time())
    return page


async def results(page: Page) -> list[ForwardResult]:
    """Wait until all of a page has an outcome, and return the results in the order of the messages."""
    done = asyncio.Event()
    page.when_done(None, done.set)
    await done.wait()
    assert page.batch is not None
    return [page.results(index)[page.targets[0]] for index in range(len(page.batch))]
