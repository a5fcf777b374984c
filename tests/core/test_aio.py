"""The pool for asyncio programs: messages, what becomes of them, who watches."""

import asyncio
from typing import Any, cast

import pytest

from producer_pool.aio import AsyncProducerPool
from producer_pool.contract.wiring import Wiring
from producer_pool.delivery.engine import Engine
from producer_pool.model.batch import Batch
from producer_pool.model.errors import (
    ConfigurationError,
    ConnectError,
    Full,
    UnknownProducer,
    UsageError,
)
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow
from producer_pool.model.stats import Health, State
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakeClient, FakePipelinedClient, hang
from support.pools import pool_of

KiB = 1024
RELAY = DeliveryPolicy.relay()
BLOCKS = DeliveryPolicy(buffer=2 * KiB, overflow=Overflow.BLOCK, deadline=30)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- forwarding ------------------------------------------------------------------------------------


@in_virtual_time
async def test_forward_to_all() -> None:
    """Everybody gets it, and the results are in the order of adding."""
    b, a = FakeClient(), FakePipelinedClient()
    async with pool_of(b=b, a=a) as pool:
        results = await pool.forward_to_all("héllo")

        assert list(results) == ["b", "a"] == list(pool.producers)
        assert results.ok
        assert a.messages == b.messages == ["héllo".encode()]


@in_virtual_time
async def test_forward_to_one_and_to_several() -> None:
    """Nobody else gets it."""
    a, b, c = FakeClient(), FakeClient(), FakeClient()
    async with pool_of(a=a, b=b, c=c) as pool:
        one = await pool.forward_to("b", b"1")
        several = await pool.forward_to_many(iter(["c", "a"]), b"2")

        assert one.producer_id == "b"
        assert list(several) == ["c", "a"]
        assert [client.messages for client in (a, b, c)] == [[b"2"], [b"1"], [b"2"]]


@in_virtual_time
async def test_failed_delivery() -> None:
    """It is in the results, and never raised."""
    bad = FakeClient()
    bad.unreachable = ConnectError("fake: refused")
    async with pool_of(good=FakeClient(), bad=bad) as pool:
        results = await pool.forward_to_all("x")

        assert results["good"].ok
        assert results["bad"].error is bad.unreachable
        assert list(results.failed) == ["bad"]


@in_virtual_time
async def test_unknown_producer() -> None:
    """It is an error that names those that there are, before anything is sent."""
    client = FakeClient()
    async with pool_of(a=client) as pool:
        with pytest.raises(UnknownProducer, match="'x' in the pool; known: a; nothing was sent"):
            await pool.forward_to_many(["a", "x"], "m")
        with pytest.raises(UnknownProducer):
            await pool.forward_to("x", "m")
        with pytest.raises(UnknownProducer):
            pool.submit_nowait("m", to="x")

        assert client.sends == 0


@in_virtual_time
async def test_one_where_several_are_expected() -> None:
    """A text is no collection of ids, nor of messages: its letters are not what was meant."""
    client = FakeClient()
    async with pool_of(a=client) as pool:
        with pytest.raises(UsageError, match=r"got the text 'a'; use forward_to\(\)"):
            await pool.forward_to_many("a", "m")
        with pytest.raises(UsageError, match=r"got one str; use submit\(\)"):
            await pool.submit_many("abc")

        assert client.sends == 0


@in_virtual_time
async def test_several_where_one_is_expected() -> None:
    """They are refused, and nothing is sent to any."""
    client = FakeClient()
    several = cast(Any, ["a"])
    async with pool_of(a=client) as pool:
        with pytest.raises(
            UsageError, match=r"expected one id, got the list \['a'\]; use forward_to_many\(\)"
        ):
            await pool.forward_to(several, "m")
        with pytest.raises(UnknownProducer, match="no producer None in the pool; known: a; nothing was sent"):
            await pool.forward_to(cast(Any, None), "m")

        assert await pool.drain()
        assert client.sends == 0


@in_virtual_time
async def test_unknown_producer_to_remove() -> None:
    """The error names those that there are, and speaks of no message."""
    async with pool_of(a=FakeClient()) as pool:
        with pytest.raises(UnknownProducer, match=r"^no producer 'nope' in the pool; known: a$"):
            await pool.remove_producer("nope")


@in_virtual_time
async def test_policy_that_is_none() -> None:
    """It is refused where it is given, and not when it is first needed."""
    wrong = cast(Any, "relay")
    with pytest.raises(ConfigurationError, match="not 'relay'"):
        AsyncProducerPool(policy=wrong)
    with pytest.raises(ConfigurationError, match="limits is a Limits"):
        AsyncProducerPool(limits=wrong)
    async with pool_of() as pool:
        for to in ("memory:x", FakeClient()):
            with pytest.raises(ConfigurationError, match="not 'relay'"):
                await pool.add_producer("a", to, policy=wrong)

        assert pool.producers == ()


@in_virtual_time
async def test_no_producers(caplog: pytest.LogCaptureFixture) -> None:
    """The results are empty, and it is said once."""
    async with pool_of() as pool:
        results = [await pool.forward_to_all("x") for _ in range(3)]

        assert [len(each) for each in results] == [0, 0, 0]
        assert caplog.text.count("went nowhere") == 1


@pytest.mark.parametrize("message", [7, None, ["x"]])
@in_virtual_time
async def test_no_message(message: Any) -> None:
    """It is an error of the caller's."""
    async with pool_of(a=FakeClient()) as pool:
        with pytest.raises(TypeError, match="a message is bytes or str"):
            await pool.submit(message)


@in_virtual_time
async def test_forward_with_too_short_a_wait() -> None:
    """The result is PENDING, and the message goes on."""
    client = FakeClient()
    client.faults = [lambda: asyncio.sleep(5)]
    async with pool_of(a=client) as pool:
        result = await pool.forward_to("a", "x", wait=1)
        receipt = await pool.submit("y")
        at_once = await receipt.results(wait=0)
        later = await receipt.results()

        assert result.outcome is at_once["a"].outcome is Outcome.PENDING
        assert later["a"].ok
        assert receipt.done
        assert client.messages == [b"x", b"y"]
        assert "delivered" in repr(receipt)


@in_virtual_time
async def test_forward_that_is_cancelled() -> None:
    """The message goes on."""
    client = FakeClient()
    client.faults = [lambda: asyncio.sleep(5)]
    async with pool_of(a=client) as pool:
        task = asyncio.create_task(pool.forward_to("a", "x"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        await pool.drain()

        assert client.messages == [b"x"]


@in_virtual_time
async def test_order_of_submits_and_removals() -> None:
    """What was submitted before a producer was removed goes to it, and what came after does not."""
    stays, goes, comes = FakeClient(), FakeClient(), FakeClient()
    async with pool_of(stays=stays, goes=goes) as pool:
        pool.submit_nowait("1")
        removing = asyncio.create_task(pool.remove_producer("goes"))
        await asyncio.sleep(0)
        pool.submit_nowait("2")
        await pool.add_producer("comes", comes)
        pool.submit_nowait("3")
        await removing
        await pool.drain()

        assert stays.messages == [b"1", b"2", b"3"]
        assert goes.messages == [b"1"]
        assert comes.messages == [b"3"]


@in_virtual_time
async def test_submit_many() -> None:
    """A receipt for each, and in order."""
    client = FakePipelinedClient()
    async with pool_of(a=client) as pool:
        receipts = await pool.submit_many([b"%d" % number for number in range(1000)])
        results = [await receipt.results() for receipt in receipts]

        assert all(each.ok for each in results)
        assert client.messages == [b"%d" % number for number in range(1000)]


@in_virtual_time
async def test_caller_that_never_waits() -> None:
    """It does not pile up more than the log holds: what is full refuses in time."""
    client = FakeClient()
    client.connect_faults = [hang]
    pool = AsyncProducerPool(policy=DeliveryPolicy(buffer=64 * KiB, overflow=Overflow.BLOCK, deadline=60))
    await pool.add_producer("a", client)

    def submit_for_ever() -> None:
        for _ in range(50_000):
            pool.submit_nowait(b"x" * KiB)

    with pytest.raises(Full, match="a: no room"):
        submit_for_ever()
    await pool.aclose(drain=0)


@in_virtual_time
async def test_loop_of_submits_that_never_yields() -> None:
    """submit() does so itself when much is on its way."""
    client = FakePipelinedClient()
    async with pool_of(a=client) as pool:
        await pool.check()
        for _ in range(20_000):
            await pool.submit(b"x" * KiB)

        assert len(client.messages) > 5_000


# -- asking ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_stats_health_and_check() -> None:
    """They are about what was submitted before, and can be asked for when the pool is closed."""
    down = FakeClient()
    down.unreachable = ConnectError("fake: refused")
    async with pool_of(up=FakeClient(), down=down) as pool:
        pool.submit_nowait("x")
        accepted = {name: each.accepted for name, each in (await pool.stats()).producers.items()}
        await pool.drain()
        checked = await pool.check(wait=1)

        assert accepted == {"up": 1, "down": 1}
        assert {name: health.state for name, health in checked.items()} == {
            "up": State.UP,
            "down": State.DOWN,
        }

    assert (await pool.stats()).producers["up"].delivered == 1
    assert (await pool.health())["up"].state is State.CLOSED


@in_virtual_time
async def test_drain() -> None:
    """It says whether everything submitted before is settled."""
    client = FakeClient()
    client.faults = [lambda: asyncio.sleep(5)]
    async with pool_of(a=client) as pool:
        pool.submit_nowait("x")

        assert not await pool.drain(wait=1)
        assert await pool.drain()


# -- plugins ---------------------------------------------------------------------------------------


class Watching(Wiring):
    """Wiring plugins that write down what they are told, and call back in."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def observers(self, pool: Any) -> list[Any]:
        return [self]

    def started(self, pool: Any) -> None:
        self.told.append("started")

    def stopping(self, pool: Any, deadline: float) -> None:
        self.told.append(f"stopping within {deadline:g}")

    def state_changed(self, health: Health) -> None:
        self.told.append(f"{health.producer_id} {health.state.value}")

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.told.append(f"{producer_id} {outcome.value} {count}")


class OnlyWiring:
    """As much of a factory as a pool without URLs asks for."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def wiring(self) -> Wiring:
        return self._wiring


@in_virtual_time
async def test_plugins_that_watch() -> None:
    """They are told from the start to the end, in order."""
    watching = Watching()
    async with AsyncProducerPool(factory=cast(Any, OnlyWiring(watching))) as pool:
        await pool.add_producer("a", FakeClient())
        await pool.forward_to_all("x")

    assert watching.told == [
        "started",
        "a connecting",
        "a up",
        "a delivered 1",
        "stopping within 10",
        "a closed",
    ]


@in_virtual_time
async def test_batch_from_a_listener() -> None:
    """The intake takes batches beside what is submitted."""
    client = FakePipelinedClient()
    async with pool_of(a=client) as pool:
        await pool.check()
        pool.intake.feed(Batch.of([b"1", b"2"]))
        receipt = pool.intake.accept(Batch.of([b"3"]))
        await asyncio.sleep(0)

        assert isinstance(pool.intake, Engine)
        assert receipt.delivered
        assert client.messages == [b"1", b"2", b"3"]


@in_virtual_time
async def test_environment_that_names_a_producer_twice_over() -> None:
    """The producers that were made before the fault was found are closed."""
    with pytest.raises(ConfigurationError):
        await AsyncProducerPool.from_env(
            {"PRODUCER_A": "null:", "PRODUCER_B": "tcp://127.0.0.1:1?nonsense=1"}
        )
