"""An event loop with direct readers: the same as others, and less of it for each event."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from producer_pool.direct import POSSIBLE, DirectLoop
from support.streams import until

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="there is no epoll")


class Pair:
    """Two ends of a connection. What is read from the one is noted, and may be followed by something."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.fd = self.here.fileno()
        self.read: list[bytes] = []
        self.then: Callable[[], object] = bool

    def hear(self) -> None:
        self.read.append(self.here.recv(1))
        self.then()

    def see(self) -> None:
        """Note that something can be read, and leave it there."""
        self.read.append(b"")
        self.then()

    def send(self, data: bytes = b"x") -> None:
        self.there.send(data)

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=DirectLoop) as runner:
        return runner.run(asyncio.wait_for(work, 20))


def here() -> Any:
    return asyncio.get_running_loop()


def test_reader_is_called(pair: Pair) -> None:
    """Each time that something can be read, with what it was added with, until it is removed."""
    said: list[str] = []

    def hear(*args: str) -> None:
        said.extend(args)
        pair.hear()

    def heard(number: int) -> bool:
        return len(pair.read) == number

    async def work() -> list[bool]:
        loop = here()
        loop.add_direct_reader(pair.fd, hear, "a", "b")
        for number in range(1, 4):
            pair.send()
            await until(partial(heard, number))
        removed = [loop.remove_direct_reader(pair.fd), loop.remove_direct_reader(pair.fd)]
        pair.send()
        for _ in range(3):
            await asyncio.sleep(0.001)
        return removed

    assert run(work()) == [True, False]
    assert said == ["a", "b"] * 3
    assert len(pair.read) == 3


def test_goes_on_waiting(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing else is to be done, asyncio has no turn between two calls."""
    turns = 0
    many = 100

    async def work() -> int:
        loop = here()
        done = asyncio.Event()

        def follow() -> None:
            if len(pair.read) < many:
                pair.send()
            else:
                loop.call_soon(done.set)

        select = loop._selector.select

        def counting(timeout: float | None) -> Any:
            nonlocal turns
            turns += 1
            return select(timeout)

        monkeypatch.setattr(loop._selector, "select", counting)
        pair.then = follow
        loop.add_direct_reader(pair.fd, pair.hear)
        pair.send()
        await done.wait()
        return turns

    assert run(work()) < many / 4


@pytest.mark.parametrize("how", ["soon", "later", "from a thread", "task"])
def test_what_is_scheduled_has_its_turn(pair: Pair, how: str) -> None:
    """However it was, and though the reader is ready all the time."""

    async def work() -> int:
        loop = here()
        done = asyncio.Event()

        async def finish() -> None:
            done.set()

        def schedule() -> None:
            pair.then = bool
            if how == "soon":
                loop.call_soon(done.set)
            elif how == "later":
                loop.call_later(0.001, done.set)
            elif how == "task":
                tasks.append(loop.create_task(finish()))
            else:
                threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,)).start()

        tasks: list[asyncio.Task[None]] = []
        pair.then = schedule
        loop.add_direct_reader(pair.fd, pair.see)
        pair.send()
        await done.wait()
        loop.remove_direct_reader(pair.fd)
        return len(pair.read)

    assert run(work()) > 0


def test_timer_that_was_set_before(pair: Pair) -> None:
    """It is on time, though a reader is ready all the time."""

    async def work() -> int:
        loop = here()
        loop.add_direct_reader(pair.fd, pair.see)
        pair.send()
        await asyncio.sleep(0.01)
        loop.remove_direct_reader(pair.fd)
        return len(pair.read)

    assert run(work()) > 0


def test_both_kinds_are_served(pair: Pair, other: Pair) -> None:
    """A direct reader and one of asyncio's are both ready all the time, and take nothing from each other."""

    async def work() -> None:
        loop = here()
        loop.add_direct_reader(pair.fd, pair.see)
        loop.add_reader(other.fd, other.see)
        pair.send()
        other.send()
        await until(lambda: len(pair.read) > 20 and len(other.read) > 20)
        loop.remove_direct_reader(pair.fd)
        loop.remove_reader(other.fd)

    run(work())

    assert len(pair.read) > 20
    assert len(other.read) > 20


def test_one_removes_the_other(pair: Pair, other: Pair) -> None:
    """Who is removed is not called any more, though both were found ready at once."""

    async def work() -> None:
        loop = here()
        for one, another in ((pair, other), (other, pair)):
            one.then = partial(loop.remove_direct_reader, another.fd)
            loop.add_direct_reader(one.fd, one.hear)
            one.send()
        await until(lambda: pair.read or other.read)
        await asyncio.sleep(0.001)

    run(work())

    assert sorted((len(pair.read), len(other.read))) == [0, 1]


def test_reader_takes_out_one_of_asyncios(pair: Pair, other: Pair) -> None:
    """It is gone then, and what takes its place is not taken for it."""
    read: list[str] = []

    async def work() -> None:
        loop = here()

        def new() -> None:
            read.append("new")
            loop.remove_reader(other.fd)

        def swap() -> None:
            loop.remove_reader(other.fd)
            loop.add_reader(other.fd, new)

        pair.then = swap
        loop.add_reader(other.fd, read.append, "old")
        loop.add_direct_reader(pair.fd, pair.hear)
        other.send()
        pair.send()
        await until(lambda: "new" in read)
        loop.remove_direct_reader(pair.fd)

    run(work())

    assert read[-1] == "new"


def test_reader_stops_the_loop(pair: Pair) -> None:
    """It ends after this turn."""
    loop = DirectLoop()
    pair.then = loop.stop
    loop.add_direct_reader(pair.fd, pair.see)
    pair.send()
    loop.run_forever()
    loop.close()

    assert pair.read == [b""]


def test_reader_is_called_in_its_context(pair: Pair) -> None:
    """As those of asyncio are: in a copy of that in which it was added."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    found: list[str] = []

    async def work() -> None:
        loop = here()
        variable.set("inside")
        pair.then = lambda: found.append(variable.get())
        loop.add_direct_reader(pair.fd, pair.hear)
        variable.set("later")
        pair.send()
        await until(lambda: bool(found))

    run(work())

    assert found == ["inside"]


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
def test_reader_that_raises(pair: Pair, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """It is logged, and called again."""

    def fail() -> None:
        raise error

    async def work() -> None:
        loop = here()
        pair.then = fail
        loop.add_direct_reader(pair.fd, pair.hear)
        pair.send(b"xx")
        await until(lambda: len(pair.read) == 2)

    with caplog.at_level(logging.ERROR):
        run(work())

    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error] * 2


def test_interrupt_in_a_reader(pair: Pair) -> None:
    """It is meant for the program, on the main thread, wherever it strikes."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def work() -> None:
        pair.then = interrupt
        here().add_direct_reader(pair.fd, pair.hear)
        pair.send()
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run(work())


def test_socket_that_is_closed_first(pair: Pair) -> None:
    """It can be removed all the same, and what gets its number is not taken for it."""

    async def work() -> bool:
        loop = here()
        loop.add_direct_reader(pair.fd, pair.hear)
        pair.here.close()
        return bool(loop.remove_direct_reader(pair.fd))

    assert run(work())


def test_closed_loop(pair: Pair) -> None:
    """Nothing is watched any more, and what watched is closed."""
    loop = DirectLoop()
    loop.add_direct_reader(pair.fd, pair.hear)
    loop.close()

    assert not loop.remove_direct_reader(pair.fd)
    with pytest.raises(ValueError, match="closed"):
        loop._direct.fileno()
    assert loop._direct.get_map() is None


def test_forked_child_touches_nothing(pair: Pair, other: Pair) -> None:
    """What a child removes is still watched by its parent, in either way."""

    async def work() -> None:
        loop = here()
        loop.add_direct_reader(pair.fd, pair.hear)
        loop.add_reader(other.fd, other.hear)
        pid = os.fork()
        if not pid:
            loop.remove_direct_reader(pair.fd)
            loop.remove_reader(other.fd)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        pair.send()
        other.send()
        await until(lambda: pair.read and other.read)

    run(work())

    assert pair.read == other.read == [b"x"]
