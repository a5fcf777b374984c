"""A client whose loop stands still: what it meant to do after send() never happens."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from producer_pool.contract.ports import Client
from producer_pool.model.errors import SendError
from producer_pool.testing.messages import numbered
from producer_pool.testing.stopping import StoppableDriver
from support.trials import trying
from support.zoo import HEALTHY, Animal


@pytest.mark.parametrize("healthy", HEALTHY, ids=lambda animal: animal.name)
async def test_all_is_sent(healthy: Animal, tmp_path: Path) -> None:
    """It connects and sends by itself, and is closed at the end of the block."""
    async with trying(tmp_path, healthy.subject()) as trial:
        consumer = await trial.consumer()
        messages = numbered(5)
        before = set(threading.enumerate())
        async with StoppableDriver(trial.client(consumer)) as driver:
            driver.put(messages)
            await trial.until(lambda: driver.over, "all is sent")
            await trial.arrives(consumer, messages)

            assert (driver.sent, driver.error) == (5, None)
        await trial.until(
            lambda: not any(one.name == "driver" for one in set(threading.enumerate()) - before),
            "its thread ends",
        )


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
