"""A link with its outbox and a fake client, served."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from producer_pool.delivery.link import Link
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy
from support.fake_clients import FakePipelinedClient

__all__ = ["Line", "line"]


class Line:
    """A link, its outbox, and what came of it."""

    def __init__(self, client: FakePipelinedClient, ack: Ack, policy: DeliveryPolicy) -> None:
        self.client = client
        self.outbox = Outbox("audit", policy, self, ack=ack, deadline=10**6)
        self.link = Link(client, self.outbox, ack=ack)
        client.attach(self.link)
        self.lost: asyncio.Task[DeliveryError]

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        assert self.outbox.stats.pending == self.outbox.pending()

    def blocked(self, yes: bool) -> None:
        pass

    def emptied(self) -> None:
        pass

    def send(self, *messages: bytes) -> Page:
        page = Page(None, ("audit",), tracked=True)
        page.open(Budget(0), Batch.of(messages))
        assert page.batch is not None
        self.outbox.offer(page, page.batch, 0.0)
        self.link.pump()
        return page

    @property
    def delivered(self) -> int:
        return self.outbox.stats.delivered


@asynccontextmanager
async def line(
    client: FakePipelinedClient | None = None,
    *,
    ack: Ack = Ack.WRITTEN,
    before: Sequence[bytes] = (),
    policy: DeliveryPolicy | None = None,
) -> AsyncIterator[Line]:
    """Serve a link; *before* waits in the outbox when it begins."""
    client = client or FakePipelinedClient()
    line = Line(client, ack, policy or DeliveryPolicy.relay())
    await client.connect()
    for message in before:
        line.send(message)
    line.lost = asyncio.create_task(line.link.serve())
    await asyncio.sleep(0)
    yield line
    line.link.close()
    line.lost.cancel()
    await asyncio.wait([line.lost])
