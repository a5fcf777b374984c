"""Clients driven without a producer: one that is asked, and one whose loop stands still."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from producer_pool.contract.ports import Client, ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import SendError
from producer_pool.model.outcomes import Ack
from producer_pool.testing.driving import Driver, StoppableDriver
from producer_pool.testing.rule import RuleBroken
from producer_pool.testing.trial import Trial, numbered
from support.zoo import HEALTHY

PLAIN, PIPELINED = HEALTHY


@pytest.fixture(params=HEALTHY, ids=lambda animal: animal.name)
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Trial:
    return Trial(request.param.subject(), tmp_path, seed=1)


async def test_messages_that_are_put_arrive(trial: Trial) -> None:
    """Either kind of client is connected, takes them, and says that all are written."""
    consumer = await trial.consumer()
    driver = Driver(trial.client(consumer))
    messages = numbered(20)
    await driver.connect()
    await driver.put(messages)
    await trial.arrives(consumer, messages)

    assert driver.taken == 20
    assert driver.settled().written == 20
    await trial.aclose()


async def test_level_that_is_asked_for(tmp_path: Path) -> None:
    """A pipelined client learns which level counts, and confirms it without further messages."""
    trial = Trial(PIPELINED.subject(), tmp_path, seed=1)
    consumer = await trial.consumer()
    driver = Driver(trial.client(consumer), Ack.KERNEL)
    await driver.connect()
    await driver.put(numbered(3))

    await trial.until(lambda: driver.settled().confirmed == 3, "it is confirmed")
    await trial.aclose()


class Counting(PipelinedClient):
    """A client whose counts are what a test says."""

    def __init__(self) -> None:
        self.says = Settled(0, 0)
        self.refusals = 0
        self.signals: ClientSignals | None = None

    def attach(self, signals: ClientSignals) -> None:
        self.signals = signals

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.refusals -= 1
        return 0 if self.refusals >= 0 else 1

    def settled(self) -> Settled:
        return self.says


@pytest.mark.parametrize(
    "says,text",
    [
        (Settled(3, 0), "it took 2 messages, and of them 3 are written and 0 confirmed"),
        (Settled(1, 2), "of them 1 are written and 2 confirmed"),
        (Settled(0, 0), r"settled\(\) went back, from \(1, 1\) to \(0, 0\)"),
    ],
)
async def test_counts_that_cannot_be_true(says: Settled, text: str) -> None:
    """More than was taken, confirmed and not written, or less than before."""
    client = Counting()
    driver = Driver(client)
    await driver.put(numbered(2))
    client.says = Settled(1, 1)
    driver.settled()
    client.says = says

    with pytest.raises(RuleBroken, match=text):
        driver.settled()


async def test_client_that_takes_nothing_for_a_while() -> None:
    """It is asked again, though it forgets to say that it could be."""
    client = Counting()
    client.refusals = 3
    driver = Driver(client)
    await driver.put(numbered(1))

    assert driver.taken == 1


async def test_client_that_breaks_while_it_is_waited_for() -> None:
    """put() raises what broken() was called with."""
    client = Counting()
    client.refusals = 10**9
    driver = Driver(client)
    await driver.connect()
    putting = asyncio.ensure_future(driver.put(numbered(1)))
    await asyncio.sleep(0)
    assert client.signals is not None
    client.signals.broken(SendError("gone"))

    with pytest.raises(SendError, match="gone"):
        await putting


# -- a loop that stands still ----------------------------------------------------------------------


async def test_all_is_sent(trial: Trial) -> None:
    """It connects and sends by itself, and is closed at the end of the block."""
    consumer = await trial.consumer()
    messages = numbered(5)
    before = threading.active_count()
    async with StoppableDriver(trial.client(consumer)) as driver:
        driver.put(messages)
        await trial.until(lambda: driver.over, "all is sent")
        await trial.arrives(consumer, messages)

        assert (driver.sent, driver.error) == (5, None)
    await trial.until(lambda: threading.active_count() <= before, "its thread ends")
    await trial.aclose()


class Late(Client):
    """What it means to do after send() never happens, once its loop stands still."""

    def __init__(self) -> None:
        self.late: list[bytes] = []
        self.gate = threading.Event()
        self.closed = False

    async def send(self, message: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.late.append, message)
        if message == b"wait":
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


async def test_nothing_happens_after_the_last_send() -> None:
    """What was to be done behind the last send() is not, as long as the block lasts."""
    client = Late()
    async with StoppableDriver(client) as driver:
        driver.put([b"only"])
        while not driver.over:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)

        assert client.late == []
    assert client.late == [b"only"]
    assert client.closed


async def test_loop_that_is_stopped_in_the_middle() -> None:
    """stop() ends it where it is: what was being sent is not among what was sent."""
    client = Late()
    async with StoppableDriver(client) as driver:
        driver.put([b"one", b"wait", b"never"])
        while not client.late:
            await asyncio.sleep(0.001)
        driver.stop()

        assert driver.sent == 1
        assert not driver.over
    assert client.closed
    assert b"never" not in client.late


async def test_what_is_raised_is_kept() -> None:
    """The caller looks at it."""

    class Failing(Client):
        async def send(self, message: bytes) -> None:
            raise SendError("no")

    async with StoppableDriver(Failing()) as driver:
        driver.put([b"one"])
        while not driver.over:
            await asyncio.sleep(0.001)

        assert str(driver.error) == "no"
        assert driver.sent == 0


async def test_block_without_messages() -> None:
    """Nothing was started, and nothing has to end."""
    async with StoppableDriver(Late()):
        pass
