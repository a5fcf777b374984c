"""The unix plugin: all ends of all schemes, from the URL to the message."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import producer_pool_unix
from producer_pool.contract.transport import Transport
from producer_pool.model.batch import Batch
from producer_pool.model.errors import InvalidEndpoint, InvalidOption, ListenError, SendError
from producer_pool.model.outcomes import Ack
from support.ends import make_client, make_listener, many_talk, said_by
from support.streams import FakeIntake, FakeSignals, receive, receive_all, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ, names without files")

TRANSPORTS: dict[str, Transport] = {
    scheme: transport
    for transport in producer_pool_unix.producer_pool_transports()
    for scheme in transport.schemes
}


def test_levels_of_the_platform() -> None:
    """Linux tells what a process has read of a stream, and a consumer that we connect to may acknowledge."""
    expected = {Ack.WRITTEN, Ack.KERNEL} if sys.platform == "linux" else {Ack.WRITTEN}

    assert {scheme: transport.acks for scheme, transport in TRANSPORTS.items()} == {
        "unix": expected | {Ack.APP},
        "unix+dgram": {Ack.WRITTEN},
        "unix+serve": expected,
    }


def test_all_are_ordered() -> None:
    """unix(7): datagrams, too, are reliable, and do not overtake each other."""
    assert [transport.ordered for transport in TRANSPORTS.values()] == [True] * 3


@pytest.mark.parametrize("framing", ["lines", "nul", "length4", "octet-counting"])
@pytest.mark.parametrize("form", ["unix://{tmp}/x.sock", "unix:{tmp}/x.sock", "unix:@pool-{pid}-{framing}"])
async def test_stream_both_ends(form: str, framing: str, tmp_path: Path) -> None:
    """Messages arrive as they were sent, in every framing, at a file and at a name without one."""
    if "@" in form and sys.platform != "linux":
        pytest.skip("needs Linux: names without files")
    url = form.format(tmp=tmp_path, pid=os.getpid(), framing=framing)
    listener = make_listener(f"{url}?framing={framing}")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"{endpoint}")
    async with client:
        await client.send_batch(Batch.of([b"one", b"\xff two", b"three"]))
        await until(lambda: len(intake.messages) == 3)
    await listener.aclose()

    assert intake.messages == [b"one", b"\xff two", b"three"]
    assert client.address == url
    assert os.listdir(tmp_path) == []


@linux
async def test_kernel_is_what_was_read(tmp_path: Path) -> None:
    """A message counts when the other process has read it, and not when the kernel has it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x.sock"))
        listening.listen()
        client = make_client(f"unix://{tmp_path}/x.sock")
        client.attach(FakeSignals(Ack.KERNEL))
        await client.connect()
        peer, _ = listening.accept()
    with peer:
        for message in (b"one", b"two", b"three"):
            client.start([Batch.of([message])])

        assert client.settled() == (3, 0)
        peer.recv(4)
        assert client.settled() == (3, 1)
        peer.recv(6)
        assert client.settled() == (3, 2)
        peer.recv(100)
        assert client.settled() == (3, 3)
    await client.aclose()


@linux
@pytest.mark.parametrize(
    "read,looks,confirmed",
    [
        (b"", True, 0),
        (b"one\n", True, 1),
        (b"one\n", False, 0),  # it may be: the kernel says only that something was thrown away
        (b"one\ntwo", True, 1),
        (b"one\ntwo\n", False, 2),  # nothing was
    ],
)
async def test_consumer_closes(tmp_path: Path, read: bytes, looks: bool, confirmed: int) -> None:
    """What it was seen to read counts after its end, and all, if nothing was thrown away; never more."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x.sock"))
        listening.listen()
        client = make_client(f"unix://{tmp_path}/x.sock")
        signals = FakeSignals(Ack.KERNEL)
        client.attach(signals)
        await client.connect()
        peer, _ = listening.accept()
    with peer:
        for message in (b"one", b"two"):
            client.start([Batch.of([message])])
        assert peer.recv(len(read)) == read
        if looks:
            client.settled()
    await until(lambda: signals.errors)

    assert client.settled() == (2, confirmed)
    assert isinstance(signals.errors[0], SendError)
    await client.aclose()
    assert client.settled() == (2, confirmed)


async def test_client_that_stops_inside_a_message(tmp_path: Path) -> None:
    """There is no reset here: the stream ends in good order, and the half message is not passed on."""
    listener = make_listener(f"unix://{tmp_path}/x.sock")
    intake = FakeIntake(paused=True)
    await listener.start(intake)
    client = make_client(f"unix://{tmp_path}/x.sock")
    client.attach(FakeSignals())
    await client.connect()
    assert client.start([Batch.of([b"x" * 99_999] * 20)]) == 1
    whole = client.settled().written
    assert 0 < whole < 20
    await client.aclose()
    intake.resume()
    await until(lambda: listener.stats.tails)
    await listener.aclose()

    assert intake.messages == [b"x" * 99_999] * whole


async def test_listener_that_is_in_use(tmp_path: Path) -> None:
    """A second one says so, and the first one goes on; closed, it makes room."""
    first, second = make_listener(f"unix://{tmp_path}/x.sock"), make_listener(f"unix://{tmp_path}/x.sock")
    await first.start(FakeIntake())
    with pytest.raises(ListenError, match="somebody listens there already"):
        await second.start(FakeIntake())
    await second.aclose()
    await first.aclose()
    endpoint = await second.start(FakeIntake())
    await second.aclose()

    assert str(endpoint) == f"unix://{tmp_path}/x.sock"


async def test_those_who_connected_before_the_end(tmp_path: Path) -> None:
    """What they sent is read, though nobody may connect any more."""
    listener = make_listener(f"unix://{tmp_path}/x.sock")
    intake = FakeIntake()
    await listener.start(intake)
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(tmp_path / "x.sock"))
        early.send(b"early\n")
        await listener.stop_accepting()
        with pytest.raises(FileNotFoundError):
            late.connect(str(tmp_path / "x.sock"))
        await listener.drain()
        await listener.aclose()

    assert intake.messages == [b"early"]


@linux
async def test_stranger_is_refused_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of somebody who is not allowed is closed, and nothing is read from it."""
    listener = make_listener(f"unix:@pool-{os.getpid()}")
    intake = FakeIntake()
    await listener.start(intake)
    # To this listener, we are somebody else.
    monkeypatch.setattr("producer_pool_unix.place.may_come", lambda who, allowed: False)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0pool-{os.getpid()}")
        sock.send(b"let me in\n")
        await until(lambda: listener.stats.refused == 1)
        sock.setblocking(False)
        with pytest.raises(ConnectionResetError):
            await receive_all(sock)
    await listener.aclose()

    assert intake.messages == []
    assert listener.stats.accepted == 0


async def test_many_clients_and_one_listener(tmp_path: Path) -> None:
    """Each client's messages arrive in order, all at once."""
    intake = await many_talk(f"unix://{tmp_path}/x.sock", 50)

    for number in range(50):
        mine = [message for message in intake.messages if message.startswith(b"%d " % number)]
        assert mine == said_by(number)


async def test_served_consumers(tmp_path: Path) -> None:
    """Those who connect get what is sent after that, and count when all of them have read it."""
    client = make_client(f"unix+serve://{tmp_path}/x.sock?min-peers=2&mode=0660")
    signals = FakeSignals(max(client.acks))
    client.attach(signals)
    await client.connect()
    assert (tmp_path / "x.sock").lstat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        for sock in (one, two):
            sock.connect(str(tmp_path / "x.sock"))
            sock.setblocking(False)
        await until(lambda: client.peers == 2)
        while not client.start([Batch.of([b"hello", b"both"])]):
            await asyncio.sleep(0)

        assert await receive(one, 11) == b"hello\nboth\n"
        assert client.settled().confirmed == (2 if max(client.acks) is Ack.WRITTEN else 0)
        assert await receive(two, 11) == b"hello\nboth\n"
        await until(lambda: client.settled() == (2, 2))
    await client.aclose()

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [make_client, make_listener])
@pytest.mark.parametrize("scheme", ["unix", "unix+dgram"])
def test_urls_that_name_no_socket(make: Any, scheme: str) -> None:
    """Each is an error that says what to write, and keeps the password to itself."""
    with pytest.raises(InvalidEndpoint, match="leave out '@' and what stands before it") as caught:
        make(f"{scheme}://user:secret@run/x.sock")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "make,url,wrong",
    [
        (make_client, "unix:///run/x?mode=0600", "unix has no option mode"),
        (make_client, "unix:///run/x?max-message=0", "max-message must be at least 1 byte"),
        (make_client, "unix+dgram:///run/x?framing=lines", r"unix\+dgram has no option framing"),
        (make_client, "unix+dgram:///run/x?max-message=1GiB", "max-message must be from 1 byte to"),
        (make_client, "unix+serve:///run/x?mode=999", "option mode"),
        (make_listener, "unix:///run/x?mode=rw", "option mode"),
        (make_listener, "unix:///run/x?idle-timeout=-1s", "idle-timeout"),
        (make_listener, "unix+dgram:///run/x?tail=deliver", r"unix\+dgram has no option tail"),
    ],
)
def test_options_that_are_wrong(make: Any, url: str, wrong: str) -> None:
    """Each is an error that names the option."""
    with pytest.raises(InvalidOption, match=wrong):
        make(url)
