"""A producer from its beginning to its end: states, checks, draining, closing."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.model.errors import ConfigurationError, ConnectError, SendError, UsageError
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.model.stats import State
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient, hang, hang_stubbornly
from support.offers import offer, results

RELAY = DeliveryPolicy.relay()
WAITS = DeliveryPolicy(retry=Retry(attempts=1, backoff=30.0))


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- states ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_health() -> None:
    """It tells the state, since when, the last delivery, the last error in words, and the next retry."""
    client = FakeClient()
    async with Producer("audit", client, WAITS) as producer:
        await producer.forward("x")
        delivered = seconds()
        await asyncio.sleep(5)
        client.always = ConnectError("fake: refused")
        await producer.forward("y")
        health = producer.health()

        assert (health.producer_id, health.state, health.ok) == ("audit", State.DOWN, False)
        assert (health.last_delivery, health.since) == (delivered, delivered + 5)
        assert health.last_error is client.always
        assert health.next_retry is not None
        assert 0 <= health.next_retry - health.since <= 30
        assert (health.address, health.ack) == ("fake:plain", Ack.WRITTEN)


class Serving(FakePipelinedClient):
    """A client that consumers connect to."""

    @property
    def peers(self) -> int:
        return 0


@in_virtual_time
async def test_client_that_consumers_connect_to() -> None:
    """It is there before there is a message, whatever the policy is: how else could somebody find it."""
    client = Serving()
    async with Producer("audit", client) as producer:
        producer.start()
        await asyncio.sleep(1)

        assert producer.health().state is State.UP


@in_virtual_time
async def test_client_that_consumers_cannot_connect_to() -> None:
    """It is tried again by itself, with a pause that grows; until then, messages fail at once."""
    client = Serving()
    client.unreachable = ConnectError("fake: port taken")
    async with Producer("audit", client, WAITS) as producer:
        producer.start()
        await asyncio.sleep(1)
        before = seconds()
        result = await producer.forward("x")
        failed = seconds()
        await asyncio.sleep(3600)
        attempts = client.connects
        client.unreachable = None
        await asyncio.sleep(60)

        assert (result.outcome, failed) == (Outcome.FAILED, before)
        assert "port taken" in str(result.error)
        assert 100 < attempts < 1000
        assert producer.health().state is State.UP


@in_virtual_time
async def test_consumer_that_closes_between_messages() -> None:
    """Each message finds the next connection soon, however often: an idle balancer is no outage."""
    client = FakePipelinedClient()
    slowest = 0.0
    async with Producer("audit", client, RELAY) as producer:
        for _ in range(50):
            before = seconds()
            result = await producer.forward("x")
            slowest = max(slowest, seconds() - before)
            client.signals[-1].broken(SendError("fake: closed"))

            assert result.ok

    assert slowest < 1


# -- checks ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_check_of_a_consumer_that_is_there() -> None:
    """It connects, without a message; when it is up, there is nothing to do."""
    client = FakeClient()
    async with Producer("audit", client) as producer:
        first, second = await producer.check(), await producer.check()

        assert first.state is second.state is State.UP
        assert client.connects == 1
        assert client.sends == 0


@pytest.mark.parametrize("policy", [RELAY, WAITS], ids=["relay", "direct"])
@in_virtual_time
async def test_check_of_a_consumer_that_is_not_there(policy: DeliveryPolicy) -> None:
    """Each check is an attempt now, however long the backoff."""
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    async with Producer("audit", client, policy) as producer:
        begin = seconds()
        found = [await producer.check() for _ in range(3)]

        assert {health.state for health in found} == {State.DOWN}
        assert found[-1].last_error is client.unreachable
        assert client.connects == 3
        assert seconds() == begin


@in_virtual_time
async def test_two_checks_at_once() -> None:
    """Both return, whether the attempt fails or not."""
    for unreachable in (ConnectError("fake: refused"), None):
        client = FakeClient()
        client.connect_faults = [lambda: asyncio.sleep(1)]
        client.unreachable = unreachable
        async with Producer("audit", client, RELAY) as producer:
            async with asyncio.timeout(5):
                found = await asyncio.gather(producer.check(), producer.check())

            assert found[0].state is found[1].state


@in_virtual_time
async def test_check_while_it_connects() -> None:
    """The attempt under way is what was asked for, if it works."""
    client = FakeClient()
    client.connect_faults = [lambda: asyncio.sleep(3)]
    async with Producer("audit", client, RELAY) as producer:
        producer.start()
        await asyncio.sleep(1)
        health = await producer.check()

        assert health.state is State.UP
        assert client.connects == 1


@in_virtual_time
async def test_closed_during_a_check() -> None:
    """The check ends."""
    client = FakeClient()
    client.connect_faults = [hang]
    producer = Producer("audit", client)
    checking = asyncio.create_task(producer.check())
    await asyncio.sleep(1)
    await producer.aclose()

    assert (await checking).state is State.CLOSED


# -- draining and closing --------------------------------------------------------------------------


@in_virtual_time
async def test_drain() -> None:
    """It returns when the last message is confirmed, and not before."""
    client = FakePipelinedClient(confirms_after=0.5)
    async with Producer("audit", client, RELAY) as producer:
        page = offer(producer, b"a")
        await producer.drain()

        assert page.done(None)
        assert producer.outbox.empty


@in_virtual_time
async def test_drain_over_a_break() -> None:
    """What goes back to be sent again is not done."""
    client = FakePipelinedClient(confirms_after=0.5)
    policy = DeliveryPolicy(ack=Ack.KERNEL, deadline=60, retry=Retry(attempts=2))
    async with Producer("audit", client, policy) as producer:
        last_try = offer(producer, b"a")
        await asyncio.sleep(0.1)
        client.break_off()
        await asyncio.sleep(0.2)
        offer(producer, b"b")
        draining = asyncio.create_task(producer.drain())
        await asyncio.sleep(0)
        client.break_off()
        await draining

        assert not last_try.results(0)["audit"].ok
        assert producer.outbox.stats.delivered == 1


@in_virtual_time
async def test_close_with_messages_left() -> None:
    """They are CANCELLED, and each says whether it may have arrived."""
    client = FakePipelinedClient(confirms_after=60, room=1)
    producer = Producer("audit", client, RELAY)
    sent, unsent = offer(producer, b"a"), offer(producer, b"b")
    await asyncio.sleep(0.1)
    await producer.aclose()
    found = [page.results(0)["audit"] for page in (sent, unsent)]

    assert [result.outcome for result in found] == [Outcome.CANCELLED] * 2
    assert ["may have arrived" in str(result.error) for result in found] == [True, False]
    assert client.closes == 1


@in_virtual_time
async def test_close_asks_what_was_confirmed() -> None:
    """What the consumer has confirmed by then is DELIVERED, though nobody had looked yet."""
    client = FakePipelinedClient(confirms_after=0.012)
    producer = Producer("audit", client, RELAY)
    page = offer(producer, b"a")
    await asyncio.sleep(0.0125)
    await producer.aclose()

    assert page.results(0)["audit"].ok


@in_virtual_time
async def test_offered_after_the_end() -> None:
    """It is CANCELLED at once."""
    producer = Producer("audit", FakeClient())
    await producer.forward("x")
    await producer.aclose()
    page = offer_without_starting(producer)

    assert page.results(0)["audit"].outcome is Outcome.CANCELLED
    with pytest.raises(UsageError, match="closed"):
        await producer.forward("y")


def offer_without_starting(producer: Producer) -> Any:
    producer_start, producer.start = producer.start, lambda: None  # type: ignore[method-assign]
    try:
        return offer(producer, b"late")
    finally:
        producer.start = producer_start  # type: ignore[method-assign]


@in_virtual_time
async def test_offered_while_it_closes() -> None:
    """It is CANCELLED when the closing is over."""
    client = FakeClient()
    client.close_faults = [lambda: asyncio.sleep(0.5)]
    producer = Producer("audit", client)
    await producer.forward("x")
    closing = asyncio.create_task(producer.aclose())
    await asyncio.sleep(0.1)
    page = offer_without_starting(producer)
    await closing

    assert page.results(0)["audit"].outcome is Outcome.CANCELLED


@in_virtual_time
async def test_closed_twice() -> None:
    """Also at once: both calls return when it is over, and the client is closed once."""
    client = FakeClient()
    client.close_faults = [lambda: asyncio.sleep(0.5)]
    producer = Producer("audit", client)
    await producer.forward("x")
    begin = seconds()
    await asyncio.gather(producer.aclose(), producer.aclose())
    await producer.aclose()

    assert seconds() - begin == pytest.approx(0.5)
    assert client.closes == 1


@in_virtual_time
async def test_closed_before_it_began() -> None:
    """There is nothing to do, and nothing can be begun."""
    producer = Producer("audit", FakeClient())
    await producer.aclose()

    assert producer.health().state is State.CLOSED
    with pytest.raises(UsageError):
        producer.start()


@pytest.mark.parametrize("where", ["connect", "send", "aclose"])
@in_virtual_time
async def test_close_of_a_client_that_hangs(where: str) -> None:
    """Closing is bounded; a client that ignores its cancellation is left behind until it returns."""
    client = FakeClient()
    stubborn = {"connect": client.connect_faults, "send": client.faults, "aclose": client.close_faults}
    stubborn[where].append(lambda: hang_stubbornly(60))
    producer = Producer("audit", client)
    page = offer(producer, b"a")
    await asyncio.sleep(1)
    begin = seconds()
    await producer.aclose()

    assert seconds() - begin <= 2.0
    assert page.done(None)

    before = replace(producer.outbox.stats)
    await asyncio.sleep(120)

    assert client.connects == 1
    assert not client.is_open
    assert producer.outbox.stats == before


@pytest.mark.parametrize("where", ["connect", "send"])
@in_virtual_time
async def test_client_that_makes_something_else_of_its_cancellation(where: str) -> None:
    """It is closed all the same, and not connected again."""

    async def translate() -> None:
        try:
            await hang()
        except asyncio.CancelledError:
            raise SendError("fake: interrupted") from None

    client = FakeClient()
    {"connect": client.connect_faults, "send": client.faults}[where].append(translate)
    producer = Producer("audit", client, RELAY)
    offer(producer, b"a")
    await asyncio.sleep(1)
    await producer.aclose()
    await asyncio.sleep(60)

    assert client.connects == client.closes == 1


@in_virtual_time
async def test_closing_is_cancelled() -> None:
    """Nothing stays pending, and the connection is closed."""
    client = FakeClient()
    client.faults = [hang]
    client.close_faults = [lambda: asyncio.sleep(0.5)]
    producer = Producer("audit", client)
    page = offer(producer, b"a")
    await asyncio.sleep(1)
    closing = asyncio.create_task(producer.aclose())
    await asyncio.sleep(0.1)
    closing.cancel()
    await asyncio.wait([closing])

    assert page.results(0)["audit"].outcome is Outcome.CANCELLED

    await asyncio.sleep(1)

    assert client.closes == 1


@in_virtual_time
async def test_cancelled_between_two_connections() -> None:
    """A client whose closing is interrupted by the producer's end is closed again."""
    client = FakeClient()
    client.faults = [SendError("fake: reset")]
    client.close_faults = [lambda: asyncio.sleep(0.9)]
    producer = Producer("audit", client)
    offer(producer, b"a")
    await asyncio.sleep(0.1)
    await producer.aclose()

    assert client.closes == 2


# -- odd clients -----------------------------------------------------------------------------------


@in_virtual_time
async def test_client_closes_its_own_producer() -> None:
    """From inside a call: that ends it, without waiting for itself."""
    client = FakeClient()
    producer = Producer("audit", client)
    client.faults = [producer.aclose]
    page = offer(producer, b"a")
    async with asyncio.timeout(5):
        await results(page)
    await producer.aclose()

    assert page.results(0)["audit"].outcome is Outcome.CANCELLED
    assert client.closes == 1


@in_virtual_time
async def test_property_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """As odd as that may be, the producer goes on."""

    class Moody(FakeClient):
        moods = 0

        @property
        def timeout(self) -> float:
            self.moods += 1
            if 2 <= self.moods <= 5:
                raise RuntimeError("not now")
            return 10.0

        @timeout.setter
        def timeout(self, value: float) -> None:
            pass

    client = Moody()
    async with Producer("audit", client, DeliveryPolicy(deadline=600)) as producer:
        found = await results(offer(producer, b"a"))

        assert found[0].ok


@in_virtual_time
async def test_name_that_raises() -> None:
    """The producer's id stands in for the client's address."""

    class Nameless(FakeClient):
        @property
        def address(self) -> str:
            raise RuntimeError("no name")

        @address.setter
        def address(self, value: str) -> None:
            pass

    client = Nameless()
    client.faults = [ValueError("odd")]
    async with Producer("audit", client) as producer:
        result = await producer.forward("x")

        assert str(result.error) == "audit: send raised ValueError: odd"
        assert producer.health().address == "audit"
        assert "audit" in repr(producer)


def test_level_that_the_client_cannot_reach() -> None:
    """It is an error when the producer is made."""
    with pytest.raises(ConfigurationError, match="ack=app cannot be reached"):
        Producer("audit", FakeClient(), DeliveryPolicy(ack=Ack.APP))
