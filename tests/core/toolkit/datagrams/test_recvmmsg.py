"""Many datagrams by one system call: that they, and who sent them, come as by Python's own method."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.datagrams import listener, receiving
from producer_pool.toolkit.datagrams.receiving import Arrivals, OneByOne
from producer_pool.toolkit.datagrams.sockets import Ancillary, DatagramBinding
from producer_pool.toolkit.datagrams.udp import UdpBinding, UdpListenerOptions

if sys.platform != "linux":
    pytest.skip("needs Linux: recvmmsg()", allow_module_level=True)

from producer_pool.toolkit.datagrams import recvmmsg
from producer_pool.toolkit.datagrams.recvmmsg import ManyAtOnce

ROOM = 65_538
SEGMENT = (socket.IPPROTO_UDP, 103)
GRO = (socket.IPPROTO_UDP, 104)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many are read at once however few came before, unless a test is about that."""
    monkeypatch.setattr(recvmmsg, "_FEW", 0)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def udp(opened: ExitStack, host: str = "127.0.0.1") -> tuple[UdpBinding, socket.socket]:
    """Return a binding, and a socket as it would open it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    binding = UdpBinding(Endpoint.parse("udp://127.0.0.1:0"), UdpListenerOptions())
    sock = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    sock.setblocking(False)
    sock.bind((host, 0))
    sock.setsockopt(*GRO, 1)
    return binding, sock


def connected(opened: ExitStack, to: socket.socket) -> socket.socket:
    sock = opened.enter_context(socket.socket(to.family, socket.SOCK_DGRAM))
    sock.connect(to.getsockname())
    return sock


def received(way: ManyAtOnce | OneByOne, sock: socket.socket) -> Arrivals:
    arrivals = Arrivals()
    way.receive(sock, arrivals)
    return arrivals


def test_it_is_what_listeners_use(opened: ExitStack) -> None:
    """Where it works."""
    binding, _ = udp(opened)

    assert ManyAtOnce.works()
    assert isinstance(listener.receiver(binding, ROOM), ManyAtOnce)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_sandbox_without_it(opened: ExitStack, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There datagrams are read one by one."""
    binding, _ = udp(opened)
    monkeypatch.setattr("producer_pool.toolkit.datagrams.recvmmsg._recvmmsg", lambda *_: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: code)

    assert isinstance(listener.receiver(binding, ROOM), OneByOne)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_same_as_one_by_one(opened: ExitStack, host: str) -> None:
    """Senders and their messages are those that Python's own method tells, mixed and in a row."""
    binding, sock = udp(opened, host)
    senders = [connected(opened, sock) for _ in range(3)]
    found = []
    for way in (ManyAtOnce(binding, ROOM), OneByOne(binding, ROOM)):
        for number in range(40):
            senders[min(number % 5, 2)].send(b"%d" % number * (number % 7))
        found.append(received(way, sock))
    many, one = found

    assert list(many.by_peer.items()) == list(one.by_peer.items())
    assert set(many.by_peer) >= {sender.getsockname() for sender in senders}
    assert (many.datagrams, many.nbytes) == (one.datagrams, one.nbytes) == (40, one.nbytes)


def test_nothing_is_left_of_the_turn_before(opened: ExitStack) -> None:
    """Neither bytes, nor that the kernel had joined something."""
    binding, sock = udp(opened)
    sender = connected(opened, sock)
    way = ManyAtOnce(binding, ROOM)
    sender.sendmsg([b"x" * 1000], [(*SEGMENT, (100).to_bytes(2, sys.byteorder))])
    joined = received(way, sock)
    sender.send(b"y" * 500)
    sender.send(b"")
    single = received(way, sock)

    assert joined.by_peer == {sender.getsockname(): [b"x" * 100] * 10}
    assert single.by_peer == {sender.getsockname(): [b"y" * 500, b""]}
    assert received(way, sock).by_peer == {}


def test_turn_of_long_datagrams(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are read than a turn's worth of bytes, though there is room for more; the rest waits."""
    monkeypatch.setattr(receiving, "TURN", 10_000)
    monkeypatch.setattr(recvmmsg, "TURN", 10_000)
    binding, sock = udp(opened)
    sender = connected(opened, sock)
    way = ManyAtOnce(binding, ROOM)
    for _ in range(20):
        sender.send(b"x" * 4000)
    turns = [received(way, sock).datagrams for _ in range(8)]

    assert turns == [3, 3, 3, 3, 3, 3, 2, 0]


def test_few_datagrams(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a turn with few of them they are read one by one, until more come again."""
    monkeypatch.setattr(recvmmsg, "_FEW", 4)
    binding, sock = udp(opened)
    sender = connected(opened, sock)
    way = ManyAtOnce(binding, ROOM)
    alone: list[bool] = []
    monkeypatch.setattr(way._one_by_one, "receive", lambda *_: alone.append(True))
    sender.send(b"few")
    received(way, sock)
    received(way, sock)
    assert alone == [True]
    monkeypatch.undo()
    for _ in range(10):
        sender.send(b"many")
    received(way, sock)
    monkeypatch.setattr(way._one_by_one, "receive", lambda *_: alone.append(True))
    received(way, sock)

    assert alone == [True]


def test_error_of_the_kernel(opened: ExitStack) -> None:
    """It is raised as Python's own method would."""
    binding, _ = udp(opened)
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        received(ManyAtOnce(binding, ROOM), closed)


class Told(DatagramBinding):
    """Sockets of this machine of which the kernel says who sends: it is noted what was told."""

    ancillary = socket.CMSG_SPACE(12)
    address = "unix:"

    def __init__(self) -> None:
        self.told: list[Ancillary] = []

    async def bind(self) -> Sequence[socket.socket]:
        raise NotImplementedError

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        raise NotImplementedError

    def admit(self, sock: socket.socket, peer: object) -> str | None:
        raise NotImplementedError

    def accompanied(self, peer: object, ancillary: Ancillary) -> tuple[object, int]:
        self.told.append(list(ancillary))
        return "somebody", 0


def test_what_comes_with_it(opened: ExitStack) -> None:
    """The binding is told the same of credentials, for a row of datagrams once."""
    told = []
    for kind in (ManyAtOnce, OneByOne):
        binding = Told()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (ours, theirs):
            opened.enter_context(end)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for _ in range(3):
            theirs.send(b"message")
        arrivals = received(kind(binding, ROOM), ours)
        assert arrivals.by_peer == {"somebody": [b"message"] * 3}
        told.append(binding.told)
    many, one = told

    assert many == one[:1]
    assert one == many * 3
    assert one[0][0][:2] == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
