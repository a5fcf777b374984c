"""When turns are taken: whenever a descriptor is readable, but for pauses of the intake and rests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from producer_pool.model.framing import LINES
from producer_pool.toolkit.sockets.readiness import Readiness
from producer_pool.toolkit.streams.gathering import Gathering
from producer_pool.toolkit.streams.turns import Turns
from support.streams import FakeIntake, until


class Rests(Gathering):
    """Gathers nothing, and asks for the rest that is wished."""

    rest = 0.0

    def end_turn(self, now: float) -> float:
        return self.rest


class Taken:
    """Turns at a pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.ready = Readiness()
        self.ready.add(self.reader)
        self.intake = FakeIntake()
        self.rests = Rests(0.0, LINES, origin="", feed=self.intake.feed, now=0.0)
        self.told: list[str] = []
        self.turns = Turns(
            self.ready,
            self.intake,
            visit=self._visit,
            resumed=lambda: self.told.append("resumed"),
            gathering=self.rests,
        )

    def _visit(self, fd: int) -> int:
        os.read(fd, 1)
        self.told.append("turn")
        return 1

    def send(self, count: int = 1) -> None:
        os.write(self.writer, b"x" * count)


@pytest.fixture
async def taken() -> AsyncIterator[Taken]:
    made = Taken()
    yield made
    made.turns.stop()
    made.ready.close()
    os.close(made.reader)
    os.close(made.writer)


async def some_turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_for_what_came(taken: Taken) -> None:
    """One after the other, as long as there is something."""
    taken.turns.start()
    taken.send(3)
    await until(lambda: len(taken.told) == 3)
    await some_turns_of_the_loop()

    assert taken.told == ["turn"] * 3
    assert taken.turns.reading


async def test_none_within_a_rest(taken: Taken) -> None:
    """What comes meanwhile stays where it is; stop() ends a rest, too."""
    taken.rests.rest = 3600.0
    taken.turns.start()
    taken.send(3)
    await until(lambda: taken.told)
    await some_turns_of_the_loop()
    told, reading = list(taken.told), taken.turns.reading
    taken.turns.stop()
    taken.rests.rest = 0.0
    taken.turns.start()
    await until(lambda: len(taken.told) == 3)

    assert (told, reading) == (["turn"], True)


async def test_next_turn_follows_the_rest(taken: Taken) -> None:
    """Also where nothing came meanwhile that would wake anybody."""
    taken.rests.rest = 0.001
    taken.turns.start()
    taken.send(2)
    await until(lambda: len(taken.told) == 2)

    assert taken.told == ["turn", "turn"]


async def test_none_while_the_intake_is_paused(taken: Taken) -> None:
    """Whoever counts time is told before the next one."""
    taken.turns.start()
    taken.intake.paused = True
    taken.send(2)
    await until(lambda: taken.turns.resuming is not None)
    await some_turns_of_the_loop()
    told, reading = list(taken.told), taken.turns.reading
    taken.intake.resume()
    await until(lambda: len(taken.told) == 3)

    assert (told, reading) == ([], False)
    assert taken.told == ["resumed", "turn", "turn"]
    assert taken.turns.reading


async def test_pause_within_a_rest(taken: Taken) -> None:
    """After the rest the intake is looked at again."""
    taken.rests.rest = 0.001
    visit = taken.turns._visit

    def pause_soon(fd: int) -> int:
        asyncio.get_running_loop().call_soon(setattr, taken.intake, "paused", True)
        taken.turns._visit = visit
        return visit(fd)

    taken.turns._visit = pause_soon
    taken.turns.start()
    taken.send(2)
    await until(lambda: taken.turns.resuming is not None)
    taken.intake.resume()
    await until(lambda: len(taken.told) == 3)

    assert taken.told == ["turn", "resumed", "turn"]


async def test_stopped_within_a_turn(taken: Taken) -> None:
    """Nothing is begun anew by the end of that turn."""
    taken.rests.rest = 0.001
    taken.turns.start()
    visit = taken.turns._visit

    def stop(fd: int) -> int:
        taken.turns.stop()
        return visit(fd)

    taken.turns._visit = stop
    taken.send(2)
    await until(lambda: taken.told)
    await some_turns_of_the_loop()

    assert taken.told == ["turn"]
    assert not taken.turns.reading
