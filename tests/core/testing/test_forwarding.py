"""A producer in a trial: messages, and what becomes of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.testing.forwarding import RELAY
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import RuleBroken
from support.trials import trying
from support.zoo import HEALTHY

PIPELINED = HEALTHY[1]


async def test_messages_are_followed(tmp_path: Path) -> None:
    """Each is known with what became of it."""
    async with trying(tmp_path, PIPELINED.subject()) as trial:
        consumer = await trial.consumer()
        forwarding = await trial.forwarding(consumer, ack="kernel")
        await forwarding.submit(numbered(3))
        results = await forwarding.forward(numbered(2, start=3))
        await forwarding.all_delivered()

        assert forwarding.messages == forwarding.reported() == numbered(5)
        assert [result.ack for result in results] == [Ack.KERNEL] * 2
        assert (await forwarding.stats()).delivered == 5
        assert (await forwarding.health()).ok
        assert await forwarding.trouble() == ""


async def test_message_that_stays_open(tmp_path: Path) -> None:
    """What was waited for in vain is said, with the reason that the producer has."""
    async with trying(tmp_path, PIPELINED.subject(), patience=0.5) as trial:
        consumer = await trial.consumer()
        await consumer.crash()
        forwarding = await trial.forwarding(consumer, RELAY)
        await forwarding.submit(numbered(2))
        while not await forwarding.trouble():
            await asyncio.sleep(0.001)

        with pytest.raises(
            RuleBroken, match=r"2 of 2 messages were not settled; the last error was ConnectError: .*refused"
        ):
            await forwarding.all_delivered()
        assert forwarding.reported() == []


async def test_message_that_fails(tmp_path: Path) -> None:
    """Direct producers fail at once, and that is not delivered."""
    async with trying(tmp_path, PIPELINED.subject()) as trial:
        consumer = await trial.consumer()
        await consumer.crash()
        forwarding = await trial.forwarding(consumer)
        results = await forwarding.forward(numbered(2))

        assert [result.outcome for result in results] == [Outcome.FAILED] * 2
        with pytest.raises(RuleBroken, match=r"2 of 2 messages: .*refused"):
            await forwarding.all_delivered()
