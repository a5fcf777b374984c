"""Pools with a spool: what is stored outlives them, and receipts say what is."""

import asyncio
from pathlib import Path

import pytest

from producer_pool import (
    AsyncProducerPool,
    DeliveryPolicy,
    DuplicateProducer,
    Full,
    Limits,
    Outcome,
    ProducerPool,
    Spool,
    StorageError,
)
from producer_pool.testing import in_virtual_time
from support.engines import check_books
from support.fake_clients import FakeClient, FakePipelinedClient
from support.lives import StoringPool
from support.patience import end_patiently
from support.storing import FakeStore, numbered
from support.waiting import BOUND, eventually

pytestmark = pytest.mark.usefixtures("patient")

RELAY = DeliveryPolicy.relay()
SMALL = Limits(buffer=100_000, drain=BOUND)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    end_patiently(monkeypatch)


def dead() -> FakeClient:
    client = FakeClient()
    client.unreachable = ConnectionRefusedError("fake: refused")
    return client


def test_messages_outlive_the_pool(tmp_path: Path) -> None:
    """What one pool could not deliver, the next one does, in order, and before anything new."""
    with ProducerPool(spool=tmp_path / "spool", policy=RELAY) as pool:
        pool.add_producer("a", dead())
        receipts = pool.submit_many(numbered(100))

        assert receipts[-1].wait_stored(BOUND) is True
        assert all(receipt.stored for receipt in receipts)

        pool.close(drain=0)
        result = receipts[50].results()["a"]

        assert result.outcome is Outcome.CANCELLED
        assert "it is stored, and goes out at the next start" in str(result.error)
        assert pool.stats().producers["a"].left_stored == 100

    client = FakeClient()
    with ProducerPool(spool=tmp_path / "spool", policy=RELAY) as pool:
        pool.add_producer("a", client)
        result = pool.forward_to("a", "new", wait=BOUND)

        assert result.ok
        assert client.messages == [*numbered(100), b"new"]
        assert pool.stats().producers["a"].accepted == 101


def test_nothing_is_sent_twice_after_an_orderly_end(tmp_path: Path) -> None:
    """What was delivered lies behind the cursor."""
    client = FakePipelinedClient()
    for first in (0, 50, 100):
        with ProducerPool(spool=str(tmp_path), policy=RELAY) as pool:
            pool.add_producer("a", client)
            pool.submit_many(numbered(50, first))
            assert pool.drain(wait=BOUND)

    assert client.messages == numbered(150)


@pytest.mark.parametrize("sync", [0.0, 0.05, float("inf")])
def test_backlog_larger_than_memory(tmp_path: Path, sync: float) -> None:
    """It lies on the disk, and comes back in order; what is in memory stays within the pool's buffer."""
    client = dead()
    messages = [message * 100 for message in numbered(2000)]
    with ProducerPool(spool=Spool(tmp_path, sync=sync), policy=RELAY, limits=SMALL) as pool:
        pool.add_producer("a", client)
        receipts = []
        for start in range(0, 2000, 50):
            receipts += pool.submit_many(messages[start : start + 50])
            assert receipts[-1].wait_stored(BOUND)
        stats = pool.stats()
        check_books(stats)

        assert stats.producers["a"].pending == 2000
        assert stats.producers["a"].spooled > 1700
        assert stats.buffered_bytes <= SMALL.buffer

        client.unreachable = None
        pool.check(wait=BOUND)

        assert pool.drain(wait=BOUND)
        assert client.messages == messages
        assert receipts[-1].results()["a"].ok


def test_removed_producer_leaves_nothing_behind(tmp_path: Path) -> None:
    """Another one of its id gets what comes from then on."""
    client = FakeClient()
    with ProducerPool(spool=tmp_path, policy=RELAY) as pool:
        pool.add_producer("a", dead())
        receipt = pool.submit("for the first")
        receipt.wait_stored(BOUND)
        pool.remove_producer("a", drain=False)
        pool.add_producer("a", client)
        pool.forward_to("a", "for the second", wait=BOUND)

        assert receipt.results()["a"].outcome is Outcome.CANCELLED
        assert client.messages == [b"for the second"]


def test_spool_in_use(tmp_path: Path) -> None:
    """Who makes the pool work is told, each time; the one that has the spool goes on."""
    with ProducerPool(spool=tmp_path, policy=RELAY) as first:
        first.add_producer("a", FakeClient())
        second = ProducerPool(spool=tmp_path)
        for _ in range(2):
            with pytest.raises(StorageError, match="in use"):
                second.add_producer("a", FakeClient())
        second.close()

        assert second.closed
        assert first.forward_to("a", "x", wait=BOUND).ok


def test_spool_that_is_no_folder(tmp_path: Path) -> None:
    """The error names the path, and comes before anything is accepted."""
    (tmp_path / "file").write_text("")
    pool = ProducerPool(spool=tmp_path / "file")

    with pytest.raises(StorageError, match="file"):
        pool.add_producer("a", FakeClient())


def test_pool_without_a_spool() -> None:
    """There is nothing to wait for: whether a message is stored is no question."""
    with ProducerPool() as pool:
        pool.add_producer("a", FakeClient())
        receipt = pool.submit("x")

        assert receipt.stored is None
        assert receipt.wait_stored() is None


def test_message_to_nobody(tmp_path: Path) -> None:
    """Nothing of it is missing on the disk, and so nobody waits for ever."""
    with ProducerPool(spool=tmp_path) as pool:
        pool.add_producer("a", FakeClient())
        receipt = pool.submit("x", to=())

        assert receipt.wait_stored() is True


def test_wait_that_is_over(tmp_path: Path) -> None:
    """With no time to wait, it says what is known by now."""
    with ProducerPool(spool=tmp_path, policy=RELAY, limits=Limits(drain=0)) as pool:
        pool.add_producer("a", dead())
        receipt = pool.submit("x")

        assert receipt.wait_stored(0) in (False, True)
        assert eventually(lambda: receipt.stored, "the message is stored")


def test_from_the_environment(tmp_path: Path) -> None:
    """A variable names the folder."""
    environ = {"PRODUCER_A": "null:", "PRODUCER_POOL_SPOOL": str(tmp_path / "spool")}
    with ProducerPool.from_env(environ) as pool:
        assert pool.submit("x").wait_stored(BOUND) is True

    assert (tmp_path / "spool").is_dir()


async def test_asyncio(tmp_path: Path) -> None:
    """The same, awaited."""
    async with AsyncProducerPool(spool=tmp_path, policy=RELAY) as pool:
        await pool.add_producer("a", dead())
        receipt = await pool.submit("one")

        assert await receipt.wait_stored(BOUND) is True

        await pool.aclose(drain=0)

    client = FakeClient()
    async with AsyncProducerPool(spool=tmp_path, policy=RELAY) as pool:
        await pool.add_producer("a", client)
        assert await pool.drain(wait=BOUND)
        other = AsyncProducerPool(spool=tmp_path)
        with pytest.raises(StorageError, match="in use"):
            await other.add_producer("a", FakeClient())
        with pytest.raises(StorageError, match="in use"):
            other.submit_nowait("x")
        await other.aclose()

    assert client.messages == [b"one"]


async def test_asyncio_from_the_environment(tmp_path: Path) -> None:
    """A variable names the folder."""
    environ = {"PRODUCER_A": "null:", "PRODUCER_POOL_SPOOL": str(tmp_path / "spool")}
    pool = await AsyncProducerPool.from_env(environ)
    async with pool:
        receipt = await pool.submit("x")
        results = await receipt.results(BOUND)

        assert results.ok
        assert receipt.stored


@in_virtual_time
async def test_submit_waits_for_a_slow_disk() -> None:
    """Until it has caught up; whoever does not want to wait is told that it is the spool."""
    pool = StoringPool(FakeStore(latency=5.0, crowd=2_000), Limits())
    client = FakeClient()
    await pool.add_producer("a", client, policy=RELAY)
    for message in numbered(5):
        await pool.submit(message)
        await pool.stats()
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.1)
    with pytest.raises(Full, match=r"^the spool: no room$"):
        pool.submit_nowait("x")
    await pool.submit("x")

    assert 4.0 < asyncio.get_running_loop().time() - began < 6.0
    assert await pool.drain()
    assert client.messages == [*numbered(5), b"x"]

    await pool.aclose()


async def test_removal_that_nobody_waits_for(tmp_path: Path) -> None:
    """With a spool, the id is free when the removal is over, and no earlier: what is stored has that name."""
    async with AsyncProducerPool(spool=tmp_path, policy=RELAY, limits=Limits(drain=BOUND)) as pool:
        client = dead()
        await pool.add_producer("a", client)
        await pool.submit("x")
        removing = asyncio.create_task(pool.remove_producer("a"))
        await asyncio.sleep(0)
        removing.cancel()
        await asyncio.wait([removing])
        with pytest.raises(DuplicateProducer):
            await pool.add_producer("a", FakeClient())
        client.unreachable = None
        await pool.check()
