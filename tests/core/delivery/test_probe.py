"""One message alone, on a connection after one that got nowhere."""

import asyncio
from collections.abc import Sequence

import pytest

from producer_pool.contract.ports import Client
from producer_pool.delivery.breaker import Breaker
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.model.stats import State
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakePipelinedClient
from support.offers import offer, results

KERNEL = DeliveryPolicy(ack=Ack.KERNEL, deadline=3600)
GOOD = [b"%d" % number for number in range(20)]


class Allergic(FakePipelinedClient):
    """A consumer that confirms what it gets a moment later, and breaks at one message before that."""

    def __init__(self, poison: bytes = b"poison") -> None:
        super().__init__(confirms_after=0.01)
        self.poison = poison

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = super().start(batches, offset)
        if any(self.poison in batch.messages for batch in batches[:taken]):
            asyncio.get_running_loop().call_soon(self.break_off, SendError("fake: reset"))
        return taken


async def until_up(producer: Producer, connects: int) -> None:
    while producer.outbox.stats.connects < connects or producer.health().state is State.DOWN:
        await asyncio.sleep(0.001)


@in_virtual_time
async def test_after_a_connection_that_got_nowhere() -> None:
    """The next one gets one message, and the rest in one go when that one is confirmed."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with Producer("audit", client, KERNEL) as producer:
        pages = [offer(producer, b"a", b"b", b"c"), offer(producer, b"d")]
        await asyncio.sleep(0.1)
        client.break_off()
        await until_up(producer, 2)

        assert client.given == [[b"a", b"b", b"c", b"d"], [b"a"]]

        await asyncio.sleep(0.4)
        asked = client.asked

        assert client.given[1] == [b"a"]

        await asyncio.sleep(0.2)

        assert client.given[1] == [b"a", b"b", b"c", b"d"]
        assert client.asked == asked + 1

        found = [result for page in pages for result in await results(page)]

        assert [result.attempts for result in found] == [2, 2, 2, 2]


@in_virtual_time
async def test_what_comes_meanwhile() -> None:
    """It waits behind the one message, and goes out after what was there before."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with Producer("audit", client, KERNEL) as producer:
        offer(producer, b"a")
        await asyncio.sleep(0.1)
        client.break_off()
        await until_up(producer, 2)
        late = offer(producer, b"b", b"c")
        await asyncio.sleep(0.1)

        assert client.given[1] == [b"a"]

        await results(late)

        assert client.given[1] == [b"a", b"b", b"c"]


@in_virtual_time
async def test_nothing_waits_when_it_connects() -> None:
    """The first message that comes is the one; so is the first of a batch."""
    client = FakePipelinedClient(confirms_after=0.5)
    policy = DeliveryPolicy(ack=Ack.KERNEL, deadline=1)
    async with Producer("audit", client, policy) as producer:
        gone = offer(producer, b"a")
        await asyncio.sleep(0.1)
        client.unreachable = ConnectError("fake: refused")
        client.break_off()
        await results(gone)
        client.unreachable = None
        await producer.check()
        offer(producer, b"b", b"c")
        await asyncio.sleep(0.1)

        assert client.given[-1] == [b"b"]


@in_virtual_time
async def test_after_a_connection_with_progress() -> None:
    """All goes out at once: it is no sign of trouble that a connection ends."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with Producer("audit", client, KERNEL) as producer:
        offer(producer, b"a")
        await asyncio.sleep(0.4)
        offer(producer, b"b", b"c")
        await asyncio.sleep(0.2)
        client.break_off()
        await until_up(producer, 2)

        assert client.given[1] == [b"b", b"c"]


@in_virtual_time
async def test_client_that_takes_nothing_at_first() -> None:
    """It is asked again when it takes more, and a stall ends the connection as ever."""
    client = FakePipelinedClient(confirms_after=0.01)
    async with Producer("audit", client, KERNEL) as producer:
        page = offer(producer, b"a", b"b")
        await asyncio.sleep(0.001)
        client.room = 0
        client.break_off()
        await until_up(producer, 2)
        await asyncio.sleep(1)

        assert client.given[1] == []

        client.make_room(2)
        await results(page)

        assert client.given[1] == [b"a", b"b"]


@in_virtual_time
async def test_message_that_is_refused() -> None:
    """That is an answer: the rest goes out."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with Producer("audit", client, KERNEL) as producer:
        page = offer(producer, b"a", b"b")
        await asyncio.sleep(0.1)
        client.break_off()
        await until_up(producer, 2)
        client.signals[-1].rejected(0, Rejected("no"))
        found = await results(page)

        assert [result.ok for result in found] == [False, True]
        assert client.connects == 2


@in_virtual_time
async def test_poison_among_good_messages() -> None:
    """It alone fails after its attempts, although the good ones were in flight with it, and none is lost."""
    client = Allergic()
    policy = DeliveryPolicy(ack=Ack.KERNEL, deadline=3600, retry=Retry(attempts=3))
    async with Producer("audit", client, policy) as producer:
        pages = [offer(producer, *GOOD[:5], b"poison", *GOOD[5:10]), offer(producer, *GOOD[10:])]
        found = [result for page in pages for result in await results(page)]

        assert [result.ok for result in found] == [index != 5 for index in range(21)]
        assert (found[5].outcome, str(found[5].error)) == (Outcome.FAILED, "fake: reset")
        assert list(dict.fromkeys(client.messages)) == [*GOOD[:5], b"poison", *GOOD[5:]]


@in_virtual_time
async def test_poison_without_a_limit() -> None:
    """Health and log say in words that it is always the same message; the next one is not blamed for it."""
    client = Allergic()
    async with Producer("audit", client, KERNEL) as producer:
        offer(producer, b"poison", *GOOD)
        while producer.health().reason.find("5 connections in a row") < 0:
            await asyncio.sleep(0.01)

        assert producer.health().state is State.DOWN
        assert producer.health().reason == (
            "fake: reset; 5 connections in a row broke at the same message (see retry-attempts=)"
        )

        client.poison = b"none"
        await producer.drain()

        assert producer.outbox.stats.delivered == 21

        client.break_off()
        await asyncio.sleep(0)

        assert "in a row" not in producer.health().reason


@pytest.mark.parametrize("careful", [True, False])
@in_virtual_time
async def test_copies_that_a_reviving_host_gets(careful: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message for each connection that breaks; without the care, all that waits, each time."""
    if not careful:
        monkeypatch.setattr(Breaker, "learn", lambda self, handed, passed: None)
    client = Allergic(poison=GOOD[0])
    async with Producer("audit", client, KERNEL) as producer:
        offer(producer, *GOOD)
        while client.connects < 20:
            await asyncio.sleep(1)
        copies = len(client.messages)

    if careful:
        assert copies <= len(GOOD) + client.connects
    else:
        assert copies >= len(GOOD) * (client.connects - 1)


@in_virtual_time
async def test_direct_producer_whose_consumer_takes_nothing() -> None:
    """When the one message fails, too, the rest fails with it, and it is tried again after a while only."""
    client = Allergic(poison=b"x")
    policy = DeliveryPolicy(ack=Ack.KERNEL, retry=Retry(attempts=1, backoff=30.0))
    async with Producer("audit", client, policy) as producer:
        first = await results(offer(producer, b"x", b"x"))
        second = await results(offer(producer, b"x", b"y", b"y"))

        assert not any(result.ok for result in (*first, *second))
        assert client.given == [[b"x", b"x"], [b"x"]]
        assert producer.health().state is State.DOWN


class Whole(Client):
    """A plain client that takes whole batches, whose consumer breaks at one message, nobody knows which."""

    address = "fake:whole"

    def __init__(self, poison: bytes) -> None:
        self.poison = poison
        self.calls: list[int] = []
        self.messages: list[bytes] = []

    async def send(self, message: bytes) -> None:
        raise AssertionError("not called")

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        messages = batch.messages[start:]
        self.calls.append(len(messages))
        if self.poison in messages:
            raise SendError("fake: reset")
        self.messages += messages


@in_virtual_time
async def test_plain_client_with_whole_batches() -> None:
    """It is given one message, too; the poison alone fails, and each good one arrives once."""
    client = Whole(b"poison")
    policy = DeliveryPolicy(deadline=3600, retry=Retry(attempts=2))
    async with Producer("audit", client, policy) as producer:
        page = offer(producer, b"poison", *GOOD)
        found = await results(page)

        assert [result.ok for result in found] == [False, *[True] * 20]
        assert client.calls == [21, 1, 1, 19]
        assert client.messages == GOOD
