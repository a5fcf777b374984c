"""Clients driven without a producer, and held against their contract: each untruth is named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.plugin import Ack, Batch, Settled
from producer_pool.testing.driving import Driver
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import RuleBroken
from support.fake_clients import FakeClient, FakePipelinedClient
from support.trials import trying
from support.zoo import HEALTHY, Animal

TWO = Batch.of([b"one", b"two"])


@pytest.mark.parametrize("healthy", HEALTHY, ids=lambda animal: animal.name)
async def test_messages_that_are_put_arrive(healthy: Animal, tmp_path: Path) -> None:
    """Either kind of client is connected, takes them, and says that all are written."""
    async with trying(tmp_path, healthy.subject()) as trial:
        consumer = await trial.consumer()
        driver = Driver(trial.client(consumer))
        messages = numbered(20)
        await driver.connect()
        await driver.put(messages)
        await trial.arrives(consumer, messages)

        assert driver.taken == 20
        assert driver.settled().written == 20


async def test_level_that_is_asked_for(tmp_path: Path) -> None:
    """A pipelined client learns which level counts, and confirms it without further messages."""
    async with trying(tmp_path, HEALTHY[1].subject()) as trial:
        consumer = await trial.consumer()
        driver = Driver(trial.client(consumer), Ack.KERNEL)
        await driver.connect()
        await driver.put(numbered(3))

        await trial.until(lambda: driver.settled().confirmed == 3, "it is confirmed")


async def test_plain_client() -> None:
    """What send() is busy with is taken, and what it returned from is written; it has nobody to tell."""
    client = FakeClient()
    driver = Driver(client)
    await driver.connect()
    await driver.put([b"one", b"two"])

    assert driver.settled() == (2, 2)
    assert driver.taken == 2


class Says(FakePipelinedClient):
    """A client that says what a test has it say."""

    takes: object = None
    count: Settled | None = None
    inside: Callable[[], None] | None = None

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        if self.inside is not None:
            self.inside()
        taken = super().start(batches, offset)
        return taken if self.takes is None else self.takes  # type: ignore[return-value]

    def settled(self) -> Settled:
        return super().settled() if self.count is None else self.count


class KeepsTheList(Says):
    kept: Sequence[Batch] | None = None

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.kept = batches
        return super().start(batches, offset)


async def driven(client: Says) -> Driver:
    driver = Driver(client)
    await driver.connect()
    return driver


async def test_client_that_keeps_to_its_contract() -> None:
    """What it took is counted, without the messages that were to be skipped."""
    driver = await driven(Says(room=2))

    assert driver.start([TWO, TWO], 1) == 2
    assert driver.taken == 3
    assert driver.settled() == (3, 3)
    assert driver.start([TWO]) == 0
    assert driver.taken == 3


async def test_list_that_start_is_given() -> None:
    """It is empty when start() has returned: who kept it, and not the batches, has nothing."""
    client = KeepsTheList()
    driver = await driven(client)
    given = [TWO]
    driver.start(given)

    assert client.kept == []
    assert given == [TWO]


@pytest.mark.parametrize("taken", [2, -1, True, "one", 0.5], ids=repr)
async def test_number_that_start_cannot_return(taken: object) -> None:
    """It is from 0 to as many batches as there were, and a number."""
    client = Says()
    driver = await driven(client)
    client.takes = taken
    with pytest.raises(RuleBroken, match=r"start\(\) was given 1 batches, and returned"):
        driver.start([TWO])


@pytest.mark.parametrize(
    "count,text",
    [
        (Settled(3, 0), "only 2 messages were handed over"),
        (Settled(1, 2), "more are confirmed than written"),
        (Settled(1, 1), "it never goes back"),
        (Settled(2, 1), "it never goes back"),
    ],
)
async def test_count_that_cannot_be(count: Settled, text: str) -> None:
    """It lies between nothing and all, and only rises."""
    client = Says()
    driver = await driven(client)
    driver.start([TWO])
    client.count = count
    with pytest.raises(RuleBroken, match=text):
        driver.settled()


async def test_signal_inside_start() -> None:
    """Whoever calls start() is in the middle of something."""
    client = Says()
    driver = await driven(client)
    client.inside = driver.writable
    with pytest.raises(RuleBroken, match=r"writable\(\) was called inside start\(\)"):
        driver.start([TWO])


async def test_signal_from_another_thread() -> None:
    """It is no less heard, and named for what it is."""
    client = Says(room=0)
    driver = await driven(client)
    driver.start([TWO])
    thread = threading.Thread(target=driver.writable)
    thread.start()
    thread.join()
    with pytest.raises(RuleBroken, match=r"writable\(\) was called from another thread; use loop\.call_soon"):
        await driver.told()


async def test_signals_without_a_reason() -> None:
    """Nothing was broken, and nothing could not be carried."""
    broken = await driven(Says())
    broken.broken(SendError("gone"))
    with pytest.raises(RuleBroken, match="nothing was broken: gone"):
        await broken.told()
    rejected = await driven(Says())
    rejected.rejected(0, Rejected("never"))
    with pytest.raises(RuleBroken, match="what can be carried: never"):
        await rejected.told()


async def test_connection_that_breaks() -> None:
    """Where that may be, who waits is told why."""
    driver = await driven(Says(room=0))
    driver.may_break = True
    putting = asyncio.ensure_future(driver.put([b"one"]))
    await asyncio.sleep(0)
    driver.broken(ConnectError("gone"))
    with pytest.raises(ConnectError, match="gone"):
        await putting

    assert driver.fault == ""
    assert driver.settled() == (0, 0)


@pytest.mark.parametrize("error", [OSError("gone"), Rejected("gone"), None], ids=repr)
async def test_break_with_something_else(error: SendError) -> None:
    """It is one of the errors that say whether a message can have arrived."""
    driver = await driven(Says())
    driver.may_break = True
    driver.broken(error)

    assert "and not with a ConnectError or a SendError" in driver.fault


@pytest.mark.parametrize("call", ["writable", "broken", "rejected"])
async def test_signal_after_the_end(call: str) -> None:
    """Nothing follows on broken(), least of all another one."""
    driver = await driven(Says())
    driver.may_break = True
    driver.broken(SendError("gone"))
    arguments = {"broken": (SendError("gone"),), "rejected": (0, Rejected("never"))}
    getattr(driver, call)(*arguments.get(call, ()))

    assert driver.fault == f"{call}() was called after broken()"


async def test_told_of_room() -> None:
    """A signal since the last start() is waited for, or is there already."""
    client = Says(room=0)
    driver = await driven(client)
    driver.start([TWO])
    telling = asyncio.create_task(driver.told())
    await asyncio.sleep(0)

    assert not telling.done()
    client.make_room(1)
    await telling
    await driver.told()
