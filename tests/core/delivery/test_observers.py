"""Observers: told soon, in order, in few calls, and contained."""

import asyncio
from typing import Any

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.model.errors import ConnectError
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.stats import Health, State
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient
from support.offers import offer, results

RELAY = DeliveryPolicy.relay()


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def state_changed(self, health: Health) -> None:
        self.told.append(health.state)

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.told.append((producer_id, outcome, count))


@in_virtual_time
async def test_life_of_a_relay() -> None:
    """Observers are told each state, and what was settled between, in the order in which it happened."""
    notes = Notes()
    client = FakePipelinedClient()
    client.connect_faults = [ConnectError("fake: refused")]
    async with Producer("audit", client, RELAY, observers=[notes]) as producer:
        await results(offer(producer, b"a", b"b"))
        client.break_off()
        await results(offer(producer, b"c"))
    delivered = Outcome.DELIVERED

    assert notes.told == [
        State.CONNECTING,
        State.DOWN,
        State.UP,
        ("audit", delivered, 2),
        State.DOWN,
        State.UP,
        ("audit", delivered, 1),
        State.CLOSED,
    ]


@in_virtual_time
async def test_settled_in_one_turn() -> None:
    """Observers are told one number, after it happened."""
    notes = Notes()
    async with Producer("audit", FakePipelinedClient(), observers=[notes]) as producer:
        await producer.forward("first")
        await asyncio.sleep(1)
        notes.told.clear()
        for _ in range(100):
            offer(producer, b"x")
        at_once = list(notes.told)
        await asyncio.sleep(0)

        assert at_once == []
        assert notes.told == [("audit", Outcome.DELIVERED, 100)]


@in_virtual_time
async def test_observers_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    """That is counted and logged, and stops nothing: not even the other observers."""

    class Fails:
        def state_changed(self, health: Health) -> None:
            raise SystemExit(1)

        def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
            raise ValueError("no")

    notes = Notes()
    async with Producer("audit", FakeClient(), observers=[Fails(), notes]) as producer:
        result = await producer.forward("x")

    assert result.ok
    assert ("audit", Outcome.DELIVERED, 1) in notes.told
    assert producer.observers.errors == len(notes.told)
    assert "observer Fails failed" in caplog.text


@in_virtual_time
async def test_observer_that_calls_back_in() -> None:
    """It may do what it likes, even send a message for each that it hears of."""
    client = FakePipelinedClient()

    class Echoes(Notes):
        def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
            super().settled(producer_id, outcome, count)
            if len(client.messages) < 1000:
                offer(producer, b"echo")

    async with Producer("audit", client, observers=[Echoes()]) as producer:
        await producer.forward("sound")
        await producer.drain()
        await asyncio.sleep(1)

        assert len(client.messages) == 1000
        assert producer.outbox.stats.delivered == 1000
