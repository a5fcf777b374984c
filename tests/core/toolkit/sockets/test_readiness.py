"""One descriptor that stands for many."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from producer_pool.toolkit.sockets.readiness import Readiness, _Epoll, _Selector


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


class Guessing:
    """A poller that is asked who is ready as a listener does, and counts how often that was looked at."""

    def __init__(self) -> None:
        self.ready = Readiness()
        self.looks = 0
        poll = self.ready.poll

        def look() -> Sequence[int]:
            self.looks += 1
            return poll()

        self.ready.poll = look
        self.pairs = [socket.socketpair() for _ in range(2)]
        self.fds = [ours.fileno() for ours, _ in self.pairs]
        for fd in self.fds:
            self.ready.add(fd)

    def told(self, which: int, times: int = 1) -> list[list[int]]:
        """Return what is told when one of the two is ready, so often in a row."""
        ours, theirs = self.pairs[which]
        theirs.send(b"x")
        found = [list(self.ready.guess()) for _ in range(times)]
        ours.recv(1)
        return found

    def close(self) -> None:
        self.ready.close()
        for one in (sock for pair in self.pairs for sock in pair):
            one.close()


@pytest.fixture
def guessing() -> Iterator[Guessing]:
    made = Guessing()
    yield made
    made.close()


def test_always_the_same_one(guessing: Guessing) -> None:
    """Nobody looks each time, and everybody's turn comes: one look in nine."""
    told = guessing.told(0, 100)

    assert told == [[guessing.fds[0]]] * 100
    assert guessing.looks == 5 + 95 // 9
    assert [guessing.fds[1]] in guessing.told(1, 9)


def test_one_after_the_other(guessing: Guessing) -> None:
    """Where that is not always the same one, it is looked at each time."""
    told = [guessing.told(turn % 2)[0] for turn in range(40)]

    assert told == [[fd] for fd in guessing.fds] * 20
    assert guessing.looks == 40


@pytest.mark.parametrize("what", ["doubt", "watch", "remove"])
def test_reason_to_look(guessing: Guessing, what: str) -> None:
    """A guess that was wrong, and any change of who is looked at, ends the guessing."""
    guessing.told(0, 10)
    if what == "doubt":
        guessing.ready.doubt()
    elif what == "watch":
        guessing.ready.watch(guessing.fds[0], read=False, write=False)
    else:
        guessing.ready.remove(guessing.fds[0])

    assert guessing.told(1) == [[guessing.fds[1]]]
