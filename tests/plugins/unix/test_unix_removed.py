"""Socket files that somebody removes, or puts others in the place of, while they are listened at."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from producer_pool.contract.ports import Listener
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets import renewal
from support.ends import make_client, make_listener
from support.listening import lines_of
from support.streams import FakeIntake, FakeSignals, until

pytestmark = pytest.mark.usefixtures("_look_often")
kinds = pytest.mark.parametrize("scheme", ["unix", "unix+dgram"])


@pytest.fixture
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "_LOOK", 0.01)


class Place:
    """A listener in a folder of its own, and what it takes in."""

    def __init__(self, scheme: str, folder: Path) -> None:
        self.folder = folder / "run"
        self.folder.mkdir()
        self.path = self.folder / "x.sock"
        self.url = f"{scheme}://{self.path}"
        self.kind = socket.SOCK_DGRAM if "dgram" in scheme else socket.SOCK_STREAM
        self.intake = FakeIntake()
        self.listener: Listener = make_listener(self.url)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, self.kind)
        sock.connect(str(self.path))
        return sock

    async def send(self, sock: socket.socket, message: bytes) -> None:
        """Send *message*, and wait until it is there."""
        sock.sendall(message + b"\n")
        await until(lambda: message in self.intake.messages)

    async def back(self) -> None:
        """Wait until there is a file again."""
        await until(self.path.exists)


@pytest.fixture
async def place(scheme: str, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(scheme, tmp_path)
    await place.listener.start(place.intake)
    yield place
    await place.listener.aclose()


@kinds
async def test_file_that_is_removed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is made anew, with its mode, and that is said; at the end it is removed as any other."""
    place.path.unlink()
    await place.back()
    with place.connect() as sock:
        await place.send(sock, b"here I am")

    assert place.path.lstat().st_mode & 0o777 == 0o600
    assert lines_of(caplog) == [f"{place.url}: nobody could come here: its file is gone; it was made anew"]
    await place.listener.aclose()
    assert os.listdir(place.folder) == []


@kinds
async def test_what_was_there_before(place: Place) -> None:
    """Connections go on, and nothing of what has come gets lost."""
    with place.connect() as sock:
        sock.sendall(b"one\n")
        place.path.unlink()
        await place.back()
        await until(lambda: b"one" in place.intake.messages)
        if place.kind == socket.SOCK_STREAM:
            await place.send(sock, b"two")


@pytest.mark.parametrize("scheme", ["unix+dgram"])
async def test_datagrams_that_wait_for_room(place: Place) -> None:
    """Those that are not read yet, since nothing more is taken for now, are kept."""
    place.intake.paused = True
    with place.connect() as sock:
        sock.send(b"one\n")
        place.path.unlink()
        await place.back()
        await until(lambda: b"one" in place.intake.messages)

    assert place.listener.stats.dropped == 0


@kinds
async def test_folder_that_is_removed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, with what to do; when the folder is back, so is the file."""
    shutil.rmtree(place.folder)
    await until(lambda: lines_of(caplog))
    await asyncio.sleep(0.05)
    said = lines_of(caplog)
    place.folder.mkdir()
    await place.back()
    with place.connect() as sock:
        await place.send(sock, b"here I am")

    assert len(said) == 1
    assert "nobody can come here: its file is gone, and it cannot be made anew: " in said[0]
    assert f"{place.folder}; create this directory, or choose another path" in said[0]


@kinds
async def test_file_that_is_replaced(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Who listens there now is left alone, and so is the file at the end; it is said whom to ask."""
    with socket.socket(socket.AF_UNIX, place.kind) as other:
        other.bind(str(place.folder / "other.sock"))
        if place.kind == socket.SOCK_STREAM:
            other.listen()
        os.rename(place.folder / "other.sock", place.path)
        await until(lambda: lines_of(caplog))
        await place.listener.aclose()

        assert place.path.exists()
    assert "another file is in the place of its own, and it cannot be made anew: " in lines_of(caplog)[0]
    assert "somebody listens there already; stop who has it (`ss -xap` names it)" in lines_of(caplog)[0]


@kinds
async def test_listener_that_takes_no_more(place: Place) -> None:
    """One that is about to end makes nothing anew."""
    await place.listener.stop_accepting()
    await place.listener.drain()
    place.path.unlink(missing_ok=True)
    await asyncio.sleep(0.05)

    assert not place.path.exists()


async def test_file_that_consumers_connect_to(tmp_path: Path) -> None:
    """A client that serves makes it anew as well, and keeps who is there."""
    path = tmp_path / "x.sock"
    client = make_client(f"unix+serve://{path}")
    signals = FakeSignals(Ack.WRITTEN)
    client.attach(signals)
    await client.connect()
    consumers = []
    for _ in range(2):
        await until(path.exists)
        consumers.append(socket.socket(socket.AF_UNIX))
        consumers[-1].connect(str(path))
        await until(lambda: client.peers == len(consumers))
        path.unlink()
    client.start([Batch.of([b"all"])])
    for consumer in consumers:
        consumer.settimeout(20)
        assert await asyncio.to_thread(consumer.recv, 10) == b"all\n"
        consumer.close()
    await client.aclose()
