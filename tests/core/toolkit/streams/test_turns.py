"""When turns are taken: whenever a descriptor is readable, but for pauses of the intake and rests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from producer_pool.toolkit.streams.turns import Turns
from support.streams import FakeIntake, until


class Taken:
    """Turns at a pipe, of which each asks for the rest that is wished."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.intake = FakeIntake()
        self.rest = 0.0
        self.told: list[str] = []
        loop = asyncio.get_running_loop()
        self.turns = Turns(loop, self.reader, self.intake, self._work, lambda: self.told.append("resumed"))

    def _work(self) -> float:
        os.read(self.reader, 1)
        self.told.append("turn")
        return self.rest

    def send(self, count: int = 1) -> None:
        os.write(self.writer, b"x" * count)


@pytest.fixture
async def taken() -> AsyncIterator[Taken]:
    made = Taken()
    yield made
    made.turns.stop()
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
    taken.rest = 3600.0
    taken.turns.start()
    taken.send(3)
    await until(lambda: taken.told)
    await some_turns_of_the_loop()
    told, reading = list(taken.told), taken.turns.reading
    taken.turns.stop()
    taken.rest = 0.0
    taken.turns.start()
    await until(lambda: len(taken.told) == 3)

    assert (told, reading) == (["turn"], True)


async def test_next_turn_follows_the_rest(taken: Taken) -> None:
    """Also where nothing came meanwhile that would wake anybody."""
    taken.rest = 0.001
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
    taken.rest = 0.001
    work = taken.turns._work

    def pause_soon() -> float:
        asyncio.get_running_loop().call_soon(setattr, taken.intake, "paused", True)
        taken.turns._work = work
        return work()

    taken.turns._work = pause_soon
    taken.turns.start()
    taken.send(2)
    await until(lambda: taken.turns.resuming is not None)
    taken.intake.resume()
    await until(lambda: len(taken.told) == 3)

    assert taken.told == ["turn", "resumed", "turn"]


async def test_stopped_within_a_turn(taken: Taken) -> None:
    """Nothing is begun anew by the end of that turn."""
    taken.rest = 0.001
    taken.turns.start()
    work = taken.turns._work

    def stop() -> float:
        taken.turns.stop()
        return work()

    taken.turns._work = stop
    taken.send(2)
    await until(lambda: taken.told)
    await some_turns_of_the_loop()

    assert taken.told == ["turn"]
    assert not taken.turns.reading
