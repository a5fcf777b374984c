"""Removing producers, and closing all of them."""

import asyncio

import pytest

from producer_pool.delivery.engine import Engine
from producer_pool.model.errors import Cancelled
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.testing import in_virtual_time
from support.engines import add, dead, engine, of, outcomes
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
