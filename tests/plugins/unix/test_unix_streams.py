"""Stream sockets: reaching one, and who reaches us."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError
from producer_pool.toolkit.streams.progress import UNIX_ACKS
from producer_pool_unix.place import PlaceOptions
from producer_pool_unix.streams import UnixBinding, UnixDialer
from support.listening import lines_of
from support.streams import BOUND, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SO_PEERCRED, names without files")
NOBODY = 65534


def dialer(url: object) -> UnixDialer:
    return UnixDialer(Endpoint.parse(str(url)))


def binding(url: str) -> UnixBinding:
    endpoint = Endpoint.parse(url)
    return UnixBinding(endpoint, coerce(PlaceOptions, endpoint.options, where=endpoint.scheme))


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x.sock"))
        listening.listen()
        yield listening


# -- reaching a consumer ---------------------------------------------------------------------------


async def test_connected(consumer: socket.socket, tmp_path: Path) -> None:
    """The socket does not wait, and what tells how far it got belongs to it."""
    one = dialer(f"unix://{tmp_path}/x.sock?framing=nul")
    sock = await one.dial(1)
    taken, _ = consumer.accept()
    with sock, taken:
        assert sock.gettimeout() == 0
        assert one.address == f"unix://{tmp_path}/x.sock"
        assert one.acks == UNIX_ACKS
        sock.send(b"x")
        assert taken.recv(1) == b"x"
        assert one.progress(sock).acknowledged(0) == 0


@pytest.mark.parametrize(
    "name,wrong",
    [
        ("none", "no such file or directory; is it running?"),
        ("left", "connection refused; is it running?"),
        ("file", "another file is there, and no socket; name that of the consumer"),
        ("folder", "a directory is there, and no socket; name that of the consumer"),
        ("dgram", r"it is a socket of another type than unix: needs; did you mean unix\+dgram:///.*/dgram\?"),
    ],
)
async def test_nobody_there(tmp_path: Path, name: str, wrong: str) -> None:
    """The error says what is there instead, or that nothing is."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dgram:
        dgram.bind(str(tmp_path / "dgram"))
        with pytest.raises(ConnectError, match=wrong) as caught:
            await dialer(f"unix://{tmp_path}/{name}").dial(1)

    assert str(caught.value).startswith(f"unix://{tmp_path}/{name}: ")


async def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says who would have to be allowed to do what."""

    class Refused(socket.socket):
        def connect_ex(self, address: object) -> int:
            return errno.EACCES

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(ConnectError) as caught:
        await dialer("unix:///run/x.sock").dial(1)

    assert str(caught.value) == (
        f"unix:///run/x.sock: permission denied; uid {os.geteuid()} has to be allowed to write to it, "
        "and to search the directories above it"
    )


async def test_consumer_with_many_waiting_connections(tmp_path: Path, consumer: socket.socket) -> None:
    """It is waited for as long as an attempt may take, as a socket that waits would."""
    consumer.listen(0)
    one = dialer(f"unix://{tmp_path}/x.sock")
    first = await one.dial(BOUND)
    second = asyncio.create_task(one.dial(BOUND))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    consumer.accept()[0].close()
    (await second).close()
    first.close()


async def test_consumer_that_accepts_no_more(tmp_path: Path, consumer: socket.socket) -> None:
    """The wait has an end."""
    consumer.listen(0)
    one = dialer(f"unix://{tmp_path}/x.sock")
    with await one.dial(BOUND), pytest.raises(ConnectError, match="does not take the connections that wait"):
        await one.dial(0.05)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Return the sockets that are made from now on, those of the test's loop first."""
    sockets: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *arguments: int, **options: int) -> None:
            super().__init__(*arguments, **options)
            sockets.append(self)

    monkeypatch.setattr(socket, "socket", Noted)
    return sockets


async def test_cancelled(tmp_path: Path, consumer: socket.socket, made: list[socket.socket]) -> None:
    """A call that is cancelled leaves no socket open."""
    consumer.listen(0)
    one = dialer(f"unix://{tmp_path}/x.sock")
    with await one.dial(BOUND):
        made.clear()
        waiting = asyncio.create_task(one.dial(BOUND))
        await until(lambda: made)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert [sock.fileno() for sock in made] == [-1]


async def test_batch_goes_at_once(tmp_path: Path, consumer: socket.socket) -> None:
    """What a listener reads at once, up to 256 KiB, a client writes at once, however late it is read."""
    with await dialer(f"unix://{tmp_path}/x.sock").dial(1) as sock:
        taken, _ = consumer.accept()
        with taken:
            assert sock.send(bytes(256 * 1024)) == 256 * 1024


# -- who reaches us --------------------------------------------------------------------------------


async def test_listening(tmp_path: Path) -> None:
    """At the URL that was asked for, until it is let go; then the file is gone."""
    one = binding(f"unix://{tmp_path}/x.sock?mode=0660")
    (sock,) = await one.bind()
    with sock:
        assert sock.gettimeout() == 0
        assert str(one.endpoint([sock])) == f"unix://{tmp_path}/x.sock?mode=0660"
        assert one.address == f"unix://{tmp_path}/x.sock"
        one.release()
        assert not (tmp_path / "x.sock").exists()


@linux
async def test_origin(tmp_path: Path) -> None:
    """It says which process connected, and whose it is."""
    one = binding(f"unix://{tmp_path}/x.sock")
    (listening,) = await one.bind()
    with listening, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "x.sock"))
        taken, peer = listening.accept()
        with taken:
            origin = one.admit(taken, peer)
        one.release()

    assert origin == (f"unix://{tmp_path}/x.sock?pid={os.getpid()}&uid={os.geteuid()}&gid={os.getegid()}")


@pytest.mark.parametrize("sends", [True, False])
async def test_room_for_consumers_that_connect(tmp_path: Path, sends: bool) -> None:
    """A connection that is written to has room for a batch; one that is only read keeps the default."""
    endpoint = Endpoint.parse(f"unix://{tmp_path}/x.sock")
    one = UnixBinding(endpoint, PlaceOptions(), sends=sends)
    (listening,) = await one.bind()
    with listening, socket.socket(socket.AF_UNIX) as sock:
        default = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        sock.connect(str(tmp_path / "x.sock"))
        taken, peer = listening.accept()
        with taken:
            one.admit(taken, peer)
            room = taken.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        one.release()

    assert (room > 256 * 1024) if sends else (room == default)


async def test_socket_is_closed_if_it_cannot_be_bound(tmp_path: Path, made: list[socket.socket]) -> None:
    """Nothing stays open."""
    made.clear()
    with pytest.raises(OSError, match="no such file or directory"):
        await binding(f"unix://{tmp_path}/none/x.sock").bind()

    assert [sock.fileno() for sock in made] == [-1]


STRANGER = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
for _ in range(3):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\\0" + sys.argv[2])
print("connected")
"""


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@pytest.mark.parametrize("allowed", [True, False])
async def test_another_user(
    allowed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One who is not allowed is refused, by what the kernel says, and one line says who it was."""
    name = f"producer-pool-{os.getpid()}-{allowed}"
    one = binding(f"unix:@{name}?allow-uid={NOBODY if allowed else NOBODY - 1}")
    (listening,) = await one.bind()
    with listening:
        command = [sys.executable, "-IS", "-c", STRANGER, str(NOBODY), name]
        subprocess.run(command, check=True, timeout=BOUND)
        # All within one second, however slow this machine is.
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)
        origins = []
        for _ in range(3):
            taken, peer = listening.accept()
            with taken:
                origins.append(one.admit(taken, peer))

    if allowed:
        assert all(f"uid={NOBODY}&" in str(origin) for origin in origins)
        assert lines_of(caplog) == []
    else:
        assert origins == [None] * 3
        (line,) = lines_of(caplog)
        assert line.startswith(f"unix:@{name}: connection refused: pid=")
        assert line.endswith(f"uid={NOBODY}&gid=0 is not allowed; see allow-uid")


@linux
async def test_refused_connections_are_told_once_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many there are, there is one line, and the next one counts those in between."""
    one = binding("unix:@name")
    monkeypatch.setattr(one._place, "origin", lambda who: None)
    now = [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert [one.admit(ours, "") for _ in range(5)] == [None] * 5
        now[0] = 2.0
        one.admit(ours, "")

    first, second = lines_of(caplog)
    assert first.endswith("is not allowed; see allow-uid")
    assert second.endswith("is not allowed; see allow-uid (and 4 more like this)")
