"""A producer in a trial, and waiting for what comes to rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.testing.forwarding import DIRECT, Forwarding, steady, until_one_arrives
from producer_pool.testing.rule import RuleBroken
from producer_pool.testing.trial import Trial, numbered
from support.zoo import HEALTHY

PIPELINED = HEALTHY[1]


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(PIPELINED.subject(), tmp_path, seed=1, patience=2)


async def test_messages_are_followed(trial: Trial) -> None:
    """Each is known with what became of it."""
    consumer = await trial.consumer()
    forwarding = await Forwarding.to(trial, consumer, ack=Ack.KERNEL)
    await forwarding.submit(numbered(3))
    await forwarding.submit(numbered(2, start=3))
    await forwarding.all_delivered()

    assert forwarding.messages == forwarding.reported() == numbered(5)
    assert [result.ack for result in await forwarding.results()] == [Ack.KERNEL] * 5
    assert await forwarding.delivered() == 5
    assert await forwarding.trouble() == ""
    await trial.aclose()


async def test_message_that_stays_open(trial: Trial) -> None:
    """What was waited for in vain is said, with the reason that the producer has."""
    consumer = await trial.consumer()
    await consumer.crash()
    forwarding = await Forwarding.to(trial, consumer)
    await forwarding.submit(numbered(2))

    with pytest.raises(
        RuleBroken, match=r"2 of 2 messages were not settled; the last error was ConnectError: .*refused"
    ):
        await forwarding.all_delivered()
    assert forwarding.reported() == []
    await trial.aclose()


async def test_message_that_fails(trial: Trial) -> None:
    """Direct producers fail at once, and that is not delivered."""
    consumer = await trial.consumer()
    await consumer.crash()
    forwarding = await Forwarding.to(trial, consumer, DIRECT)
    await forwarding.submit(numbered(2))

    with pytest.raises(RuleBroken, match=r"2 of 2 messages: .*refused"):
        await forwarding.all_delivered()
    assert [result.outcome for result in await forwarding.results()] == [Outcome.FAILED] * 2
    await trial.aclose()


async def test_consumer_that_comes_back(trial: Trial) -> None:
    """Messages are sent until one arrives: the others may be lost, and nobody waits for them."""
    consumer = await trial.consumer()
    sent: list[bytes] = []

    async def send(message: bytes) -> None:
        sent.append(message)
        if len(sent) == 3:
            consumer.received.append(message)

    assert await until_one_arrives(trial, consumer, numbered(10), send)
    assert sent == numbered(3)
    await trial.aclose()


async def test_consumer_that_stays_away(trial: Trial) -> None:
    """When all are sent, or patience is over, the answer is no."""
    consumer = await trial.consumer()

    async def send(message: bytes) -> None:
        pass

    assert not await until_one_arrives(trial, consumer, numbered(2), send)
    await trial.aclose()


async def test_what_comes_to_rest(trial: Trial) -> None:
    """The value that stayed is returned, and not one before it."""
    now = 0

    async def move() -> None:
        nonlocal now
        for now in range(1, 6):  # noqa: B007 - it is looked at from outside
            await asyncio.sleep(0.02)

    moving = asyncio.ensure_future(move())

    assert await steady(lambda: now, trial, 0.1) == 5
    await moving


async def test_what_never_rests(trial: Trial) -> None:
    """Patience ends."""
    numbers = iter(range(10**9))

    with pytest.raises(RuleBroken, match="what goes on comes to rest"):
        await steady(lambda: next(numbers), trial)
