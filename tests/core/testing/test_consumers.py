"""What shows the arrivals: a transport's own listener, which can be paused, and crash."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from producer_pool.discovery.registry import Registry
from producer_pool.model.errors import ConnectError
from producer_pool.plugin import Batch
from producer_pool.testing.consumers import ListenerConsumer
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import RuleBroken
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.trials import trying
from support.zoo.animal import Plugin, transport
from support.zoo.handmade import HandmadeListener
from support.zoo.healthy import PlainClient


async def sender(trial: Trial, consumer: ListenerConsumer, messages: list[bytes]) -> None:
    client = trial.client(consumer)
    await trial.reach(client)
    for message in messages:
        await client.send(message)


async def test_what_arrives_is_kept(tmp_path: Path) -> None:
    """Messages in their order, and the batches with their origin."""
    async with trying(tmp_path) as trial:
        consumer = await trial.listening()
        messages = numbered(3)
        await sender(trial, consumer, messages)
        await trial.arrives(consumer, messages)

        assert [message for batch in consumer.batches for message in batch] == messages
        assert consumer.batches[0].origin.startswith("zoo://127.0.0.1:")
        assert consumer.connections == 1
        assert consumer.listener.stats.messages == 3


async def test_pause(tmp_path: Path) -> None:
    """Nothing is read while it is paused, and all is afterwards."""
    async with trying(tmp_path) as trial:
        consumer = await trial.listening()
        first, second = numbered(2)
        await sender(trial, consumer, [first])
        await trial.arrives(consumer, [first])
        consumer.pause()
        await sender(trial, consumer, [second])
        await asyncio.sleep(0.02)

        assert consumer.received == [first]
        consumer.resume()
        await trial.arrives(consumer, [first, second])


async def test_crash(tmp_path: Path) -> None:
    """It is not reachable any more, and then at the same place; what had arrived stays."""
    async with trying(tmp_path) as trial:
        consumer = await trial.listening()
        url = consumer.url
        first, second = numbered(2)
        await sender(trial, consumer, [first])
        await trial.arrives(consumer, [first])
        await consumer.crash()

        assert consumer.connections == 0
        with pytest.raises(ConnectError):
            await trial.reach(trial.client(consumer))
        await consumer.start()
        await sender(trial, consumer, [second])
        await trial.arrives(consumer, [first, second])

        assert consumer.url == url


async def test_closing_twice(tmp_path: Path) -> None:
    """In any state, also before it was started."""
    async with trying(tmp_path) as trial:
        await ListenerConsumer(trial).aclose()
        consumer = await trial.listening()
        await trial.reached(consumer, b"one")
        await consumer.aclose()
        await consumer.aclose()

        assert consumer.received == [b"one"]
        assert consumer.connections == 0


async def test_where_it_is_fed_from(tmp_path: Path) -> None:
    """An intake belongs to the loop; that another thread fed it is noted."""
    async with trying(tmp_path) as trial:
        consumer = await trial.listening()
        await trial.reached(consumer, numbered(1)[0])
        before = consumer.astray
        thread = threading.Thread(target=consumer._intake.feed, args=(Batch.of([b"x"]),))
        thread.start()
        thread.join()

        assert (before, consumer.astray) == (False, True)
        assert consumer.received[-1] == b"x"


class NeverEnds(HandmadeListener):
    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.Event().wait()


async def test_listener_that_never_ends(tmp_path: Path) -> None:
    """It is said that it is the listener that is waited for."""
    registry = Registry()
    registry.register(Plugin(transport(PlainClient, listener=NeverEnds)), "zoo")
    async with trying(tmp_path, Subject("zoo://127.0.0.1:0", registry), patience=0.05) as trial:
        consumer = await trial.listening()
        with pytest.raises(RuleBroken, match=r"in vain: aclose\(\) of the listener returns"):
            await consumer.crash()


async def test_held_receipts(tmp_path: Path) -> None:
    """What becomes of a batch is what a rule says, when it does; unless it holds them, all is delivered."""
    async with trying(tmp_path) as trial:
        consumer = await trial.listening()
        told: list[bool] = []
        at_once = consumer._intake.accept(Batch.of([b"a"]))
        consumer.hold()
        held = consumer._intake.accept(Batch.of([b"b", b"c"]))
        held.when_done(lambda: told.append(held.delivered))

        assert at_once.done
        assert at_once.delivered
        assert (held.done, held.stored) == (False, None)
        (receipt,) = consumer.receipts
        assert receipt.count == 2
        receipt.finish(delivered=False)
        held.when_done(lambda: told.append(held.done))
        assert told == [False, True]
        assert consumer.received == [b"a", b"b", b"c"]
