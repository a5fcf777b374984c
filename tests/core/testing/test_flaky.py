"""Flaky clients do what their script says, and remember it; a pool's results tell the same story."""

import asyncio
import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from producer_pool import (
    Ack,
    AsyncProducerPool,
    ConnectError,
    DeliveryPolicy,
    ForwardResult,
    Outcome,
    Overflow,
    ProducerPool,
    Rejected,
    Retry,
    SendError,
    UsageError,
)
from producer_pool.testing import (
    Away,
    Deliver,
    Die,
    Fail,
    FlakyClient,
    FlakyEvent,
    FlakyPipelinedClient,
    HalfOpen,
    Hang,
    Refuse,
    Reject,
    Slow,
    Step,
    in_virtual_time,
    run_in_virtual_time,
)

Flaky = type[FlakyClient] | type[FlakyPipelinedClient]

RELAY = DeliveryPolicy.relay()
DIRECT = DeliveryPolicy.direct()
PATIENT = DeliveryPolicy(deadline=60.0, retry=Retry(attempts=1))
BOTH = (FlakyClient, FlakyPipelinedClient)

both = pytest.mark.parametrize("kind", BOTH)


async def told(
    client: FlakyClient | FlakyPipelinedClient, count: int = 1, policy: DeliveryPolicy = DIRECT
) -> list[ForwardResult]:
    """Forward the messages 0, 1, ... one after the other, and return their results."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", client, policy=policy)
        return [await pool.forward_to("audit", b"%d" % number) for number in range(count)]


def outcomes(results: Iterable[ForwardResult]) -> str:
    """Return a sign for each: + delivered, - failed, 0 dropped."""
    signs = {Outcome.DELIVERED: "+", Outcome.FAILED: "-", Outcome.DROPPED: "0"}
    return "".join(signs[result.outcome] for result in results)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- messages --------------------------------------------------------------------------------------


@both
@in_virtual_time
async def test_no_script(kind: Flaky) -> None:
    """The control of all others: everything arrives, over one connection."""
    client = kind()
    results = await told(client, 20)

    assert outcomes(results) == "+" * 20
    assert client.messages == client.attempted == tuple(b"%d" % number for number in range(20))
    assert client.connects == 1


@both
@in_virtual_time
async def test_slow(kind: Flaky) -> None:
    """Each message takes its time, and the next one waits for it."""
    client = kind([Slow(0.2, 5)])
    began = seconds()
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", client)
        receipts = await pool.submit_many([b"x"] * 6)
        [await receipt.results() for receipt in receipts]

        assert seconds() - began == pytest.approx(1.0)
    arrived = [event.at - began for event in client.history if event.what == "arrived"]
    assert arrived == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@both
@in_virtual_time
async def test_too_slow(kind: Flaky) -> None:
    """What takes longer than the timeout has not arrived, and never does."""
    client = kind([Slow(11.0)], timeout=10.0)
    (result,) = await told(client, policy=PATIENT)
    await asyncio.sleep(60)

    assert isinstance(result.error, SendError)
    assert client.messages == ()


@both
@in_virtual_time
async def test_reject(kind: Flaky) -> None:
    """It is for this message alone: those behind it arrive, over the same connection, tried once."""
    why = Rejected("no jokes")
    client = kind([Deliver(), Reject(), Reject(error=why)])
    results = await told(client, 4, RELAY)

    assert outcomes(results) == "+--+"
    assert isinstance(results[1].error, Rejected)
    assert results[2].error is why
    assert client.messages == (b"0", b"3")
    assert client.connects == 1


@both
@pytest.mark.parametrize("arrives", [False, True])
@in_virtual_time
async def test_fail(kind: Flaky, arrives: bool) -> None:
    """The message may have arrived, and the next one finds a new connection."""
    client = kind([Deliver(), Fail(arrives=arrives)])
    results = await told(client, 3)

    assert outcomes(results) == "+-+"
    assert isinstance(results[1].error, SendError)
    assert client.messages == ((b"0", b"1", b"2") if arrives else (b"0", b"2"))
    assert client.connects == 2


@both
@pytest.mark.parametrize("arrives", [False, True])
@in_virtual_time
async def test_fail_and_retry(kind: Flaky, arrives: bool) -> None:
    """A retry doubles what had arrived, and only that."""
    client = kind([Fail(2, arrives=arrives)])
    (result,) = await told(client, policy=RELAY)

    assert (result.outcome, result.attempts) == (Outcome.DELIVERED, 3)
    assert client.messages == (b"0",) * (3 if arrives else 1)
    assert client.attempted == (b"0",) * 3


@both
@in_virtual_time
async def test_fail_with_something_odd(kind: Flaky) -> None:
    """A library's own exception counts as a failure to send, and is its cause."""
    odd = LookupError("odd")
    (result,) = await told(kind([Fail(error=odd)]))

    assert isinstance(result.error, SendError)
    assert "LookupError: odd" in str(result.error)
    assert result.error.__cause__ is odd


@both
@in_virtual_time
async def test_raising_the_same_error_often(kind: Flaky) -> None:
    """Its traceback does not grow."""
    error = SendError("mine")
    results = await told(kind([Fail(50, error=error)]), 50)

    assert {id(result.error) for result in results} == {id(error)}
    depth = 0
    trace = error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    assert depth < 10


# -- half-open connections -------------------------------------------------------------------------


@pytest.mark.parametrize("arrives", [False, True])
@in_virtual_time
async def test_half_open(arrives: bool) -> None:
    """send() does not return; when the time is up, the message is sent again over a new connection."""
    client = FlakyClient([Deliver(), HalfOpen(arrives=arrives)], timeout=10.0)
    began = seconds()
    results = await told(client, 2, RELAY)

    assert outcomes(results) == "++"
    assert 10 <= seconds() - began < 11
    assert client.messages == (b"0", b"1", b"1")[: 3 if arrives else 2]
    assert client.connects == 2


@pytest.mark.parametrize("ack", [Ack.WRITTEN, Ack.KERNEL])
@in_virtual_time
async def test_half_open_with_many_on_their_way(ack: Ack) -> None:
    """Who asks for WRITTEN loses what was sent in good faith; who asks for KERNEL gets it sent again."""
    client = FlakyPipelinedClient([Deliver(), HalfOpen()], timeout=10.0)
    policy = DeliveryPolicy(ack=ack, deadline=60.0)
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", client, policy=policy)
        receipts = [await pool.submit(b"%d" % number) for number in range(3)]
        results = [(await receipt.results())["audit"] for receipt in receipts]
        receipts = [await pool.submit(b"%d" % number) for number in range(3, 6)]
        results += [(await receipt.results())["audit"] for receipt in receipts]
        await asyncio.sleep(30)

    assert outcomes(results) == "++++++"
    assert {result.ack for result in results} == {ack}
    if ack is Ack.WRITTEN:
        assert client.messages == (b"0",)
        assert client.connects == 1
    else:
        assert client.messages == (b"0", b"1", b"2", b"3", b"4", b"5")
        assert [result.attempts for result in results] == [1, 2, 2, 1, 1, 1]
        assert client.connects == 2


@in_virtual_time
async def test_half_open_that_arrives() -> None:
    """If only the confirmations are lost, what is sent again arrives twice, in order both times."""
    client = FlakyPipelinedClient([HalfOpen(arrives=True)])
    async with AsyncProducerPool(policy=DeliveryPolicy(ack=Ack.KERNEL, deadline=60.0)) as pool:
        await pool.add_producer("audit", client)
        [await receipt.results() for receipt in await pool.submit_many([b"1", b"2"])]

    assert client.messages == (b"1", b"2", b"1", b"2")


# -- connections -----------------------------------------------------------------------------------


@both
@in_virtual_time
async def test_refuse(kind: Flaky) -> None:
    """A direct producer fails at once; nothing was handed over, and nothing arrives later."""
    client = kind([Refuse(2)])
    async with AsyncProducerPool() as pool:
        await pool.add_producer("audit", client)
        results = []
        for number in range(3):
            results.append(await pool.forward_to("audit", b"%d" % number))
            await asyncio.sleep(60)

    assert outcomes(results) == "--+"
    assert isinstance(results[0].error, ConnectError)
    assert client.attempted == client.messages == (b"2",)
    assert client.connects == 3


@both
@in_virtual_time
async def test_refuse_with_retries(kind: Flaky) -> None:
    """A relaying producer waits until it is let in; a refusal uses up no attempt."""
    client = kind([Refuse(2), Refuse(error=OSError("no such place"))])
    (result,) = await told(client, policy=RELAY)

    assert (result.outcome, result.attempts) == (Outcome.DELIVERED, 1)
    assert [event.what for event in client.history] == [
        "refused", "refused", "refused", "connected", "arrived", "closed",
    ]  # fmt: skip


@both
@in_virtual_time
async def test_hang(kind: Flaky) -> None:
    """connect() does not return, and the time of one attempt ends it."""
    client = kind([Hang()], timeout=7.0)
    began = seconds()
    (result,) = await told(client, policy=PATIENT)

    assert isinstance(result.error, ConnectError)
    assert seconds() - began == pytest.approx(7.0)
    assert client.history == [FlakyEvent(began, "hung")]


@both
@in_virtual_time
async def test_away(kind: Flaky) -> None:
    """A consumer that is away for a minute: the message that notices is sent again, and nothing is lost."""
    client = kind([Deliver(), Away(60.0)])
    began = seconds()
    results = await told(client, 3, RELAY)

    assert outcomes(results) == "+++"
    assert client.messages == (b"0", b"1", b"2")
    lost = [event for event in client.history if event.what == "lost"]
    assert [event.message for event in lost] == [b"1"]
    (_, back) = [event.at for event in client.history if event.what == "connected"]
    assert 60 <= back - began <= 60 + RELAY.retry.max_backoff


@both
@in_virtual_time
async def test_die(kind: Flaky) -> None:
    """Ten arrive; after that, none does."""
    client = kind([Deliver(10), Die()])
    results = await told(client, 15)

    assert outcomes(results) == "+" * 10 + "-" * 5
    assert len(client.messages) == 10
    assert isinstance(results[10].error, SendError)
    assert all(isinstance(result.error, ConnectError) for result in results[11:])


@both
@in_virtual_time
async def test_what_is_on_its_way_to_a_dying_consumer(kind: Flaky) -> None:
    """What arrived is delivered; what was on its way is sent again, in order, and none is lost or doubled."""
    client = kind([Deliver(3), Fail(), Deliver(2), Away(5), Deliver(), Fail()])
    async with AsyncProducerPool(policy=RELAY) as pool:
        await pool.add_producer("audit", client)
        receipts = await pool.submit_many([b"%d" % number for number in range(10)])
        results = [(await receipt.results())["audit"] for receipt in receipts]

    assert outcomes(results) == "+" * 10
    assert client.messages == tuple(b"%d" % number for number in range(10))
    assert client.connects > 3


# -- the script ------------------------------------------------------------------------------------


@both
@in_virtual_time
async def test_endless_script(kind: Flaky) -> None:
    """A consumer that fails every third message, for as long as the test likes."""
    results = await told(kind(itertools.cycle([Deliver(2), Fail()])), 9)

    assert outcomes(results) == "++-" * 3


def test_mistake_in_a_script() -> None:
    """It is found when the client is made."""
    with pytest.raises(UsageError, match="a script is made of steps"):
        FlakyClient(["refuse"])  # type: ignore[list-item]


@both
async def test_client_alone(kind: Flaky) -> None:
    """Without a pool, what its consumer does is raised."""
    async with kind([Deliver(), Reject(), Fail()], address="flaky:mine") as client:
        await client.send(b"one")
        with pytest.raises(Rejected, match="flaky:mine: the consumer refuses this message"):
            await client.send(b"two")
        with pytest.raises(SendError, match="flaky:mine: connection reset"):
            await client.send(b"three")
    with pytest.raises(ConnectError, match="flaky:mine: connection refused"):
        async with kind([Refuse()], address="flaky:mine"):
            raise AssertionError("connected")

    assert client.messages == (b"one",)


async def test_calls_in_the_wrong_order() -> None:
    """They are mistakes of whoever drives it, and say so."""
    client = FlakyClient()
    with pytest.raises(UsageError, match="not connected"):
        await client.send(b"one")
    await client.connect()
    with pytest.raises(UsageError, match="connected twice"):
        await client.connect()
    await client.aclose()
    await client.aclose()

    assert client.attempted == ()
    assert [event.what for event in client.history] == ["connected", "closed"]


@both
@pytest.mark.parametrize("ack", [Ack.WRITTEN, Ack.KERNEL])
def test_level(kind: Flaky, ack: Ack) -> None:
    """It is the one that was asked for; a plain client has the one that it was given."""
    client = FlakyClient(ack=ack) if kind is FlakyClient else FlakyPipelinedClient()
    (result,) = run_in_virtual_time(lambda: told(client, policy=DeliveryPolicy(ack=ack)))

    assert result.ack is ack


# -- bounds ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_buffer_of_what_is_on_its_way() -> None:
    """It takes no batch more once so many bytes are on their way; those that wait can give way."""
    messages = [b"%02d" % number + b"x" * 98 for number in range(40)]
    client = FlakyPipelinedClient([HalfOpen()], buffer=1000, timeout=100.0)
    policy = DeliveryPolicy(
        buffer=20 * (100 + 512), overflow=Overflow.DROP_OLDEST, ack=Ack.KERNEL, deadline=1000.0
    )
    async with AsyncProducerPool(policy=policy) as pool:
        await pool.add_producer("audit", client)
        receipts = []
        for message in messages:
            receipts.append(await pool.submit(message))
            await asyncio.sleep(0.01)
        taken = len(client.attempted)
        results = [(await receipt.results())["audit"] for receipt in receipts]

    assert taken == 10
    assert outcomes(results) == "+" * 10 + "0" * 20 + "+" * 10
    assert client.messages == tuple(
        message for message, result in zip(messages, results, strict=True) if result.ok
    )


# -- threads, and the same again -------------------------------------------------------------------


@both
def test_pool_for_threads(kind: Flaky) -> None:
    """Several threads submit to a pool on its own thread; what arrived agrees with the receipts."""
    client = kind([Deliver(20), Fail(3), Reject(2), Deliver(5), Refuse(2), Slow(0.001, 10)])
    policy = DeliveryPolicy(deadline=math.inf, retry=Retry(backoff=0.001, max_backoff=0.002))
    with ProducerPool(policy=policy) as pool:
        pool.add_producer("audit", client)

        def work(name: int) -> list[tuple[bytes, ForwardResult]]:
            messages = [b"%d/%d" % (name, number) for number in range(25)]
            return [(message, pool.forward_to("audit", message)) for message in messages]

        with ThreadPoolExecutor(4) as threads:
            results = list(itertools.chain.from_iterable(threads.map(work, range(4))))

    assert outcomes(result for _, result in results).count("-") == 2
    delivered = [message for message, result in results if result.ok]
    assert sorted(client.messages) == sorted(delivered)
    assert {message for message, result in results if not result.ok} == {
        event.message for event in client.history if event.what == "rejected"
    }


@both
def test_same_seed_same_run(kind: Flaky) -> None:
    """A minute of trouble happens at the same times again with the same seed, and at others with another."""

    def run(seed: int) -> list[FlakyEvent]:
        script: list[Step] = [
            Deliver(2),
            Away(60),
            Deliver(2),
            Fail(2, arrives=True),
            Slow(0.3, 2),
            HalfOpen(),
        ]
        client = kind(script)
        run_in_virtual_time(lambda: told(client, 10, RELAY), seed=seed)
        return client.history

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert first[-1].at - first[0].at > 60
