"""A producer with a plain client, message by message."""

import asyncio
from itertools import pairwise

import pytest

from producer_pool.delivery.jitter import jitter
from producer_pool.delivery.producer import Producer
from producer_pool.model.errors import (
    ConnectError,
    DeadlineExceeded,
    Rejected,
    SendError,
)
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Retry
from producer_pool.model.stats import State
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient, hang
from support.offers import offer, results

RELAY = DeliveryPolicy.relay()
ODD = [
    ValueError("odd"),
    SystemExit(3),
    asyncio.CancelledError("out of nowhere"),
    TimeoutError("its own"),
    BaseExceptionGroup("two", [SystemExit(1), ValueError("b")]),
]


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- the direct policy -----------------------------------------------------------------------------


@in_virtual_time
async def test_first_message() -> None:
    """It connects, is sent, and the connection stays."""
    client = FakeClient()
    async with Producer("audit", client) as producer:
        first, second = await producer.forward("one"), await producer.forward(b"two")

        assert (first.outcome, first.ack, first.attempts) == (Outcome.DELIVERED, Ack.WRITTEN, 1)
        assert second.ok
        assert client.messages == [b"one", b"two"]
        assert client.connects == 1

    assert client.closes == 1


@in_virtual_time
async def test_nobody_there() -> None:
    """The message fails with that, at once; so do others while the failure is young, without an attempt."""
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    policy = DeliveryPolicy(retry=Retry(attempts=1, backoff=30.0))
    async with Producer("audit", client, policy) as producer:
        first = await producer.forward("one")
        young = [await producer.forward("more") for _ in range(5)]

        assert first.error is client.unreachable
        assert {result.error for result in young} == {client.unreachable}
        assert client.connects == 1

        await asyncio.sleep(30)
        await producer.forward("later")

        assert client.connects == 2


@in_virtual_time
async def test_connecting_takes_too_long() -> None:
    """The message fails when its time is up and says what kept it; the next, with the attempt's error."""
    client = FakeClient(timeout=2.0)
    client.connect_faults = [hang, hang]
    async with Producer("audit", client) as producer:
        begin = seconds()
        result = await producer.forward("one")

        assert seconds() - begin == pytest.approx(2.0)
        assert isinstance(result.error, DeadlineExceeded)
        assert "it was not sent; the consumer is connecting" in str(result.error)

        await asyncio.sleep(0)
        result = await producer.forward("two")

        assert "connect took longer than 2s (timeout=)" in str(result.error)


@in_virtual_time
async def test_messages_wait_for_the_first_connection() -> None:
    """All that came while it connected goes out, in order."""
    client = FakeClient()
    client.connect_faults = [lambda: asyncio.sleep(3)]
    async with Producer("audit", client) as producer:
        pages = [offer(producer, b"%d" % number) for number in range(5)]
        for page in pages:
            await results(page)

        assert client.messages == [b"0", b"1", b"2", b"3", b"4"]


@in_virtual_time
async def test_send_fails() -> None:
    """That message fails, and the next one connects at once: one attempt each."""
    client = FakeClient()
    client.faults = [SendError("fake: reset")]
    async with Producer("audit", client) as producer:
        page = offer(producer, b"one", b"two", b"three")
        one, two, three = await results(page)

        assert (one.outcome, one.attempts) == (Outcome.FAILED, 1)
        assert isinstance(one.error, SendError)
        assert two.ok
        assert three.ok
        assert (two.attempts, three.attempts) == (1, 1)
        assert client.messages == [b"two", b"three"]
        assert client.connects == client.closes + 1 == 2
        assert producer.outbox.stats.resent == 0


@in_virtual_time
async def test_send_says_that_nobody_is_there() -> None:
    """A client that connects in send() is as unreachable as any other."""
    client = FakeClient()
    client.always = ConnectError("fake: refused")
    policy = DeliveryPolicy(retry=Retry(attempts=1, backoff=30.0))
    async with Producer("audit", client, policy) as producer:
        await results(offer(producer, b"one", b"two", b"three"))
        await results(offer(producer, b"four"))

        assert client.sends == 1
        assert producer.health().state is State.DOWN


@in_virtual_time
async def test_idle_connection_breaks() -> None:
    """The next message is sent on a new one, and knows nothing of it."""
    client = FakePipelinedClient()
    async with Producer("audit", client) as producer:
        await producer.forward("one")
        await asyncio.sleep(60)
        client.break_off()
        await asyncio.sleep(60)
        connects = client.connects
        result = await producer.forward("two")

        assert connects == 1
        assert result.ok
        assert client.given == [[b"one"], [b"two"]]


@in_virtual_time
async def test_connection_that_is_closed_as_soon_as_it_is_made() -> None:
    """That counts as a failed attempt: the message fails, and nothing does but connect all the time."""

    class Door(FakePipelinedClient):
        async def connect(self) -> None:
            await super().connect()
            self.room = 0
            asyncio.get_running_loop().call_soon(self.break_off)

    client = Door()
    async with Producer("audit", client) as producer:
        result = await producer.forward("one")

        assert isinstance(result.error, SendError)
        assert client.connects == 1


@in_virtual_time
async def test_rejected_message() -> None:
    """Only that one fails, the connection stays, and the others go on."""
    client = FakeClient()
    client.faults = [None, Rejected("no two"), None]
    async with Producer("audit", client) as producer:
        found = await results(offer(producer, b"one", b"two", b"three"))

        assert [result.ok for result in found] == [True, False, True]
        assert client.messages == [b"one", b"three"]
        assert client.connects == 1


@pytest.mark.parametrize("error", ODD, ids=repr)
@in_virtual_time
async def test_client_raises_what_it_should_not(error: BaseException) -> None:
    """In send(), connect() or aclose(): it is the end of a connection, and of nothing else."""
    client = FakeClient()
    client.connect_faults = [error]
    client.faults = [None, error]
    client.close_faults = [error, error, error]
    async with Producer("audit", client, DeliveryPolicy(retry=Retry(attempts=1, backoff=1e-6))) as producer:
        found = []
        for _ in range(4):
            found.append(await producer.forward("x"))
            await asyncio.sleep(1)

        assert [result.ok for result in found] == [False, True, False, True]
        assert isinstance(found[0].error, ConnectError)
        assert isinstance(found[2].error, SendError)
        assert found[0].error.__cause__ is found[2].error.__cause__ is error
        assert "took longer" not in str(found[2].error)


@in_virtual_time
async def test_send_takes_too_long() -> None:
    """The attempt ends with the timeout, and the connection is closed."""
    client = FakeClient(timeout=2.0)
    client.faults = [hang]
    async with Producer("audit", client, DeliveryPolicy(deadline=60, retry=Retry(attempts=1))) as producer:
        begin = seconds()
        result = await producer.forward("one")

        assert seconds() - begin == pytest.approx(2.0)
        assert "send took longer than 2s (timeout=)" in str(result.error)
        assert client.closes == 1


@in_virtual_time
async def test_expires_while_it_is_sent() -> None:
    """Its outcome stands, whatever send() says later; the others of its batch are not sent any more."""
    client = FakeClient(timeout=10)
    client.faults = [lambda: asyncio.sleep(5)]
    async with Producer("audit", client, DeliveryPolicy(deadline=2)) as producer:
        found = await results(offer(producer, b"one", b"two"))

        assert [result.outcome for result in found] == [Outcome.FAILED] * 2

        after = await producer.forward("three")

        assert not after.ok  # Its turn came too late, behind the one that takes its time.

        await asyncio.sleep(5)

        assert (await producer.forward("four")).ok
        assert client.messages == [b"one", b"four"]
        assert producer.outbox.stats.delivered == 1


# -- the relay policy ------------------------------------------------------------------------------


@in_virtual_time
async def test_down_for_a_day() -> None:
    """What came within the deadline is delivered in order, what is older has failed, and both say so."""
    client = FakeClient()
    client.unreachable = ConnectError("fake: refused")
    async with Producer("audit", client, RELAY) as producer:
        old = offer(producer, b"old")
        await asyncio.sleep(2 * 3600)
        young = [offer(producer, b"young %d" % number) for number in range(3)]
        await asyncio.sleep(23 * 3600)
        client.unreachable = None
        outcomes = [(await results(page))[0] for page in young]

        assert isinstance((await results(old))[0].error, DeadlineExceeded)
        assert "it was not sent; the consumer is down: fake: refused" in str((await results(old))[0].error)
        assert [result.attempts for result in outcomes] == [1, 1, 1]
        assert client.messages == [b"young 0", b"young 1", b"young 2"]
        assert 24 * 3600 / 30 < client.connects < 24 * 3600 / 10


@in_virtual_time
async def test_backoff() -> None:
    """Each wait is drawn from the whole range below a ceiling, which doubles up to 30 s."""
    jitter.set(lambda: 0.5)
    times = []

    class Refused(FakeClient):
        async def connect(self) -> None:
            times.append(seconds())
            raise ConnectError("fake: refused")

    async with Producer("audit", Refused(), RELAY) as producer:
        producer.start()
        await asyncio.sleep(120)
    waits = [later - earlier for earlier, later in pairwise(times)]

    assert waits[:9] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])
    assert set(map(round, waits[9:])) == {15}


@in_virtual_time
async def test_backoff_after_a_stable_time() -> None:
    """A connection that lasted makes it start anew; one that did not, does not."""
    jitter.set(lambda: 0.999999)
    client = FakePipelinedClient()
    client.connect_faults = [ConnectError("fake: refused")] * 8
    async with Producer("audit", client, RELAY) as producer:
        producer.start()
        await asyncio.sleep(60)
        client.break_off()
        await asyncio.sleep(0.01)
        steady = producer.health()
        await asyncio.sleep(0.2)
        client.break_off()
        await asyncio.sleep(0.01)
        shaky = producer.health()

        assert steady.next_retry is not None
        assert shaky.next_retry is not None
        assert steady.next_retry - steady.since == pytest.approx(0.1, rel=0.01)
        assert shaky.next_retry - shaky.since == pytest.approx(0.2, rel=0.01)


@in_virtual_time
async def test_sent_again() -> None:
    """What broke off is sent on the next connection before anything newer, and its attempts say so."""
    client = FakeClient()
    client.faults = [None, SendError("fake: reset")]
    async with Producer("audit", client, RELAY) as producer:
        first = offer(producer, b"a", b"b", b"c")
        second = offer(producer, b"d")
        attempts = [result.attempts for page in (first, second) for result in await results(page)]

        assert client.messages == [b"a", b"b", b"c", b"d"]
        assert attempts == [1, 2, 1, 1]
        assert producer.outbox.stats.resent == 1


@in_virtual_time
async def test_message_that_breaks_each_connection() -> None:
    """It has its attempts, and then the good ones behind it get theirs."""
    client = FakeClient()
    client.faults = [SendError("fake: reset")] * 3 + [
        None,
        SendError("fake: reset"),
        SendError("fake: reset"),
    ]
    policy = DeliveryPolicy(deadline=3600, retry=Retry(attempts=3))
    async with Producer("audit", client, policy) as producer:
        found = await results(offer(producer, b"poison", b"good", b"unlucky"))

        assert [(result.outcome.value, result.attempts) for result in found] == [
            ("failed", 3),
            ("delivered", 1),
            ("delivered", 3),
        ]


@in_virtual_time
async def test_unreachable_for_longer_than_the_attempts() -> None:
    """A consumer that is not there uses up none."""
    client = FakeClient()
    client.always = ConnectError("fake: refused")
    async with Producer("audit", client, DeliveryPolicy(deadline=3600, retry=Retry(attempts=2))) as producer:
        page = offer(producer, b"a")
        await asyncio.sleep(300)
        client.always = None

        assert [(result.ok, result.attempts) for result in await results(page)] == [(True, 1)]
