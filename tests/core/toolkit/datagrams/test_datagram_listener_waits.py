"""A datagram listener whose senders can be made to wait."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.datagrams.listener import DatagramListener, DatagramListenerOptions
from producer_pool.toolkit.datagrams.sockets import DatagramBinding
from support.streams import FakeIntake, until


class Patient(DatagramBinding):
    """Sockets whose senders wait for room, unless a test says that they do not."""

    def __init__(self, folder: Path, *, holds_back: bool) -> None:
        self.holds_back = holds_back
        self.address = f"unix:{folder}"
        self.paths = [str(folder / name) for name in ("a", "b")]

    async def bind(self) -> Sequence[socket.socket]:
        sockets = []
        for path in self.paths:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(path)
            sockets.append(sock)
        return sockets

    def endpoint(self, sockets: Sequence[socket.socket]) -> Endpoint:
        return Endpoint.parse(self.address)

    def admit(self, sock: socket.socket, peer: object) -> str:
        return self.address


class Listening:
    """A listener that runs, and a sender for each of its sockets."""

    def __init__(self, folder: Path, *, holds_back: bool) -> None:
        self._binding = Patient(folder, holds_back=holds_back)
        self.listener = DatagramListener(self._binding, DatagramListenerOptions())
        self.intake = FakeIntake()
        self.stats = self.listener.stats
        self.senders: list[socket.socket] = []

    async def start(self) -> None:
        await self.listener.start(self.intake)
        for path in self._binding.paths:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sender.setblocking(False)
            sender.connect(path)
            self.senders.append(sender)

    async def close(self) -> None:
        await self.listener.aclose()
        for sender in self.senders:
            sender.close()


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Listening]:
    listening = Listening(tmp_path, holds_back=True)
    await listening.start()
    yield listening
    await listening.close()


def fill(sender: socket.socket) -> int:
    """Send until there is no room, and return how many went."""
    count = 0
    try:
        while True:
            sender.send(b"%d" % count)
            count += 1
    except BlockingIOError:
        return count


async def test_paused_intake_makes_senders_wait(patient: Listening) -> None:
    """Nothing is read and nothing thrown away while the intake is paused; all of it comes after that."""
    patient.intake.paused = True
    counts = [fill(sender) for sender in patient.senders]
    await until(lambda: patient.intake.asked)
    for _ in range(10):
        await asyncio.sleep(0)

    assert min(counts) > 0
    assert [fill(sender) for sender in patient.senders] == [0, 0]
    assert patient.intake.messages == []
    patient.intake.resume()
    await until(lambda: len(patient.intake.messages) == sum(counts))
    assert patient.stats.dropped == 0
    assert patient.intake.asked == 1


async def test_intake_that_is_full_in_the_middle(patient: Listening, tmp_path: Path) -> None:
    """What was read in the same turn, from another sender, is passed on, however full the intake is."""
    patient.intake.pause_after = 1
    for number, sender in enumerate(patient.senders):
        sender.bind(str(tmp_path / f"sender {number}"))
        sender.connect(str(tmp_path / "a"))
        sender.send(b"%d" % number)
    await until(lambda: patient.intake.batches)
    patient.senders[0].send(b"later")
    await until(lambda: patient.intake.asked)

    assert patient.intake.messages == [b"0", b"1"]
    patient.intake.resume()
    await until(lambda: patient.intake.messages == [b"0", b"1", b"later"])
    assert patient.stats.dropped == 0


async def test_socket_that_could_not_be_read_while_paused(patient: Listening) -> None:
    """It is looked at again when the intake takes something again, and not in each turn until then."""
    turns = 0
    turn = patient.listener._turn

    def count(port: Any) -> None:
        nonlocal turns
        turns += 1
        turn(port)

    patient.listener._turn = count  # type: ignore[method-assign]
    first, second = patient.senders
    patient.listener._wait(patient.listener._ports[0], OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    again = asyncio.get_running_loop().time() + 0.15
    patient.intake.paused = True
    first.send(b"one")
    second.send(b"two")
    await until(lambda: patient.intake.asked)
    await until(lambda: asyncio.get_running_loop().time() > again)

    assert turns <= 2
    patient.intake.resume()
    await until(lambda: sorted(patient.intake.messages) == [b"one", b"two"])


async def test_others_are_read_and_counted(tmp_path: Path) -> None:
    """The control: whose senders cannot be made to wait goes on reading, and counts what it throws away."""
    hasty = Listening(tmp_path, holds_back=False)
    await hasty.start()
    hasty.intake.paused = True
    count = fill(hasty.senders[0])
    await until(lambda: hasty.stats.dropped == count)
    hasty.intake.resume()
    await hasty.close()

    assert hasty.intake.messages == []


@pytest.mark.parametrize("end", ["drain", "aclose"])
async def test_end_while_paused(patient: Listening, end: str) -> None:
    """Draining waits for the intake and reads on; closing does neither."""
    patient.intake.paused = True
    patient.senders[0].send(b"late")
    await until(lambda: patient.intake.asked)
    if end == "drain":
        draining = asyncio.create_task(patient.listener.drain())
        await until(lambda: patient.intake.asked == 2)
        patient.intake.resume()
        await draining
    await patient.listener.aclose()
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert patient.intake.messages == ([b"late"] if end == "drain" else [])
