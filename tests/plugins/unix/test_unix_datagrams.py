"""Datagram sockets: what the kernel does with datagrams, who sent them, and which it does not take."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import producer_pool_unix
from producer_pool.contract.options import coerce
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError, Rejected
from producer_pool.toolkit.datagrams.client import DatagramClient, DatagramClientOptions
from producer_pool.toolkit.datagrams.listener import DatagramListener
from producer_pool_unix.datagrams import UnixDatagramBinding, UnixDatagramDialer, longest_datagram
from support.listening import lines_of
from support.streams import BOUND, FakeIntake, FakeSignals, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SO_PASSCRED")
NOBODY = 65534


def listener(url: str) -> DatagramListener:
    endpoint = Endpoint.parse(url)
    kind = producer_pool_unix.UnixDatagramListenerOptions
    options = coerce(kind, endpoint.options, where=endpoint.scheme)
    return DatagramListener(UnixDatagramBinding(endpoint, options), options)


def client(url: object, **options: int) -> DatagramClient:
    dialer = UnixDatagramDialer(Endpoint.parse(str(url)))
    return DatagramClient(dialer, DatagramClientOptions(**options), protocol_name="unix+dgram")


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a consumer that reads what a test tells it to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "x.sock"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"unix+dgram://{tmp_path}/x.sock"


# -- sending ---------------------------------------------------------------------------------------


async def test_one_datagram_is_one_message(consumer: socket.socket, url: str) -> None:
    """Whatever is in it, and if nothing is."""
    messages = [b"one", b"", b"two\n", b"\0\xff", b"x" * 70_000]
    async with client(url) as sending:
        await sending.send_batch(Batch.of(messages))

    assert [consumer.recv(1 << 20) for _ in messages] == messages
    assert sending.address == url


async def test_full_queue_is_waited_for(consumer: socket.socket, url: str) -> None:
    """Nothing is lost, however slowly the consumer reads, and what comes is in order."""
    messages = [b"%d" % number for number in range(500)]
    one = client(url)
    signals = FakeSignals()
    one.attach(signals)
    await one.connect()
    assert one.start([Batch.of(messages)]) == 1
    written = one.settled().written
    assert 0 < written < 500
    got = [consumer.recv(10)]
    while len(got) < 500:
        await until(lambda: one.settled().written > len(got))
        got.append(consumer.recv(10))
        assert one.settled().written <= len(got) + written + 1
    await until(lambda: signals.writes)
    await one.aclose()

    assert got == messages
    assert signals.errors == []


async def test_consumer_that_ends(consumer: socket.socket, url: str, tmp_path: Path) -> None:
    """The send that finds nobody is not written, and goes out again on the next connection."""
    async with client(url) as one:
        await one.send(b"one")
        consumer.close()
        with pytest.raises(ConnectError, match="connection refused; is it running"):
            await one.send(b"two")
        with pytest.raises(ConnectError, match="connection refused; is it running"):
            await one.send(b"two")
        (tmp_path / "x.sock").unlink()
        with pytest.raises(ConnectError, match="no such file or directory; is it running"):
            await one.send(b"two")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as newer:
            newer.bind(str(tmp_path / "x.sock"))
            await one.send(b"two")

            assert newer.recv(10) == b"two"


async def test_stream_in_its_place(tmp_path: Path, url: str) -> None:
    """The error says which scheme it takes."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(tmp_path / "x.sock"))
        stream.listen()
        with pytest.raises(ConnectError) as caught:
            await client(url).connect()

    assert str(caught.value) == (
        f"{url}: it is a socket of another type than unix+dgram: needs; did you mean unix://{tmp_path}/x.sock?"
    )


async def test_longest_datagram(consumer: socket.socket, url: str) -> None:
    """The longest is sent, and one byte more is Rejected; what comes after it is sent."""
    longest = longest_datagram()
    one = client(url)
    async with one:
        with pytest.raises(Rejected) as caught:
            await one.send_batch(Batch.of([b"a", b"x" * (longest + 1), b"b"]))
        assert caught.value.index == 1
        assert consumer.recv(10) == b"a"
        await one.send(b"x" * longest)
        assert len(consumer.recv(1 << 20)) == longest
        await one.send(b"b")

    assert one.max_message == longest
    assert consumer.recv(10) == b"b"


async def test_system_that_takes_less(
    consumer: socket.socket, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel will never take is Rejected alone: EMSGSIZE is about one message."""
    monkeypatch.setattr("producer_pool_unix.datagrams.longest_datagram", lambda: 1 << 20)
    one = client(url)
    async with one:
        with pytest.raises(Rejected) as caught:
            await one.send_batch(Batch.of([b"a", b"x" * (1 << 20), b"b"]))

        assert caught.value.index == 1
    assert consumer.recv(10) == b"a"


# -- receiving -------------------------------------------------------------------------------------


@pytest.fixture
async def start() -> Any:
    """Return what starts a listener, which is closed at the end."""
    running = []

    async def run(url: str) -> tuple[DatagramListener, FakeIntake]:
        one, intake = listener(url), FakeIntake()
        await one.start(intake)
        running.append(one)
        return one, intake

    yield run
    for one in running:
        await one.aclose()


Start = Callable[[str], Any]


@linux
async def test_origin(start: Start, url: str) -> None:
    """It says which process sent, and whose it is, though that has no address; others, by their own."""
    _, intake = await start(url)
    program = "import socket, sys; socket.socket(1, 2).sendto(b'theirs', sys.argv[1])"
    async with client(url) as one:
        await one.send_batch(Batch.of([b"one", b"two"]))
        path = url.partition("//")[2]
        subprocess.run([sys.executable, "-IS", "-c", program, path], check=True, timeout=BOUND)
        await until(lambda: len(intake.messages) == 3)

    ours = f"{url}?pid={os.getpid()}&uid={os.geteuid()}&gid={os.getegid()}"
    found = {message: batch.origin for batch in intake.batches for message in batch.messages}
    assert found[b"one"] == found[b"two"] == ours
    assert found[b"theirs"] != ours
    assert found[b"theirs"].startswith(f"{url}?pid=")


async def test_everything_fits_by_default(start: Start, url: str) -> None:
    """What a client sends by default, a listener takes by default."""
    _, intake = await start(url)
    longest = longest_datagram()
    async with client(url) as one:
        await one.send(b"x" * longest)
        await until(lambda: intake.messages)

    assert [len(message) for message in intake.messages] == [longest]


async def test_paused_intake_makes_senders_wait(start: Start, url: str) -> None:
    """Nothing is thrown away: what does not fit waits at the sender."""
    listening, intake = await start(url)
    intake.paused = True
    messages = [b"%d" % number for number in range(1000)]
    async with client(url) as one:
        sending = asyncio.create_task(one.send_batch(Batch.of(messages)))
        await until(lambda: intake.asked)
        assert not sending.done()
        intake.resume()
        await sending
        await until(lambda: len(intake.messages) == 1000)

    assert intake.messages == messages
    assert listening.stats.dropped == 0


STRANGER = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect("\\0" + sys.argv[2])
sock.send(b"let me in")
"""


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@pytest.mark.parametrize("allowed", [True, False])
async def test_another_user(start: Start, allowed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What one sends who is not allowed is counted, and not passed on."""
    name = f"producer-pool-dgram-{os.getpid()}-{allowed}"
    listening, intake = await start(f"unix+dgram:@{name}?allow-uid={NOBODY if allowed else NOBODY - 1}")
    command = [sys.executable, "-IS", "-c", STRANGER, str(NOBODY), name]
    subprocess.run(command, check=True, timeout=BOUND)
    await until(lambda: listening.stats.refused or intake.messages)

    assert intake.messages == ([b"let me in"] if allowed else [])
    assert listening.stats.refused == (not allowed)
    assert len(lines_of(caplog)) == (not allowed)


async def test_file_is_private_and_goes_at_the_end(start: Start, url: str, tmp_path: Path) -> None:
    """As that of a stream."""
    listening, _ = await start(url)
    mode = (tmp_path / "x.sock").lstat().st_mode & 0o777
    await listening.aclose()

    assert mode == 0o600
    assert os.listdir(tmp_path) == []
