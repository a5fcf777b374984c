"""What is said of a consumer: in its health, in the log, to observers; and when it is looked at again."""

import asyncio
import logging

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.delivery.standing import Standing
from producer_pool.model.errors import Cancelled, ConnectError, Full, Rejected
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.model.stats import Health, State
from producer_pool.testing import in_virtual_time
from support.engines import add, dead, engine, of
from support.fake_clients import FakeClient, FakePipelinedClient
from support.offers import offer

RELAY = DeliveryPolicy.relay()
SMALL = DeliveryPolicy(buffer=2048, overflow=Overflow.BLOCK, deadline=10**6)


class Notes:
    """An observer that writes down the states, with the seconds at which it heard of them."""

    def __init__(self) -> None:
        self.told: list[tuple[State, str]] = []
        self.times: list[float] = []

    def state_changed(self, health: Health) -> None:
        self.told.append((health.state, health.reason))
        self.times.append(asyncio.get_running_loop().time())

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        pass


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


# -- states ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_refused_message_makes_it_degraded() -> None:
    """Observers and health() tell it with the reason, and that it is over, without another message."""
    notes = Notes()
    client = FakeClient()
    client.faults = [None, Rejected("audit: no such account")]
    async with Producer("audit", client, observers=[notes]) as producer:
        await producer.forward("good")
        await producer.forward("bad")
        health = producer.health()

        assert (health.state, health.ok) == (State.DEGRADED, False)
        assert health.reason == "messages failed lately: audit: no such account"

        await asyncio.sleep(60)

        assert producer.health().state is State.UP
        assert [state for state, _ in notes.told] == [
            State.CONNECTING,
            State.UP,
            State.DEGRADED,
            State.UP,
        ]
        assert notes.told[2][1] == health.reason
        assert notes.times[3] - notes.times[2] == pytest.approx(30, abs=0.1)


@in_virtual_time
async def test_full_buffer_makes_it_degraded() -> None:
    """While it drops because the consumer is slow, and not because it is away."""
    client = FakePipelinedClient(room=0, timeout=10**5)
    policy = DeliveryPolicy(buffer=2048, overflow=Overflow.DROP_OLDEST, deadline=10**6)
    async with Producer("audit", client, policy) as producer:
        await producer.check()
        for _ in range(10):
            offer(producer, b"x")

        assert producer.health().state is State.DEGRADED
        assert "messages give way lately: audit: buffer of 2KiB is full" in producer.health().reason

        client.unreachable = ConnectError("fake: refused")
        client.break_off()
        await asyncio.sleep(1)

        assert producer.health().state is State.DOWN


@in_virtual_time
async def test_consumer_that_confirms_nothing() -> None:
    """It is degraded at half of its timeout, in words, before the connection is given up."""
    notes = Notes()
    client = FakePipelinedClient(confirms_after=7.0, timeout=10.0)
    policy = DeliveryPolicy(ack=Ack.KERNEL, deadline=60)
    async with Producer("audit", client, policy, observers=[notes]) as producer:
        await producer.check()
        offer(producer, b"x")
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(60)

    assert [state for state, _ in notes.told] == [
        State.CONNECTING,
        State.UP,
        State.DEGRADED,
        State.UP,
        State.CLOSED,
    ]
    assert notes.told[2][1] == "accepts but does not read: nothing moved for 5s of its timeout of 10s"
    assert notes.times[2] - begin == pytest.approx(5, abs=0.1)
    assert notes.times[3] - begin == pytest.approx(7 + 30, abs=0.1)


@in_virtual_time
async def test_consumer_that_takes_nothing() -> None:
    """That is no different, although nothing is in flight."""
    client = FakePipelinedClient(room=0, timeout=10.0)
    async with Producer("audit", client, DeliveryPolicy(deadline=60)) as producer:
        await producer.check()
        offer(producer, b"x")
        await asyncio.sleep(4.9)

        assert producer.health().state is State.UP

        await asyncio.sleep(0.2)

        assert producer.health().state is State.DEGRADED


@in_virtual_time
async def test_plain_client_that_does_not_return() -> None:
    """A call that takes half of its timeout is degraded; what is quiet, or answers in time, is not."""
    client = FakeClient(timeout=10.0)
    client.faults = [None, lambda: asyncio.sleep(4.5), lambda: asyncio.sleep(4.5), lambda: asyncio.sleep(6)]
    async with Producer("audit", client, DeliveryPolicy(deadline=600)) as producer:
        await producer.forward("a")
        await asyncio.sleep(100)
        offer(producer, b"b", b"c")
        await asyncio.sleep(8.9)

        assert producer.health().state is State.UP

        offer(producer, b"d")
        await asyncio.sleep(0.1 + 4.9)

        assert producer.health().state is State.UP

        await asyncio.sleep(0.2)

        assert producer.health().state is State.DEGRADED
        assert producer.health().reason == "send() has not returned for 5s of its timeout of 10s"

        await asyncio.sleep(2)

        assert producer.health().reason.startswith("stood still lately: send()")

        await asyncio.sleep(30)

        assert producer.health().state is State.UP


@in_virtual_time
async def test_source_that_waits() -> None:
    """The producer is paused, with what its source waits for, and comes back when there is room."""
    client = FakePipelinedClient(room=0, timeout=10**5)
    async with engine() as it:
        add(it, "audit", client, SMALL)
        await asyncio.sleep(1)
        while not it.paused:
            it.feed(of(b"x" * 512))
        first = it.health()["audit"]
        await asyncio.sleep(1.1)
        health = it.health()["audit"]

        assert first.state is State.UP
        assert health.state is State.PAUSED
        assert health.reason == (
            "its source has to wait: its buffer of 2KiB is full (buffer=, overflow=block)"
        )

        client.make_room(10)
        await asyncio.sleep(10)

        assert it.health()["audit"].state is State.UP


@in_virtual_time
async def test_source_that_waits_for_the_pool() -> None:
    """The reason says that it is the pool's buffer."""
    async with engine(buffer=10 * 1024) as it:
        add(it, "audit", dead(), DeliveryPolicy(overflow=Overflow.BLOCK, deadline=10**6))
        while not it.paused:
            it.feed(of(b"x" * 512))
        await asyncio.sleep(2)
        health = it.health()["audit"]

        assert health.state is State.PAUSED
        assert health.reason == (
            "its source has to wait: the pool's buffer is full, and its backlog is large; down: fake: refused"
        )


@in_virtual_time
async def test_down_for_long() -> None:
    """It has been down since it went down, whatever was tried since."""
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    async with Producer("audit", client, RELAY) as producer:
        producer.start()
        await asyncio.sleep(1)
        since = producer.health().since
        await asyncio.sleep(3600)
        health = producer.health()

        assert client.connects > 100
        assert (health.state, health.reason, health.since) == (State.DOWN, "fake: refused", since)


@in_virtual_time
async def test_role_in_health() -> None:
    """It is there for whoever sums up."""
    async with Producer("audit", FakeClient(), DeliveryPolicy(role=Role.SHADOW)) as producer:
        assert producer.health().role is Role.SHADOW


# -- the log -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_changes_in_the_log(log: pytest.LogCaptureFixture) -> None:
    """Each has a line with the id and the reason."""
    client = FakeClient()
    client.faults = [Rejected("no")]
    async with Producer("audit", client) as producer:
        await producer.forward("bad")
        await asyncio.sleep(60)

    assert [(record.levelname, record.message) for record in log.records] == [
        ("INFO", "audit: up: fake:plain"),
        ("WARNING", "audit: degraded: messages failed lately: no"),
        ("WARNING", "audit: 1 message failed: no"),
        ("INFO", "audit: not degraded any more"),
    ]


@in_virtual_time
async def test_flapping_consumer_in_the_log(log: pytest.LogCaptureFixture) -> None:
    """However often a connection comes and goes, there is a line a second for each of the two."""
    client = FakePipelinedClient()
    policy = DeliveryPolicy(deadline=3600)
    async with Producer("audit", client, policy) as producer:
        producer.start()
        for _ in range(100):
            await producer.check()
            client.break_off()
            await asyncio.sleep(0.05)
    lines = [record.message.split(":")[1] for record in log.records]

    assert 4 <= lines.count(" up") <= 7
    assert 4 <= lines.count(" down") <= 7


@in_virtual_time
async def test_many_messages_that_are_cancelled(log: pytest.LogCaptureFixture) -> None:
    """The lines at the end count all of them, whatever the number of batches."""
    producer = Producer("audit", dead(), RELAY)
    for count in (1, 2, 1000):
        offer(producer, *[b"x"] * count)
    await producer.aclose()
    lines = [record.message for record in log.records if "cancelled" in record.message]

    assert lines == [
        "audit: 1 message cancelled: audit: closed before it was delivered; it was not sent",
        "audit: 1,002 messages cancelled: audit: closed before it was delivered; it was not sent",
    ]


@in_virtual_time
async def test_lines_that_are_left_out(log: pytest.LogCaptureFixture) -> None:
    """The next one of its kind says how many messages they spoke of."""
    standing = Standing("audit", lambda: None)
    standing.begin(asyncio.get_running_loop())
    for seconds in (0, 0.1, 0.2, 1):
        standing.lost(Outcome.DROPPED, 1000, Full("audit: full"))
        await asyncio.sleep(seconds)
    standing.lost(Outcome.DROPPED, 2, Full("audit: full"))
    standing.lost(Outcome.CANCELLED, 3, Cancelled("audit: closed"))
    standing.close()

    assert [record.message for record in log.records] == [
        "audit: 1,000 messages dropped: audit: full",
        "audit: 2 messages dropped: audit: full (3,000 such messages left out)",
        "audit: 3 messages cancelled: audit: closed",
    ]


def test_closed_before_it_began() -> None:
    """Without a loop there is no time, and there need be none."""
    changes: list[State] = []
    standing = Standing("audit", lambda: changes.append(standing.state))
    standing.close()

    assert changes == [State.CLOSED]
