"""Sockets that nobody can come to any more, and what becomes of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ListenError
from producer_pool.toolkit.sockets import renewal
from producer_pool.toolkit.sockets.binding import Binding
from producer_pool.toolkit.sockets.renewal import Renewal
from support.streams import until


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "_LOOK", 0.01)


class Lapsing(Binding):
    """A binding of which somebody says what is wrong with it."""

    address = "here"
    lapses = True

    def __init__(self) -> None:
        self.wrong = ""
        self.looks = self.bound = 0
        self.error: Exception | None = None
        self.taken: list[Sequence[socket.socket]] = []
        self.said: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.renewal = Renewal(self, self.taken.append, lambda *words: self.said.append(words))

    def lapsed(self) -> str:
        self.looks += 1
        return self.wrong

    async def bind(self) -> Sequence[socket.socket]:
        self.bound += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.wrong = ""
        return ()

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        raise NotImplementedError


@pytest.fixture
async def lapsing() -> AsyncIterator[Lapsing]:
    """Return one that is looked after."""
    lapsing = Lapsing()
    lapsing.renewal.start()
    yield lapsing
    lapsing.renewal.stop()


async def test_sockets_that_are_well(lapsing: Lapsing) -> None:
    """They are looked at, and left alone."""
    await until(lambda: lapsing.looks > 2)

    assert (lapsing.bound, lapsing.taken, lapsing.said) == (0, [], [])


async def test_sockets_that_cannot_lapse() -> None:
    """Nobody looks at them."""
    lapsing = Lapsing()
    lapsing.lapses = False
    lapsing.wrong = "its file is gone"
    lapsing.renewal.start()
    await asyncio.sleep(0.05)

    assert lapsing.looks == 0


async def test_sockets_that_have_lapsed(lapsing: Lapsing) -> None:
    """Others are bound in their place, which is said; and then those are looked at."""
    lapsing.wrong = "its file is gone"
    await until(lambda: lapsing.taken)
    looks = lapsing.looks
    await until(lambda: lapsing.looks > looks)

    assert lapsing.bound == 1
    assert lapsing.said == [("renewed", "nobody could come here: its file is gone; it was made anew")]


@pytest.mark.parametrize(
    "error", [ListenError("there is no folder"), OSError(24, "too many open files")], ids=repr
)
async def test_sockets_that_cannot_be_made_anew(lapsing: Lapsing, error: Exception) -> None:
    """It is said once, however often it is tried; when it can be done, it is."""
    lapsing.wrong, lapsing.error = "its file is gone", error
    await until(lambda: lapsing.bound > 2)
    said = [text for _, text in lapsing.said]
    lapsing.error = None
    await until(lambda: lapsing.taken)

    assert len(said) == 1
    assert said[0].startswith("nobody can come here: its file is gone, and it cannot be made anew: ")


async def test_trouble_that_lasts(lapsing: Lapsing, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again now and then."""
    monkeypatch.setattr(renewal, "_REMIND", 0.0)
    lapsing.wrong, lapsing.error = "its file is gone", ListenError("there is no folder")
    await until(lambda: len(lapsing.said) > 1)

    assert len({text for _, text in lapsing.said}) == 1


async def test_end_while_it_is_made_anew(lapsing: Lapsing) -> None:
    """Nothing is bound behind the end."""
    lapsing.gate.clear()
    lapsing.wrong = "its file is gone"
    await until(lambda: lapsing.bound)
    lapsing.renewal.stop()
    lapsing.renewal.stop()
    lapsing.gate.set()
    looks = lapsing.looks
    await asyncio.sleep(0.05)

    assert (lapsing.taken, lapsing.looks) == ([], looks)
