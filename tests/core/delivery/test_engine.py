"""The fan-out: who gets what, who does not hurt whom, what is told."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import UsageError
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy, Overflow, Role
from producer_pool.model.stats import Health, State
from producer_pool.testing import in_virtual_time
from support.engines import add, check_books, dead, engine, of, until_done
from support.fake_clients import FakeClient, FakePipelinedClient, hang

KiB = 1024
RELAY = DeliveryPolicy.relay()


# -- the fan-out -----------------------------------------------------------------------------------


@in_virtual_time
async def test_everybody_gets_everything() -> None:
    """In order, whatever kind of client it is."""
    clients: list[FakeClient | FakePipelinedClient] = [FakeClient(), FakePipelinedClient(), FakeClient()]
    async with engine(drain=1) as it:
        for number, client in enumerate(clients):
            add(it, f"p{number}", client)
        for number in range(100):
            it.feed(of(b"%d" % number, b"and"))
            await asyncio.sleep(0.001 * (number % 3))
    expected = [part for number in range(100) for part in (b"%d" % number, b"and")]

    assert [client.messages for client in clients] == [expected] * 3


@in_virtual_time
async def test_bad_neighbours() -> None:
    """The healthy one has each message at once, whatever the others do."""
    stalls, raises, healthy = FakePipelinedClient(confirms_after=10**6), FakeClient(), FakePipelinedClient()
    hangs = FakeClient()
    hangs.connect_faults = [hang] * 99
    raises.always = SystemExit(3)
    async with engine() as it:
        for name, client in {"stalls": stalls, "raises": raises, "dead": dead(), "hangs": hangs}.items():
            add(it, name, client, RELAY)
        add(it, "healthy", healthy, RELAY)
        await asyncio.sleep(0)
        for number in range(50):
            it.feed(of(b"%d" % number))
            await asyncio.sleep(1)
            check_books(it.stats())

            assert len(healthy.messages) == number + 1

        assert it.stats().producers["healthy"].delivered == 50


@in_virtual_time
async def test_producer_with_a_defect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What gets out of one producer stays with it."""

    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    async with engine() as it:
        client = FakeClient()
        monkeypatch.setattr(add(it, "broken", FakeClient()), "offer", defect)
        add(it, "healthy", client)
        it.feed(of(b"x"))
        await asyncio.sleep(1)

        assert client.messages == [b"x"]
        assert "broken: unexpected" in caplog.text


@in_virtual_time
async def test_no_producers(caplog: pytest.LogCaptureFixture) -> None:
    """A message goes nowhere, which is said once; its receipt is done."""
    async with engine() as it:
        receipts = [it.accept(of(b"x")) for _ in range(3)]

        assert all(receipt.done and receipt.delivered for receipt in receipts)
        assert caplog.text.count("went nowhere") == 1


@in_virtual_time
async def test_no_producers_for_what_a_listener_read(caplog: pytest.LogCaptureFixture) -> None:
    """It is said of messages in a framing, too, and nothing of them is kept."""
    async with engine() as it:
        it.feed(Batch.from_wire(b"x\n", LINES))

        assert "went nowhere" in caplog.text
        assert it.budget.used == 0


@in_virtual_time
async def test_producer_added_later() -> None:
    """It gets what comes from then on."""
    client = FakeClient()
    async with engine(drain=1) as it:
        it.feed(of(b"early"))
        add(it, "late", client)
        it.feed(of(b"late"))

    assert client.messages == [b"late"]


@in_virtual_time
async def test_batch_in_its_own_framing() -> None:
    """It is cut for the one whose buffer is small, and goes as it came to the other."""
    wire = b"".join(b"%04d\n" % number for number in range(2000))
    small, large = FakePipelinedClient(), FakePipelinedClient()
    async with engine(drain=1) as it:
        add(it, "small", small, DeliveryPolicy(buffer=8 * KiB, overflow=Overflow.BLOCK))
        add(it, "large", large)
        await asyncio.sleep(0)
        it.feed(Batch.from_wire(wire, LINES))

    assert len(small.messages) == len(large.messages) == 2000


# -- receipts --------------------------------------------------------------------------------------


@in_virtual_time
async def test_receipt_of_a_batch() -> None:
    """It is done when all is settled everywhere, and delivered if all was delivered."""
    slow = FakePipelinedClient(confirms_after=0.2)
    async with engine() as it:
        add(it, "slow", slow, RELAY)
        add(it, "fast", FakeClient())
        receipt = it.accept(of(b"a", b"b"))

        before = (receipt.done, receipt.delivered)
        await until_done(receipt)

        assert before == (False, False)
        assert (receipt.done, receipt.delivered, receipt.stored) == (True, True, None)


@in_virtual_time
async def test_callback_that_accepts_the_next_batch() -> None:
    """A window of one: as many in a row as there are, though each is settled at once."""
    client = FakePipelinedClient()
    accepted = 0
    async with engine() as it:
        add(it, "a", client)
        await asyncio.sleep(0)

        def next_one() -> None:
            nonlocal accepted
            if accepted < 5000:
                accepted += 1
                it.accept(of(b"x")).when_done(next_one)

        next_one()
        await asyncio.sleep(1)

        assert len(client.messages) == 5000


@in_virtual_time
async def test_callback_in_the_middle_of_a_settlement() -> None:
    """It may feed more: each message is settled once."""
    client = FakePipelinedClient(confirms_after=0.01)
    async with engine(drain=5) as it:
        add(it, "a", client, RELAY)
        await asyncio.sleep(0)
        for _ in range(20):
            it.accept(of(b"x", b"y")).when_done(lambda: it.feed(of(b"z")))
        await asyncio.sleep(1)
        check_books(it.stats())

        assert it.stats().producers["a"].delivered == 60


@in_virtual_time
async def test_callback_of_what_was_fed() -> None:
    """Nobody keeps what becomes of it, and that is said."""
    async with engine() as it:
        fed = BatchReceipt(it.accept(of(b"x"))._page, asyncio.get_running_loop())
        fed._page.tracks = None

        with pytest.raises(UsageError, match="fed, not accepted"):
            fed.when_done(lambda: None)


# -- asking ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_drain() -> None:
    """It says whether all was settled in time, and leaves nothing behind."""
    async with engine() as it:
        add(it, "slow", FakePipelinedClient(confirms_after=5), RELAY)
        await asyncio.sleep(0)
        it.feed(of(b"x"))

        assert not await it.drain(1)
        assert await it.drain(None)


@in_virtual_time
async def test_check() -> None:
    """All at once, within the time; who does not answer is connecting still."""
    hangs = FakeClient()
    hangs.connect_faults = [hang]
    async with engine() as it:
        add(it, "up", FakeClient())
        add(it, "down", dead())
        add(it, "hangs", hangs)
        began = asyncio.get_running_loop().time()
        found = await it.check(3)

        assert asyncio.get_running_loop().time() - began == 3
        assert {name: health.state for name, health in found.items()} == {
            "up": State.UP,
            "down": State.DOWN,
            "hangs": State.CONNECTING,
        }


@in_virtual_time
async def test_observers() -> None:
    """They are told of every producer, those that were added before them, too."""
    told: list[tuple[str, State | Outcome]] = []

    class Watches:
        def state_changed(self, health: Health) -> None:
            told.append((health.producer_id, health.state))

        def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
            told.append((producer_id, outcome))
            raise ValueError("no")

    async with engine() as it:
        add(it, "a", FakeClient())
        it.observers.extend([Watches()])
        add(it, "b", FakeClient())
        it.feed(of(b"x"))
        await asyncio.sleep(1)

        for name in ("a", "b"):
            assert (name, State.UP) in told
            assert (name, Outcome.DELIVERED) in told
        assert it.stats().observer_errors == 2


class Serving(FakePipelinedClient):
    """A client that consumers connect to."""

    number: object = 0

    @property
    def peers(self) -> Any:
        if isinstance(self.number, Exception):
            raise self.number
        return self.number


@in_virtual_time
async def test_stats_count_peers() -> None:
    """As many as are connected now; none where a client does not serve, or does not know."""
    serving, broken = Serving(), Serving()
    async with engine() as it:
        add(it, "serving", serving)
        add(it, "broken", broken)
        add(it, "plain", FakeClient())
        serving.number = 3
        broken.number = ZeroDivisionError("a defect")
        peers = {name: stats.peers for name, stats in it.stats().producers.items()}
        serving.number = 2

        assert peers == {"serving": 3, "broken": 0, "plain": 0}
        assert it.stats().producers["serving"].peers == 2


@in_virtual_time
async def test_stats_are_a_copy() -> None:
    """They do not change afterwards."""
    async with engine() as it:
        add(it, "a", FakePipelinedClient(confirms_after=1), RELAY)
        await asyncio.sleep(0)
        it.feed(of(b"xyz"))
        before = it.stats()
        await asyncio.sleep(2)

        assert before.producers["a"].pending == 1
        assert before.producers["a"].pending_bytes == before.buffered_bytes == 512 + 3
        assert it.stats().producers["a"].delivered == 1
        assert it.health()["a"].ack is Ack.KERNEL


# -- roles -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_acknowledged_upstream_without_those_that_are_not_required() -> None:
    """A receipt for a listener is done, and delivered, when the required producers are."""
    async with engine() as it:
        add(it, "first", FakePipelinedClient(confirms_after=0.5), DeliveryPolicy(ack=Ack.KERNEL))
        add(it, "helper", dead(), replace(RELAY, role=Role.BEST_EFFORT))
        add(it, "shadow", dead(), replace(RELAY, role=Role.SHADOW))
        receipt = it.accept(of(b"a", b"b"))

        assert not receipt.done

        await until_done(receipt)

        assert receipt.delivered
        assert {name: each.pending for name, each in it.stats().producers.items()} == {
            "first": 0,
            "helper": 2,
            "shadow": 2,
        }


@in_virtual_time
async def test_acknowledged_upstream_with_one_required_producer_that_fails() -> None:
    """It is done, and not delivered, whatever the others do."""
    async with engine() as it:
        add(it, "first", dead())
        add(it, "helper", FakeClient(), DeliveryPolicy(role=Role.BEST_EFFORT))
        receipt = it.accept(of(b"a"))
        await until_done(receipt)

        assert not receipt.delivered


@in_virtual_time
async def test_acknowledged_upstream_with_a_stage() -> None:
    """What it removes was not for its producer, and is taken care of; what it chokes on is not."""

    def stage(batch: Batch) -> Batch | None:
        if b"odd" in batch.messages:
            raise ValueError("odd")
        return batch.select([index for index, message in enumerate(batch.messages) if message != b"noise"])

    async with engine() as it:
        it.add(Producer("a", FakePipelinedClient(), stages=[stage]))
        removed, failed = it.accept(of(b"a", b"noise")), it.accept(of(b"odd"))
        await until_done(removed)
        await until_done(failed)

        assert removed.delivered
        assert not failed.delivered


@in_virtual_time
async def test_drain_with_a_shadow_that_is_away() -> None:
    """It is not waited for."""
    async with engine() as it:
        add(it, "first", FakePipelinedClient(confirms_after=0.5), DeliveryPolicy(ack=Ack.KERNEL))
        add(it, "shadow", dead(), replace(RELAY, role=Role.SHADOW))
        it.feed(of(b"a"))
        begin = asyncio.get_running_loop().time()

        assert await it.drain(60)
        assert asyncio.get_running_loop().time() - begin < 1
        assert it.stats().producers["shadow"].pending == 1
