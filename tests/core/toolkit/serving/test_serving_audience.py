"""All peers together: how many there may be, what one costs another, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.serving.options import PeerOverflow, ServingOptions
from producer_pool.toolkit.serving.peer import Peer
from support.descriptors import descriptors
from support.listening import lines_of
from support.sending import LEVELS, needs_kernel
from support.serving import Served, serving
from support.streams import is_reset, receive, receive_all, reset, until

levels = pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)

KiB = 1024
BIG = 64 * 1024 * KiB
SMALL = 4 * KiB


# -- how many --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unhurried")
async def test_one_peer_too_many(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused, counted and said; when one of the others leaves, there is room again."""
    async with Served(serving(ServingOptions(max_peers=2))) as served:
        first, second = await served.join(), await served.join()
        refused = [served.dial() for _ in range(20)]
        await until(lambda: served.client.stats.refused == 20)

        assert await is_reset(refused[0])
        assert len([line for line in lines_of(caplog) if "see max-peers" in line]) == 1
        first.close()
        await until(lambda: served.client.peers == 1)
        third = await served.join()
        await served.send(b"one")
        assert await receive(third, 4) == await receive(second, 4) == b"one\n"


@levels
async def test_two_hundred_peers(ack: Ack) -> None:
    """Each gets everything in order, though many come and go meanwhile."""
    async with Served(serving(), ack) as served:
        stay = [await served.join() for _ in range(200)]
        for number in range(100):
            passing = served.dial()
            await served.send(b"%d" % number, b"and")
            await asyncio.sleep(0)
            passing.close()
        expected = b"".join(b"%d\nand\n" % number for number in range(100))
        streams = await asyncio.gather(*(receive(peer, len(expected)) for peer in stay))
        await until(lambda: served.client.settled() == (200, 200) and served.client.peers == 200)

        assert set(streams) == {expected}
        assert served.signals.refused == []


async def test_peers_that_come_and_go_leave_nothing_behind() -> None:
    """No descriptor, no task, no object; whichever way they go."""
    loop = asyncio.get_running_loop()
    async with Served(serving(ServingOptions(peer_buffer=4 * BIG))) as served:
        stays = await served.join()
        reading = asyncio.ensure_future(receive_all(stays))
        tasks = len(asyncio.all_tasks())
        before = descriptors()
        for number in range(30):
            peer = await served.join(SMALL)
            if number % 3 == 0:
                await loop.sock_sendall(peer, b"hello")
            await served.send(b"x" * 5_000_000)
            if number % 3 == 1:
                reset(peer)
            peer.close()
            await asyncio.sleep(0)
        audience = served.client._audience
        await until(lambda: len(audience._peers) == 1 and served.written == 30)

        assert served.client.peers == 1
        assert not audience._behind
        assert not audience._coverage._lost
        assert len(audience._coverage._since) == 1
        assert descriptors() <= before
        assert len(asyncio.all_tasks()) == tasks
        await served.client.aclose()
        assert (await reading).count(b"\n") == 30


async def test_patience_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a microsecond gets as little as the loop can look at without doing nothing else."""
    loop = asyncio.get_running_loop()
    looks: list[float] = []
    call_later = loop.call_later
    async with Served(serving(ServingOptions(peer_timeout=1e-6))) as served:

        def noted(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
            if callback == served.client._audience._sweep:
                looks.append(delay)
            return call_later(delay, callback, *args)

        monkeypatch.setattr(loop, "call_later", noted)
        await served.join(SMALL)
        await served.send(b"x" * 20_000_000)
        await until(lambda: served.client.stats.evicted == 1 and looks)

        assert min(looks) >= 0.01


async def test_client_leaves_nothing_behind() -> None:
    """Closed and connected again, many times, with peers in every state."""
    client = serving(ServingOptions(peer_buffer=BIG))
    tasks = len(asyncio.all_tasks())
    before = descriptors()
    for _ in range(5):
        async with Served(client) as served:
            quiet, slow, talks = [await served.join(SMALL) for _ in range(3)]
            await asyncio.get_running_loop().sock_sendall(talks, b"hello")
            waits = served.dial()
            await served.send(b"x" * 20_000_000)
            closing = asyncio.ensure_future(client.aclose())
            await asyncio.sleep(0)
            for peer in (quiet, slow, talks, waits):
                peer.close()
            await closing
    gc.collect()

    assert descriptors() <= before
    assert len(asyncio.all_tasks()) == tasks


# -- one and the others ----------------------------------------------------------------------------


@needs_kernel
async def test_kernel_is_asked_once_for_a_laggard() -> None:
    """While one peer holds all back, a look at what is confirmed costs one question, and not one for each."""
    async with Served(serving(ServingOptions(peer_buffer=BIG)), Ack.KERNEL) as served:
        for _ in range(20):
            await served.join(SMALL)
        await served.send(b"x" * 20_000_000)
        served.client.settled()
        asked = 0
        for peer in served.client._audience.members:
            original = peer.acknowledged

            def acknowledged(total: int, original: Callable[[int], int] = original) -> int:
                nonlocal asked
                asked += 1
                return original(total)

            peer.acknowledged = acknowledged  # type: ignore[method-assign]
        for _ in range(10):
            assert served.confirmed == 0

        assert asked == 10


async def test_nothing_is_remembered_of_what_is_settled() -> None:
    """However often peers leave and drop, what is known of that is forgotten with its messages."""
    options = ServingOptions(peer_buffer=64 * KiB, peer_overflow=PeerOverflow.DROP_OLDEST, peer_timeout=1.0)
    async with Served(serving(options)) as served:
        stays = await served.join(SMALL)
        for _ in range(10):
            peer = await served.join(SMALL)
            for _ in range(100):
                await served.send(b"x" * 10 * KiB)
            peer.close()
        reading = asyncio.ensure_future(receive_all(stays))
        await until(lambda: served.written == 1000)
        coverage = served.client._audience._coverage

        assert served.client.stats.missed > 0
        await until(lambda: not coverage._got and not coverage._losers and not any(coverage._lost.values()))
        reading.cancel()


async def test_turns_are_shared() -> None:
    """After some megabytes to all peers together the client asks for a turn of others."""
    async with Served(serving(ServingOptions(peer_buffer=BIG))) as served:
        for _ in range(50):
            await served.join()
        batch = Batch.of([b"x" * 100_000])
        taken = served.start([batch] * 64)
        told = served.signals.writes

        assert 0 < taken < 64
        assert served.start([batch]) == 0
        await until(lambda: served.signals.writes > told)
        assert served.start([batch]) == 1


async def test_small_sends_to_many_count_too() -> None:
    """A thousand bytes are nothing, and a thousand sends are not."""
    async with Served(serving()) as served:
        for _ in range(100):
            await served.join()
        taken = sum(served.start([Batch.of([b"x"])]) for _ in range(50))

        assert taken < 50


async def test_peers_that_talk_without_end(served: Served) -> None:
    """What they say is read in turns: each has its own, and in between others have theirs."""
    heard: list[tuple[Peer, int]] = []
    loud = [await served.join() for _ in range(30)]
    for peer in served.client._audience.members:

        def received(data: memoryview, peer: Peer = peer) -> None:
            heard.append((peer, len(data)))

        peer.received = received  # type: ignore[method-assign]
    for sock in loud:
        sock.send(b"x" * 100_000)
    audience = served.client._audience
    turns = []
    while len({peer for peer, _ in heard}) < 30:
        audience.look()
        turns.append(sum(size for _, size in heard))

    assert turns[0] < 100_000
    assert len(heard) < 40
    await until(lambda: sum(size for _, size in heard) == 3_000_000)


@pytest.mark.usefixtures("unhurried")
async def test_what_is_logged_of_ordinary_life(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Coming and going is no warning, and many of it are one line."""
    caplog.set_level(logging.INFO)
    peers = [await served.join() for _ in range(10)]
    for peer in peers:
        peer.close()
    await until(lambda: served.client.peers == 0)

    assert lines_of(caplog) == []
    assert len([record for record in caplog.records if "connected, as one of" in record.getMessage()]) == 1
    assert len([record for record in caplog.records if "gone" in record.getMessage()]) == 1


@needs_kernel
async def test_levels_at_once() -> None:
    """What is written is told apart from what is acknowledged, whichever peer holds which back."""
    options = ServingOptions(peer_buffer=BIG, peer_overflow=PeerOverflow.DROP_NEWEST)
    async with Served(serving(options), Ack.KERNEL) as served:
        peer = await served.join(SMALL)
        await served.send(b"x" * 200_000)
        await until(lambda: served.written == 1)
        before = served.client.settled()
        await receive(peer, 200_001)
        await until(lambda: served.client.settled() == (1, 1))

        assert before == (1, 0)


# -- chance ----------------------------------------------------------------------------------------


class Wayward:
    """A peer that reads as much as chance lets it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.stream = bytearray()

    def read(self, size: int) -> None:
        with suppress(BlockingIOError):
            self.stream += self.socket.recv(size)

    @property
    def numbers(self) -> list[int]:
        """The messages that it got, each of which has to be whole, and as it was sent."""
        lines = bytes(self.stream).split(b"\n")
        assert lines.pop() == b""
        found = [int(line.partition(b" ")[0]) for line in lines]
        assert lines == [wayward_message(number) for number in found]
        return found


def wayward_message(number: int) -> bytes:
    return b"%d " % number + b"x" * (number * 7919 % 20_000)


@levels
@pytest.mark.parametrize("overflow", [PeerOverflow.DROP_NEWEST, PeerOverflow.DROP_OLDEST])
@pytest.mark.parametrize("seed", range(3))
async def test_chance(ack: Ack, overflow: PeerOverflow, seed: int) -> None:
    """However slow peers are: what nobody gets is refused, what anybody got is not; once, and in order."""
    chance = random.Random(seed)
    client = serving(ServingOptions(peer_buffer=64 * KiB, peer_overflow=overflow))
    client.timeout = 3600.0
    async with Served(client, ack) as served:
        peers: list[Wayward] = []
        sent = 0
        for _ in range(400):
            what = chance.random()
            if what < 0.02 and len(peers) < 8:
                peers.append(Wayward(await served.join(SMALL)))
            elif what < 0.6:
                count = chance.randint(1, 40)
                await served.send(*map(wayward_message, range(sent, sent + count)))
                sent += count
            else:
                for peer in peers:
                    peer.read(chance.choice([1, 1000, 100_000, 1_000_000]))
            await asyncio.sleep(0)
        while client.settled() != (sent, sent):
            for peer in peers:
                peer.read(1 << 20)
            await asyncio.sleep(0)
        await client.aclose()
        for peer in peers:
            peer.stream += await receive_all(peer.socket)
        got = [peer.numbers for peer in peers]
        refused = [number for number, _ in served.signals.refused]

    assert all(numbers == sorted(set(numbers)) for numbers in got)
    assert sorted([*refused, *{number for numbers in got for number in numbers}]) == list(range(sent))
    assert client.stats.missed > 0


# -- descriptors -----------------------------------------------------------------------------------

OUT_OF_FILES = """
import asyncio, logging, resource, socket
from producer_pool.plugin import *

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
logging.basicConfig(format="%(message)s")

async def main():
    began = asyncio.get_running_loop().time()
    binding = TcpBinding(Endpoint.parse("tcp+serve://127.0.0.1:0"), allow_remote=False)
    client = ServingClient(binding, ServingOptions(), framing=LINES, protocol_name="tcp+serve")
    await client.connect()
    port = int(client.address.rpartition(":")[2])
    dial = lambda: socket.create_connection(("127.0.0.1", port))
    peers = [dial() for _ in range(5)]
    while client.peers < 5:
        await asyncio.sleep(0.001)
    more = []
    try:
        while True:
            more.append(dial())
    except OSError:
        pass
    for number in range(20):
        client.start([Batch.of([b"x"])])
        await asyncio.sleep(0.01)
    before = client.peers
    for peer in more[::2]:
        peer.close()
    while client.peers == before:
        await asyncio.sleep(0.001)
    print("got", {len(peer.recv(1000)) for peer in peers}, "served", before, "then", client.peers > before)
    await client.aclose()
    print(asyncio.get_running_loop().time() - began)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: descriptors are counted")
async def test_out_of_descriptors() -> None:
    """Those who are connected go on being served; when there are descriptors again, the others come in."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OUT_OF_FILES,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    said, seconds = out.splitlines()
    assert said == b"got {40} served 5 then True"
    # One line a second says so, however long it took.
    assert 1 <= err.count(b"raise `ulimit -n`") <= 1 + float(seconds)


# -- another loop ----------------------------------------------------------------------------------


def test_loops_one_after_the_other() -> None:
    """A client that was closed can be used on another loop."""
    client = serving()

    async def use() -> bytes:
        async with Served(client) as served:
            peer = await served.join()
            await served.send(b"one")
            return await receive(peer, 4)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(asyncio.run, use()).result() == b"one\n"
    assert asyncio.run(use()) == b"one\n"
