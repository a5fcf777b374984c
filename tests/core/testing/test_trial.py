"""What a rule is given: two sides, messages, and patience; and that all of it is closed afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.model.errors import InvalidOption, Rejected
from producer_pool.plugin import Ack
from producer_pool.testing.driving import Driver
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import NotApplicable, RuleBroken
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.trials import plain, subject_of, trying
from support.zoo.animal import HEALTHY, Plugin, transport
from support.zoo.healthy import PlainClient

A, B, C = numbered(3)


async def test_both_sides(tmp_path: Path) -> None:
    """A client reaches the consumer where that is, and messages arrive there."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        client = trial.client(consumer)
        await trial.reach(client)
        await client.send(A)
        await trial.arrives(consumer, [A])


async def test_client_with_options(tmp_path: Path) -> None:
    """Those of the trial, with its folder in them, and those that a rule asks for."""
    subject = replace(plain(), client_options={"framing": "nul", "x": "{tmp}"})
    async with trying(tmp_path, subject) as trial:
        assert trial.url("zoo://h:1", max_message="1KiB") == (
            f"zoo://h:1?framing=nul&x={tmp_path}&max-message=1KiB"
        )
        with pytest.raises(InvalidOption, match="has no option x"):
            trial.client("zoo://h:1")


async def test_listener_with_options(tmp_path: Path) -> None:
    """Those of the trial, and those that a rule asks for; where it is does not show them."""
    subject = replace(plain(), listener_options={"framing": "nul"})
    async with trying(tmp_path, subject) as trial:
        consumer = await trial.listening(max_message="10B")
        client = trial.client(consumer, framing="nul")
        await trial.reach(client)
        await client.send(b"a\nb")
        await trial.until(lambda: consumer.received, "it arrives")

        assert consumer.received == [b"a\nb"]
        assert "?" not in consumer.url


async def test_what_a_transport_declares(tmp_path: Path) -> None:
    """Options by name, of either end, and the longest message: the least of all that limits it."""
    registry = Registry()
    registry.register(Plugin(transport(max_message=2048)), "zoo")
    async with trying(tmp_path, Subject("zoo://127.0.0.1:0", registry)) as trial:
        assert trial.has_option("framing")
        assert trial.has_option("tail", True)
        assert not trial.has_option("tail")
        assert trial.longest(trial.client("zoo://h:1")) == 2048
        assert trial.longest(trial.client("zoo://h:1", max_message="1KiB")) == 1024


async def test_forwarding_through_a_pool(tmp_path: Path) -> None:
    """What became of each message is told in the order in which they were given."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        forwarding = await trial.forwarding(consumer)
        fits, misfit = await forwarding.forward([A, b"a\nb"])

        assert fits.ok
        assert isinstance(misfit.error, Rejected)
        await trial.arrives(consumer, [A])


async def test_client_that_is_reached(tmp_path: Path) -> None:
    """It is connected, and a message has gone through; the same for one that is driven."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        client = await trial.reached(consumer, A)
        await client.send(B)
        await trial.arrives(consumer, [A, B])
        other = await trial.consumer()
        driver = await trial.driven(other, [A, B, C], ack=Ack.WRITTEN)

        assert driver.settled() == (3, 3)
        assert other.received == [A, B, C]


async def test_places(tmp_path: Path) -> None:
    """Each consumer is at another one, where the URL has a folder in it."""
    async with trying(tmp_path, replace(plain(), url="zoo:{tmp}/x")) as trial:
        places = [trial.another_place() for _ in range(3)]

        assert places[0] == trial.place == f"zoo:{tmp_path}/x"
        assert len(set(places)) == 3
        assert all(Path(place.removeprefix("zoo:")).parent.is_dir() for place in places)


async def test_flood(tmp_path: Path) -> None:
    """It is more than fits, in pieces that the client carries."""
    async with trying(tmp_path) as trial:
        client = trial.client("zoo://h:1", max_message="1KiB")
        flood = trial.flood(client, start=7)

        assert {len(message) for message in flood} == {1024}
        assert sum(map(len, flood)) == 24 * 1024 * 1024
        assert flood[0].startswith(b"00000007 ")


async def test_levels(tmp_path: Path) -> None:
    """Those that are declared, from the lowest on."""
    subject = HEALTHY[1].subject()
    async with trying(tmp_path, subject) as trial:
        assert [Ack.WRITTEN, *trial.levels()] == sorted(subject.transport.acks)
        assert trial.levels(Ack.KERNEL) == []


class ClosesBadly(PlainClient):
    closed = 0

    async def aclose(self) -> None:
        await super().aclose()
        type(self).closed += 1
        raise RuntimeError("closed already")


async def test_what_a_rule_made_is_closed(tmp_path: Path) -> None:
    """All of it, whatever closing the others raises."""
    ClosesBadly.closed = 0
    async with trying(tmp_path, subject_of(ClosesBadly)) as trial:
        consumer = await trial.listening()
        for _ in range(3):
            trial.client(consumer)

    assert ClosesBadly.closed == 3
    with pytest.raises(AssertionError):
        _ = consumer.listener


class NeverCloses(PlainClient):
    async def aclose(self) -> None:
        await asyncio.Event().wait()


async def test_closing_that_never_ends(tmp_path: Path) -> None:
    """It is left alone after a while, for whoever ends all tasks."""
    before = asyncio.all_tasks()
    async with trying(tmp_path, subject_of(NeverCloses), patience=0.05) as trial:
        trial.client("zoo://h:1")

    left = asyncio.all_tasks() - before
    assert len(left) == 1
    for task in left:
        task.cancel()
    await asyncio.wait(left)


async def test_patience_ends(tmp_path: Path) -> None:
    """What never comes true breaks the rule, which says what that was."""
    async with trying(tmp_path, patience=0.05) as trial:
        with pytest.raises(RuleBroken, match=r"waited 0\.05 s in vain: it happens"):
            await trial.until(lambda: False, "it happens")
        with pytest.raises(RuleBroken, match=r"waited 0\.1 s in vain: it ends"):
            async with trial.patience("it ends", 2):
                await asyncio.Event().wait()
        with pytest.raises(RuleBroken, match=r"waited 0\.05 s in vain: it returns"):
            await trial.within("it returns", asyncio.Event().wait())


async def test_time_out_of_what_is_tried(tmp_path: Path) -> None:
    """It is not taken for the end of patience."""
    async with trying(tmp_path) as trial:
        with pytest.raises(TimeoutError, match="its own"):
            async with trial.patience("it ends"):
                raise TimeoutError("its own")


async def test_arrivals_are_not_waited_for_when_one_is_wrong(tmp_path: Path) -> None:
    """What nobody sent decides it, though others are still missing."""
    async with trying(tmp_path, patience=60) as trial:
        consumer = await trial.consumer()
        consumer.received.append(b"x")
        with pytest.raises(RuleBroken, match=r"b'x' arrived in the place of .*, and nobody sent it"):
            await trial.arrives(consumer, [A, B, C])


async def test_missing_arrivals(tmp_path: Path) -> None:
    """When patience ends, it is said how many and which."""
    async with trying(tmp_path, patience=0.05) as trial:
        consumer = await trial.consumer()
        consumer.received.append(A)
        with pytest.raises(RuleBroken, match=r"2 of 3 messages did not arrive, such as b'00000001"):
            await trial.arrives(consumer, [A, B, C])


def test_chance_is_repeated(tmp_path: Path) -> None:
    """The same seed gives the same trial."""
    draws = [Trial(plain(), tmp_path, seed).random.random() for seed in (5, 5, 6)]

    assert draws[0] == draws[1]
    assert draws[1] != draws[2]


async def test_missing_messages(tmp_path: Path) -> None:
    """Whatever else arrives, those that never do are returned."""
    async with trying(tmp_path, patience=0.05) as trial:
        consumer = await trial.consumer()
        consumer.received += [b"x", A, A]

        assert await trial.missing(consumer, [A]) == set()
        assert await trial.missing(consumer, [A, B, C]) == {B, C}


async def test_consumer_that_comes_back(tmp_path: Path) -> None:
    """Messages are sent until one arrives: the others may be lost, and nobody waits for them."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        sent: list[bytes] = []

        async def send(message: bytes) -> None:
            sent.append(message)
            if len(sent) == 3:
                consumer.received.append(message)

        assert await trial.one_arrives(consumer, numbered(10), send)
        assert sent == numbered(3)


async def test_consumer_that_stays_away(tmp_path: Path) -> None:
    """When all are sent, or patience is over, the answer is no."""
    async with trying(tmp_path, patience=0.2) as trial:
        consumer = await trial.consumer()

        async def send(message: bytes) -> None:
            pass

        assert not await trial.one_arrives(consumer, numbered(2), send)
        assert not await trial.one_arrives(consumer, numbered(1000), send)


async def test_what_never_rests(tmp_path: Path) -> None:
    """Patience ends."""
    numbers = iter(range(10**9))
    async with trying(tmp_path, patience=0.05) as trial:
        with pytest.raises(RuleBroken, match="what goes on comes to rest"):
            await trial.steady(lambda: next(numbers))


async def test_consumer_that_comes_by_itself(tmp_path: Path) -> None:
    """Nothing is sent before it is there: not by a client, nor one that is driven, nor by a producer."""
    subject = Subject("tcp+serve://127.0.0.1:0")
    messages = numbered(4)
    async with trying(tmp_path, subject) as trial:
        consumer = await trial.consumer()
        async with trial.using(trial.client(consumer)) as client:
            await client.send(messages[0])
        client = trial.client(consumer)
        await trial.reach(client)
        await client.send(messages[1])
        await client.aclose()
        driver = Driver(trial.client(consumer))
        await driver.connect()
        await trial.met(driver.client)
        await driver.put(messages[2:3])
        await trial.arrives(consumer, messages[:3])
        await driver.client.aclose()
        forwarding = await trial.forwarding(consumer)
        await forwarding.forward(messages[3:])

        await forwarding.all_delivered()
        await trial.arrives(consumer, messages)


async def test_consumer_that_may_not_come_by_itself(tmp_path: Path) -> None:
    """A rule that asks for one which waits for its client is not asked where consumers come."""
    async with trying(tmp_path, Subject("tcp+serve://127.0.0.1:0")) as trial:
        with pytest.raises(NotApplicable, match="has consumers that come to it"):
            await trial.consumer(comes=False)
    async with trying(tmp_path, Subject("tcp://127.0.0.1:0")) as trial:
        assert (await trial.consumer(comes=False)).url.startswith("tcp://127.0.0.1:")


async def test_consumer_that_does_not_come(tmp_path: Path) -> None:
    """One that has crashed is not waited for; one that should come, and does not, breaks the rule."""
    subject = Subject("tcp+serve://127.0.0.1:0")
    async with trying(tmp_path, subject, patience=0.2) as trial:
        consumer = await trial.consumer()
        await consumer.crash()
        await trial.reach(trial.client(consumer))
        await consumer.start()

        with pytest.raises(RuleBroken, match="a consumer connects to the client"):
            await trial.reach(trial.client(trial.place))
