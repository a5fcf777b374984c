"""One descriptor that stands for many."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from producer_pool.direct import POSSIBLE, DirectLoop
from producer_pool.toolkit.sockets.readiness import Readiness, _Epoll, _Selector
from support.streams import until


@pytest.fixture(params=[_Epoll, _Selector])
def ready(request: pytest.FixtureRequest) -> Iterator[Readiness]:
    """Return a poller, the one of Linux and that of other systems."""
    make: Callable[[], Readiness] = request.param
    made = make()
    yield made
    made.close()


def test_who_is_ready(ready: Readiness) -> None:
    """Only those that have something to read are, as long as they have it."""
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        ready.add(ours.fileno())
    nobody = list(ready.poll())
    pairs[1][1].send(b"x")

    assert nobody == []
    assert list(ready.poll()) == [pairs[1][0].fileno()] == list(ready.poll())
    ready.remove(pairs[1][0].fileno())
    assert list(ready.poll()) == []
    for one in (sock for pair in pairs for sock in pair):
        one.close()


def test_stands_for_all(ready: Readiness) -> None:
    """The poller's own descriptor is readable when one of them is ready."""
    ours, theirs = socket.socketpair()
    ready.add(ours.fileno())
    before = select.select([ready.fileno()], [], [], 0)[0]
    theirs.send(b"x")

    assert before == []
    assert select.select([ready.fileno()], [], [], 1)[0] == [ready.fileno()]
    ours.close()
    theirs.close()


def test_who_can_write(ready: Readiness) -> None:
    """A connection with something to say can be watched for that, too."""
    ours, theirs = socket.socketpair()
    ready.add(ours.fileno())
    ready.watch(ours.fileno(), write=True)
    wanted = list(ready.poll())
    ready.watch(ours.fileno(), write=False)

    assert wanted == [ours.fileno()]
    assert list(ready.poll()) == []
    ours.close()
    theirs.close()


def test_who_is_left_alone(ready: Readiness) -> None:
    """A connection can be watched for nothing, for a while, and be forgotten meanwhile."""
    ours, theirs = socket.socketpair()
    ready.add(ours.fileno())
    theirs.send(b"x")
    ready.watch(ours.fileno(), read=False, write=False)
    nobody = list(ready.poll())
    ready.watch(ours.fileno(), read=False, write=True)
    writable = list(ready.poll())
    ready.watch(ours.fileno(), read=True, write=False)

    assert nobody == []
    assert writable == list(ready.poll()) == [ours.fileno()]
    ready.watch(ours.fileno(), read=False, write=False)
    ready.remove(ours.fileno())
    assert list(ready.poll()) == []
    ours.close()
    theirs.close()


def test_the_choice_for_this_platform() -> None:
    """It works as one of the two does."""
    made = Readiness()
    assert list(made.poll()) == []
    made.close()


class Attended:
    """Two connections in a loop, with what was told of them: who is ready, or that it is to be looked at."""

    def __init__(self) -> None:
        self.ready = Readiness()
        self.pairs = [socket.socketpair() for _ in range(2)]
        self.fds = [ours.fileno() for ours, _ in self.pairs]
        for fd in self.fds:
            self.ready.add(fd)
        self.told: list[int | None] = []
        self.came: list[int] = []
        self.ready.attend(asyncio.get_running_loop(), self._turn)

    def _turn(self, fd: int | None) -> None:
        self.told.append(fd)
        for one in self.ready.poll() if fd is None else (fd,):
            self.came.append(self.fds.index(one))
            self.pairs[self.fds.index(one)][0].recv(1)

    async def send(self, *which: int) -> list[int | None]:
        """Send something on these, wait until all came, and return what was told."""
        del self.told[:], self.came[:]
        for one in which:
            self.pairs[one][1].send(b"x")
        await until(lambda: len(self.came) >= len(which))
        assert sorted(self.came) == sorted(which)
        return list(self.told)

    async def settle_on(self, which: int) -> None:
        """Send on one until the loop watches it."""
        for _ in range(200):
            if await self.send(which) == [self.fds[which]]:
                return
        raise AssertionError("it is looked at each time")

    def close(self) -> None:
        self.ready.leave()
        self.ready.close()
        for one in (sock for pair in self.pairs for sock in pair):
            one.close()


@pytest.fixture
async def attended() -> AsyncIterator[Attended]:
    made = Attended()
    yield made
    made.close()


async def test_always_the_same_one(attended: Attended) -> None:
    """Nobody looks who it is, and the other one is told of as ever."""
    await attended.settle_on(0)

    assert await attended.send(0) == [attended.fds[0]]
    assert await attended.send(1) == [None]
    assert sorted(await attended.send(0, 1), key=str) == sorted([None, attended.fds[0]], key=str)


async def test_now_another_one(attended: Attended) -> None:
    """Who is it from now on takes the place of who was before."""
    await attended.settle_on(0)
    await attended.settle_on(1)

    assert await attended.send(0) == [None]
    assert await attended.send(1) == [attended.fds[1]]


async def test_one_after_the_other(attended: Attended) -> None:
    """Where that is not always the same one, it is looked at each time."""
    told = [await attended.send(turn % 2) for turn in range(100)]

    assert told == [[None]] * 100


async def test_favourite_that_is_watched_otherwise(attended: Attended) -> None:
    """It is told of when it can be written, or not at all, and is one of many until it is as before."""
    await attended.settle_on(0)
    fd = attended.fds[0]
    attended.ready.watch(fd, read=False, write=False)
    attended.pairs[0][1].send(b"x")
    none = list(attended.ready.poll())
    attended.ready.watch(fd, write=True)
    found = [list(attended.ready.poll()) for _ in range(100)]
    attended.pairs[0][0].recv(1)
    found.append(list(attended.ready.poll()))
    attended.ready.watch(fd, write=False)

    assert none == []
    assert found == [[fd]] * 101
    await attended.settle_on(0)


async def test_favourite_that_is_forgotten(attended: Attended) -> None:
    """Nothing more is told of it."""
    await attended.settle_on(0)
    attended.ready.remove(attended.fds[0])
    attended.pairs[0][1].send(b"x")

    assert await attended.send(1) == [None]
    assert list(attended.ready.poll()) == []


async def test_favourite_while_nobody_is_told(attended: Attended) -> None:
    """After leave(), poll() tells of it as of all; it may become the favourite again."""
    await attended.settle_on(0)
    attended.ready.leave()
    attended.pairs[0][1].send(b"x")
    found = [list(attended.ready.poll()) for _ in range(100)]
    attended.pairs[0][0].recv(1)
    attended.ready.attend(asyncio.get_running_loop(), attended._turn)

    assert found == [[attended.fds[0]]] * 100
    await attended.settle_on(0)


@pytest.mark.skipif(not POSSIBLE, reason="there is no epoll")
def test_loop_with_a_shorter_way() -> None:
    """Asyncio's own way is left to others, for the poller and for the favourite."""

    async def work() -> set[int]:
        made = Attended()
        await made.settle_on(0)
        loop: Any = asyncio.get_running_loop()
        watched = set(loop._selector.get_map())
        known = {made.ready.fileno(), *made.fds}
        made.close()
        return watched & known

    with asyncio.Runner(loop_factory=DirectLoop) as runner:
        assert runner.run(work()) == set()
