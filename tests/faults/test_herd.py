"""A thousand producers to one host that is dead for an hour, and comes back: they do not knock at once."""

import asyncio
from collections import Counter
from itertools import accumulate
from typing import NamedTuple

import pytest

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.jitter import jitter
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, SendError
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.testing import run_in_virtual_time
from support.fake_clients import FakePipelinedClient
from support.faults import report, times

PRODUCERS = times(250, 1000)
MINUTES = times(30, 60)
ALLOWED = 0.05
"""The part of all attempts that may be made in one second."""


pytestmark = pytest.mark.usefixtures("no_log")


class Host:
    """What the producers knock at."""

    def __init__(self) -> None:
        self.is_there = True
        self.attempts: list[float] = []
        self.clients: list[FakePipelinedClient] = []

    def die(self) -> None:
        """Break all connections in the same moment."""
        self.is_there = False
        for client in self.clients:
            client.break_off(SendError("host: reset"))


class Knocking(FakePipelinedClient):
    def __init__(self, host: Host) -> None:
        super().__init__(confirms_after=0.001)
        self.host = host
        host.clients.append(self)

    async def connect(self) -> None:
        self.host.attempts.append(asyncio.get_running_loop().time())
        if not self.host.is_there:
            raise ConnectError("host: refused")
        await super().connect()


class Knocks(NamedTuple):
    """How attempts lie in time."""

    attempts: int
    share: float
    """The largest part of all that was made in one second."""
    share_of_minute: float
    """The largest part of those of a minute, of any but the first, that was made in one second."""


def measured(times: list[float], died: float) -> Knocks:
    counts = Counter(int(time - died) for time in times)
    seconds = [counts[second] for second in range(max(counts) + 1)]
    sums = [0, *accumulate(seconds)]
    worst = max(
        seconds[second] / (sums[min(second + 30, len(seconds))] - sums[second - 30])
        for second in range(90, len(seconds) - 30)
    )
    return Knocks(len(times), max(seconds) / len(times), worst)


def knocks(draw: float | None) -> tuple[Knocks, int]:
    """Let the host die for a while, and return the attempts, and how many producers reach it afterwards."""

    async def story() -> tuple[Knocks, int]:
        if draw is not None:
            jitter.set(lambda: draw)
        host = Host()
        engine = Engine(Limits())
        for number in range(PRODUCERS):
            engine.add(Producer(f"p{number}", Knocking(host), DeliveryPolicy.relay()))
        await asyncio.sleep(20)
        engine.feed(Batch.of([b"before"]))
        await asyncio.sleep(1)
        host.attempts.clear()
        host.die()
        died = asyncio.get_running_loop().time()
        engine.feed(Batch.of([b"meanwhile"]))
        await asyncio.sleep(MINUTES * 60)
        found = measured(host.attempts, died)
        host.is_there = True
        await asyncio.sleep(40)
        delivered = sum(client.messages == [b"before", b"meanwhile"] for client in host.clients)
        await engine.aclose(0)
        return found, delivered

    return run_in_virtual_time(story)


def test_attempts_are_spread() -> None:
    """In no second more than a twentieth of the attempts, though all connections broke in the same moment."""
    found, delivered = knocks(None)
    report("herd", producers=PRODUCERS, minutes=MINUTES, **found._asdict(), delivered=delivered)

    assert found.attempts > PRODUCERS * MINUTES * 3
    assert found.share <= ALLOWED
    assert found.share_of_minute <= ALLOWED
    assert delivered == PRODUCERS


def test_attempts_without_jitter() -> None:
    """The control: everybody waits as long as everybody else: half of a minute's attempts come at once."""
    found, _ = knocks(1 - 1e-9)

    assert found.share_of_minute > ALLOWED
