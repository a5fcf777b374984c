"""Removing producers, and closing all of them."""

import asyncio
from dataclasses import replace

import pytest

from producer_pool.contract.ports import Client
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.jitter import jitter
from producer_pool.model.errors import Cancelled, ConnectError
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits, Role
from producer_pool.testing import in_virtual_time
from support.engines import add, check_books, dead, engine, of, outcomes
from support.fake_clients import FakeClient, FakePipelinedClient, hang_stubbornly

KiB = 1024
RELAY = DeliveryPolicy.relay()


@in_virtual_time
async def test_removed_and_drained() -> None:
    """It gets what it has, nothing new, and is closed when the last is confirmed."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with engine() as it:
        add(it, "a", client, RELAY)
        await asyncio.sleep(0)
        it.feed(of(b"x"))
        leaving = it.remove("a", 10.0)
        it.feed(of(b"y"))

        assert it.stats().producers["a"].pending == 1

        began = asyncio.get_running_loop().time()
        await leaving

        assert asyncio.get_running_loop().time() - began < 1
        assert client.messages == [b"x"]
        assert it.stats().producers == {}


@in_virtual_time
async def test_removed_while_a_message_is_on_its_way() -> None:
    """For the producer that is gone it is CANCELLED, and the others have it."""
    client = FakeClient()
    async with engine() as it:
        add(it, "stays", client)
        page = it.accept(of(b"x"))._page
        page.targets = ("gone", "stays")
        it.take(page, of(b"y"))
        await asyncio.sleep(1)
        result = page.results(0)["gone"]

        assert result.outcome is Outcome.CANCELLED
        assert isinstance(result.error, Cancelled)
        assert client.messages[-1] == b"y"


@in_virtual_time
async def test_waiting_for_a_removal_is_cancelled() -> None:
    """The removal goes on."""
    client = FakePipelinedClient(confirms_after=3)
    async with engine() as it:
        add(it, "a", client, RELAY)
        await asyncio.sleep(0)
        it.feed(of(b"x"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await it.remove("a", 10.0)

        assert client.closes == 0

        await asyncio.sleep(5)

        assert client.closes == 1


@pytest.mark.parametrize("drain", [0.0, 3.0])
@in_virtual_time
async def test_closed_while_one_leaves(drain: float) -> None:
    """Nobody has more time than the closing gives, and nothing goes on behind it."""
    it = Engine(Limits())
    stays, leaves = dead(), dead()
    add(it, "stays", stays, RELAY)
    add(it, "leaves", leaves, RELAY)
    receipt = it.accept(of(b"x"))
    leaving = it.remove("leaves", 60.0)
    began = asyncio.get_running_loop().time()
    await it.aclose(drain)

    assert asyncio.get_running_loop().time() - began == pytest.approx(drain, abs=0.1)
    assert outcomes(receipt) == {"stays": "cancelled", "leaves": "cancelled"}
    assert leaving.done()


@in_virtual_time
async def test_closed_when_all_is_delivered() -> None:
    """It takes no longer than that."""
    it = Engine(Limits())
    add(it, "a", FakePipelinedClient(confirms_after=0.2), RELAY)
    await asyncio.sleep(0)
    receipt = it.accept(of(b"x"))
    began = asyncio.get_running_loop().time()
    await it.aclose(60)
    await it.aclose(60)

    assert asyncio.get_running_loop().time() - began < 0.5
    assert receipt.delivered


@in_virtual_time
async def test_closed_with_clients_that_hang() -> None:
    """All together take the drain time, and a little more."""
    it = Engine(Limits())
    clients = [FakeClient() for _ in range(5)]
    for number, client in enumerate(clients):
        client.faults = [lambda: hang_stubbornly(30)]
        add(it, f"p{number}", client)
    receipt = it.accept(of(b"x"))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await it.aclose(2)

    assert asyncio.get_running_loop().time() - began <= 5
    assert receipt.done

    await asyncio.sleep(60)

    assert all(client.closes for client in clients)


@in_virtual_time
async def test_closing_is_cancelled() -> None:
    """It no longer waits for what is queued, but it closes."""
    it = Engine(Limits())
    client = FakePipelinedClient(confirms_after=100, timeout=1000)
    add(it, "a", client, RELAY)
    await asyncio.sleep(0)
    receipt = it.accept(of(b"x"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await it.aclose(60)

    assert outcomes(receipt) == {"a": "cancelled"}
    assert client.closes == 1


@in_virtual_time
async def test_fed_after_the_end() -> None:
    """It is CANCELLED."""
    it = Engine(Limits())
    add(it, "a", FakeClient())
    await it.aclose(0)
    receipt = it.accept(of(b"x"))

    assert outcomes(receipt) == {"a": "cancelled"}
    assert it.budget.used == 0


# -- an end that nothing can come of -------------------------------------------------------------------


class Door(FakeClient):
    """A consumer that is away, and notes when it was looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self.unreachable = ConnectError("fake: refused")

    async def connect(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await super().connect()


async def closed_after(client: Client, drain: float, *, role: Role = Role.REQUIRED) -> float:
    """Forward a message to *client*, which is away, for five minutes; return how long closing takes then."""
    it = Engine(Limits(drain=drain))
    add(it, "a", client, replace(RELAY, role=role))
    it.feed(of(b"x"))
    await asyncio.sleep(300)
    began = asyncio.get_running_loop().time()
    await it.aclose(drain)
    check_books(it.stats())
    return asyncio.get_running_loop().time() - began


@in_virtual_time
async def test_next_attempt_behind_the_end() -> None:
    """It is tried once more, at once, and is then closed: to wait for the end would be in vain."""
    jitter.set(lambda: 0.999)
    client = Door()
    seconds = await closed_after(client, 10)
    tried_at = client.times[-1]

    assert seconds < 0.1
    assert asyncio.get_running_loop().time() - tried_at < 0.1
    assert tried_at - client.times[-2] < 29


@in_virtual_time
async def test_next_attempt_before_the_end() -> None:
    """It is waited for, and so is each that follows."""
    jitter.set(lambda: 0.1)
    client = Door()
    seconds = await closed_after(client, 10)
    ended = asyncio.get_running_loop().time()

    assert 7 <= seconds <= 10
    assert len([time for time in client.times if time > ended - seconds]) >= 3


@in_virtual_time
async def test_consumer_that_is_back_at_the_end() -> None:
    """That one attempt finds it, and all that waits is delivered, however far the next was away."""
    jitter.set(lambda: 0.999)
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    it = Engine(Limits())
    add(it, "a", client, RELAY)
    for number in range(100):
        it.feed(of(b"%d" % number))
    await asyncio.sleep(300)
    client.unreachable = None
    await it.aclose(10)

    assert client.messages == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("policy", [RELAY, DeliveryPolicy.direct()], ids=["relay", "direct"])
@in_virtual_time
async def test_end_of_a_producer_with_nothing_to_do(policy: DeliveryPolicy) -> None:
    """Nobody is looked for at the end for whom there is nothing."""
    jitter.set(lambda: 0.999)
    client = Door()
    it = Engine(Limits())
    producer = add(it, "a", client, policy)
    await asyncio.sleep(300)
    attempts = len(client.times)
    producer.end_by(asyncio.get_running_loop().time() + 10, producer.give_up)
    await asyncio.sleep(0.01)

    assert len(client.times) == attempts

    await it.aclose(10)

    assert len(client.times) == attempts


@in_virtual_time
async def test_end_while_it_connects() -> None:
    """The attempt under way is the one: its outcome is waited for."""
    client = FakeClient()
    client.connect_faults = [lambda: asyncio.sleep(3)]
    it = Engine(Limits())
    add(it, "a", client, RELAY)
    it.feed(of(b"x"))
    await asyncio.sleep(1)
    await it.aclose(10)

    assert client.messages == [b"x"]
    assert client.connects == 1


@in_virtual_time
async def test_connection_that_breaks_at_the_end() -> None:
    """It is made anew, if that can be in time."""
    client = FakePipelinedClient(confirms_after=0.5)
    it = Engine(Limits())
    producer = add(it, "a", client, replace(RELAY, ack=Ack.KERNEL))
    await asyncio.sleep(1)
    it.feed(of(b"x"))
    closing = asyncio.ensure_future(it.aclose(10))
    await asyncio.sleep(0.2)
    client.break_off()
    await closing

    assert client.given == [[b"x"], [b"x"]]
    assert producer.outbox.stats.delivered == 1


@pytest.mark.parametrize("away", [True, False])
@in_virtual_time
async def test_shadow_at_the_end(away: bool) -> None:
    """It keeps nobody waiting for more than a second, though others would have ten minutes."""
    client = Door() if away else FakePipelinedClient(room=0, timeout=10**6)

    assert await closed_after(client, 600, role=Role.SHADOW) <= 1.1


@in_virtual_time
async def test_shadow_that_comes_at_the_end() -> None:
    """Of one that connects just then it is not known that it is away: it has its half second, too."""
    client = FakePipelinedClient()
    client.connect_faults = [lambda: asyncio.sleep(0.3)]
    it = Engine(Limits())
    add(it, "a", client, replace(RELAY, role=Role.SHADOW))
    it.feed(of(b"x"))
    await asyncio.sleep(0.1)
    await it.aclose(10)

    assert client.messages == [b"x"]


@in_virtual_time
async def test_what_is_not_delivered_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One message is one, and several are several."""
    for count in (1, 2):
        async with engine() as it:
            add(it, "a", dead(), RELAY)
            it.feed(of(*[b"x"] * count))

    assert [record.message for record in caplog.records if "before it was closed" in record.message] == [
        "a: 1 message was not delivered before it was closed",
        "a: 2 messages were not delivered before it was closed",
    ]
