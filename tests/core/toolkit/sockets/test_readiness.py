"""One descriptor that stands for many."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

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
