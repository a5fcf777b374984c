"""A plain client that takes whole batches, or counts how often it is asked for them."""

import asyncio
from collections.abc import Sequence

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.model.framing import LINES
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, hang
from support.offers import offer, results


class WholeBatches(FakeClient):
    """Takes batches. A fault happens at the message that its index names; without one, after two messages."""

    def __init__(self, faults: Sequence[DeliveryError | None] = ()) -> None:
        super().__init__()
        self.planned = list(faults)
        self.calls: list[tuple[int, int]] = []

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        self.calls.append((len(batch), start))
        fault = self.planned.pop(0) if self.planned else None
        messages = batch.messages
        if fault is None:
            self.messages += messages[start:]
            return
        self.messages += messages[start : 2 if fault.index is None else max(fault.index, start)]
        raise fault


def at(index: int, error: DeliveryError) -> DeliveryError:
    error.index = index
    return error


RETRY = DeliveryPolicy(deadline=3600, retry=Retry(attempts=2))
FIVE = (b"0", b"1", b"2", b"3", b"4")


@in_virtual_time
async def test_whole_batch() -> None:
    """One call, one outcome for all of it."""
    client = WholeBatches()
    async with Producer("audit", client) as producer:
        found = await results(offer(producer, *FIVE))

        assert all(result.ok for result in found)
        assert client.calls == [(5, 0)]


@in_virtual_time
async def test_batch_that_fails_in_the_middle() -> None:
    """All before that message are delivered, it is tried again, and those behind it for the first time."""
    client = WholeBatches([at(2, SendError("fake: reset"))])
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, *FIVE))

        assert all(result.ok for result in found)
        assert client.messages == list(FIVE)
        assert client.calls == [(5, 0), (5, 2)]
        assert producer.outbox.stats.resent == 1


@in_virtual_time
async def test_message_that_always_fails_in_the_middle() -> None:
    """It alone fails, and the others have lost no attempt."""
    poison = [at(2, SendError("fake: reset")), at(2, SendError("fake: reset"))]
    client = WholeBatches([*poison, at(3, SendError("fake: reset"))])
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, *FIVE))

        assert [result.ok for result in found] == [True, True, False, True, True]
        assert [found[index].attempts for index in (0, 2, 3)] == [1, 2, 2]


@in_virtual_time
async def test_batch_that_fails_somewhere() -> None:
    """Without an index all of it may have arrived, and all of it is sent again: first one message alone."""
    client = WholeBatches([SendError("fake: reset")])
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, *FIVE))

        assert [result.attempts for result in found] == [2] * 5
        assert client.calls == [(5, 0), (1, 0), (4, 0)]
        assert client.messages[-5:] == list(FIVE)
        assert producer.outbox.stats.resent == 5


@in_virtual_time
async def test_batch_that_fails_somewhere_for_good() -> None:
    """The message that broke it alone, too, fails with its last attempt; the others lose none with it."""
    client = WholeBatches([SendError("fake: reset"), SendError("fake: reset")])
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, *FIVE))

        assert [result.ok for result in found] == [False, True, True, True, True]
        assert client.calls == [(5, 0), (1, 0), (1, 0), (3, 0)]


@in_virtual_time
async def test_batch_with_refused_messages() -> None:
    """They fail alone; the rest goes on over the same connection."""
    client = WholeBatches([at(1, Rejected("no 1")), at(4, Rejected("no 4"))])
    async with Producer("audit", client) as producer:
        found = await results(offer(producer, *FIVE))

        assert [result.ok for result in found] == [True, False, True, True, False]
        assert [str(found[index].error) for index in (1, 4)] == ["no 1", "no 4"]
        assert client.messages == [b"0", b"2", b"3"]
        assert client.connects == 1


@pytest.mark.parametrize("index", [-3, 0, 4, 99])
@in_virtual_time
async def test_index_that_cannot_be_true(index: int) -> None:
    """It settles nothing but what was handed over; each message has one outcome."""
    client = WholeBatches([None, at(index, SendError("fake: reset"))])
    async with Producer("audit", client, RETRY) as producer:
        await results(offer(producer, b"before"))
        found = await results(offer(producer, *FIVE))

        assert all(result.ok for result in found)
        assert producer.outbox.stats.delivered == 6


@in_virtual_time
async def test_index_from_a_client_that_gets_single_messages() -> None:
    """It is of another batch, such as that of a client inside the client: nobody looks at it."""
    client = FakeClient()
    client.faults = [None, at(3, Rejected("no 1")), at(3, SendError("fake: reset"))]
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, *FIVE))

        assert [result.ok for result in found] == [True, False, True, True, True]
        assert client.messages == [b"0", b"2", b"3", b"4"]


@in_virtual_time
async def test_batch_expires_in_the_middle() -> None:
    """What was sent is delivered, and nothing of the rest is sent."""
    client = FakeClient()
    client.always = lambda: asyncio.sleep(1)
    async with Producer("audit", client, DeliveryPolicy(deadline=2.5)) as producer:
        found = await results(offer(producer, *FIVE))
        await asyncio.sleep(2)

        assert [result.ok for result in found] == [True, True, False, False, False]
        assert client.messages == [b"0", b"1", b"2"]
        assert producer.outbox.empty


@in_virtual_time
async def test_unreachable_in_the_middle() -> None:
    """With a policy that waits, that message has not been tried."""
    client = FakeClient()
    client.faults = [None, ConnectError("fake: refused"), ConnectError("fake: refused"), None]
    async with Producer("audit", client, RETRY) as producer:
        found = await results(offer(producer, b"0", b"1"))

        assert [(result.ok, result.attempts) for result in found] == [(True, 1), (True, 1)]


@in_virtual_time
async def test_batch_that_came_as_a_wire() -> None:
    """It is taken apart once, and not once for each of its messages."""
    splits = 0

    class Counting(Batch):
        __slots__ = ()

        @property
        def messages(self) -> Sequence[bytes]:
            nonlocal splits
            splits += 1
            return super().messages

    wire = b"".join(b"%d\n" % number for number in range(500))
    client = FakeClient()
    async with Producer("audit", client) as producer:
        await results(offer(producer, batch=Counting.from_wire(wire, LINES)))

        assert len(client.messages) == 500
        assert splits < 5


@in_virtual_time
async def test_send_that_hangs_when_the_producer_is_closed() -> None:
    """It is cancelled, and the client closed."""
    client = FakeClient()
    client.always = hang
    producer = Producer("audit", client)
    offer(producer, b"a")
    await asyncio.sleep(1)
    await producer.aclose()

    assert client.closes == 1
    assert producer.outbox.stats.cancelled == 1
