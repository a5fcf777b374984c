"""Two pools in a row that acknowledge, and a last consumer that is slow, away, or choosy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from producer_pool import AsyncProducerPool, Batch, DeliveryPolicy, bind_transport_async
from producer_pool.toolkit.acknowledging import answering
from support.consumers import RecordingConsumer
from support.streams import until

QUICK = "retry-backoff=5ms&retry-max-backoff=20ms"


class Chain:
    """A pool that sends to another one, which acknowledges, and what the second one's consumer has."""

    def __init__(self, first: AsyncProducerPool, second: AsyncProducerPool) -> None:
        self.first = first
        self.second = second

    async def counted(self) -> tuple[int, int]:
        """Return how many messages the first pool knows to be delivered, and how many it has sent again."""
        stats = (await self.first.stats()).producers["second"]
        return stats.delivered, stats.resent


@asynccontextmanager
async def chain(consumer: RecordingConsumer, *, last: str = "", timeout: str = "10s") -> AsyncIterator[Chain]:
    """Run both pools; *last* are options of the second one's consumer."""
    relay = DeliveryPolicy.relay()
    async with AsyncProducerPool(policy=relay) as first, AsyncProducerPool(policy=relay) as second:
        await second.add_producer("last", f"tcp://127.0.0.1:{consumer.port}?{QUICK}{last}")
        server = await bind_transport_async("tcp://127.0.0.1:0?ack-after=delivered", second)
        url = f"tcp://127.0.0.1:{server.endpoint.port}?ack=app&timeout={timeout}&{QUICK}"
        await first.add_producer("second", url)
        yield Chain(first, second)


async def test_acknowledged_to_the_end() -> None:
    """The first pool knows a message to be delivered when the last consumer has it, and not before."""
    with RecordingConsumer(listens=False) as consumer:
        async with chain(consumer) as pools:
            receipts = await pools.first.submit_many([b"%d" % number for number in range(100)])
            await until_arrived(pools, 100)
            await asyncio.sleep(0.1)
            assert not any(receipt.done for receipt in receipts)
            consumer.come_back()
            results = [(await receipt.results(wait=10))["second"] for receipt in receipts]

        assert all(result.ok and result.ack is not None and result.ack.label == "app" for result in results)
        assert consumer.wait_for(100) == [b"%d" % number for number in range(100)]


async def until_arrived(pools: Chain, count: int) -> None:
    """Wait until so many messages have come to the second pool."""
    for _ in range(2000):
        if (await pools.second.stats()).producers["last"].accepted >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{count} messages never came to the second pool")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("beat", [0.05, 60.0], ids=["says so", "control: says nothing"])
async def test_last_consumer_is_away_for_long(beat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The second pool says that it is at work: so the first one does not give up, and nothing is doubled.

    One that says nothing until it can acknowledge is taken for dead, and gets everything again.
    """
    monkeypatch.setattr(answering, "BEAT", beat)
    with RecordingConsumer(listens=False) as consumer:
        async with chain(consumer, timeout="400ms") as pools:
            await pools.first.submit_many([b"%d" % number for number in range(100)])
            await asyncio.sleep(1.5)
            consumer.come_back()
            await pools.first.drain(wait=10)
            await pools.second.drain(wait=10)
            delivered, resent = await pools.counted()
            passed_on = (await pools.second.stats()).producers["last"].delivered
        consumer.wait_for(passed_on)

    assert delivered == 100
    assert (resent == 0) == (beat < 1)
    assert (len(consumer.messages) == 100) == (beat < 1)
    assert list(dict.fromkeys(consumer.messages)) == [b"%d" % number for number in range(100)]


async def test_message_that_the_last_consumer_never_takes() -> None:
    """It is not acknowledged: the first pool keeps it, and what is behind it, and says why."""
    with RecordingConsumer() as consumer:
        async with chain(consumer, last="&max-message=10") as pools:
            receipts = await pools.first.submit_many([b"fits", b"is far too long", b"fits, too"])
            await until(lambda: b"fits, too" in consumer.messages)
            await asyncio.sleep(0.1)
            while (health := (await pools.first.health())["second"]).last_error is None:
                await asyncio.sleep(0.001)

            assert not receipts[1].done
            assert not receipts[2].done
            assert "closed the connection" in str(health.last_error)
            await pools.first.aclose(drain=0)


async def test_message_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage of the second pool removes is taken care of: that was its rule. It is acknowledged."""
    with RecordingConsumer() as consumer:
        async with chain(consumer) as pools:
            (producer,) = pools.second.engine._producers.values()
            monkeypatch.setattr(producer, "stages", (_without_noise,))
            receipts = await pools.first.submit_many([b"one", b"noise", b"two"])
            results = [(await receipt.results(wait=10))["second"] for receipt in receipts]

        assert [result.attempts for result in results] == [1, 1, 1]
        assert consumer.wait_for(2) == [b"one", b"two"]


def _without_noise(batch: Batch) -> Batch | None:
    return batch.select([index for index, message in enumerate(batch.messages) if message != b"noise"])


@pytest.mark.parametrize("role", ["best-effort", "shadow"])
async def test_only_required_producers_count(role: str) -> None:
    """A consumer that is not required, and away, holds back no acknowledgement."""
    with RecordingConsumer() as consumer:
        async with chain(consumer) as pools:
            await pools.second.add_producer("other", f"tcp://127.0.0.1:1?role={role}")
            receipt = await pools.first.submit(b"hello")

            assert (await receipt.results(wait=10))["second"].ok
            await pools.second.aclose(drain=0)
