"""Who is at the other end of a socket, and who may come."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from producer_pool_unix.credentials import CREDENTIALS_SIZE, Credentials, may_come, peer_of, sender_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SO_PEERCRED")
OURS = Credentials(os.getpid(), os.getuid(), os.getgid())


@linux
def test_peer_of_a_stream() -> None:
    """The kernel says who connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == OURS


@linux
def test_sender_of_a_datagram() -> None:
    """The kernel says it with each datagram."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs.send(b"x")
        _, ancillary, flags, _ = ours.recvmsg(10, CREDENTIALS_SIZE)

        assert sender_of(ancillary) == OURS
        assert not flags & socket.MSG_CTRUNC


def test_datagram_without_a_sender() -> None:
    """Other data that comes with a datagram says nothing."""
    assert sender_of([]) is None
    assert sender_of([(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0" * 12)]) is None


def test_elsewhere_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of Linux there is no way that Python has."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.socket(socket.AF_UNIX) as sock:
        assert peer_of(sock) is None


@pytest.mark.parametrize(
    "uid,allowed,may",
    [
        (1000, None, True),
        (1000, (), False),
        (1000, (1000,), True),
        (1001, (1000, 1002), False),
        (0, (), True),
        (500, (), True),
    ],
)
def test_who_may_come(monkeypatch: pytest.MonkeyPatch, uid: int, allowed: tuple[int, ...], may: bool) -> None:
    """Everybody, if nobody is asked; else those who are named, our own user (500 here), and root."""
    monkeypatch.setattr(os, "geteuid", lambda: 500)

    assert may_come(Credentials(1, uid, uid), allowed) is may


def test_who_says_nothing() -> None:
    """May come only where nobody is asked."""
    assert may_come(None, None)
    assert not may_come(None, (1000,))


def test_credentials_are_options_of_a_url() -> None:
    """So they stand in the origin of a batch."""
    assert str(Credentials(4711, 1000, 100)) == "pid=4711&uid=1000&gid=100"
