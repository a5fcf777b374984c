"""Every buffer that is limited in bytes, offered more than it may hold: Python's memory stays below."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import pytest

from producer_pool import (
    AsyncProducerPool,
    Batch,
    DeliveryPolicy,
    Full,
    Limits,
    Overflow,
    ProducerPool,
    bind_transport_async,
)
from producer_pool.contract.ports import Client
from producer_pool.delivery.convoy import Convoy
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.submitlog import LOG_BYTES
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.framing import LINES
from producer_pool.server import CALLBACK_BYTES
from support.engines import dead
from support.fake_clients import FakeClient
from support.faults import report
from support.streams import FakeIntake, connect, until
from support.waiting import BOUND, steady

MIB = 1024 * 1024
MORE = 5
"""Times its limit comes to each buffer."""
FACTOR = 1.5
BESIDE = MIB
"""What is not a buffer: objects of the pool, sockets, the one read buffer of a listener."""


class Traced:
    """What Python took at the most in a block, above what it had at the beginning."""

    peak = 0


@contextmanager
def traced() -> Iterator[Traced]:
    found = Traced()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        yield found
        found.peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def check(buffer: str, found: Traced, limit: int) -> None:
    report(f"ceiling: {buffer}", limit_mib=limit / MIB, peak_mib=found.peak / MIB, factor=found.peak / limit)
    assert found.peak <= FACTOR * limit + BESIDE
    assert found.peak > limit / 8, "it was not filled"


def batch(count: int, size: int) -> Batch:
    """Return a batch of messages that share no memory with others."""
    return Batch.of([b"%0*d" % (size, number) for number in range(count)])


@pytest.mark.parametrize("size", [10, 1000, 100_000])
async def test_outbox(size: int) -> None:
    """A producer whose consumer is dead holds no more than its buffer, small messages or large ones."""
    limit = 2 * MIB
    async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool:
        policy = DeliveryPolicy.relay()
        await pool.add_producer("dead", f"tcp://127.0.0.1:9?buffer={limit}", policy=policy)
        with traced() as found:
            for _ in range(MORE * limit // min(size, 10_000)):
                pool.intake.feed(batch(max(1, 10_000 // size), size))
                if (await pool.stats()).producers["dead"].dropped > 1000:
                    break

    check(f"outbox, {size} bytes a message", found, limit)


async def test_pool() -> None:
    """All producers together hold no more than the pool's."""
    limit = 4 * MIB
    async with AsyncProducerPool(limits=Limits(buffer=limit, drain=0.0)) as pool:
        for number in range(4):
            policy = DeliveryPolicy(overflow=Overflow.DROP_OLDEST, buffer=100 * MIB, deadline=600.0)
            client = dead()
            await pool.add_producer(f"dead{number}", client, policy=policy_that_holds(policy))
        with traced() as found:
            for number in range(MORE * limit // 10_000):
                pool.intake.feed(batch(10, 1000))
                if number % 100 == 0:
                    await asyncio.sleep(0)

    check("pool", found, limit)


async def test_convoy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight to all that do not read is bounded, and what waits for them afterwards, too."""
    limit = 8 * MIB
    sailed = 0
    take = Convoy.take

    def counting(self: Convoy, batch: Batch, producers: Mapping[str, Producer]) -> bool:
        nonlocal sailed
        taken = take(self, batch, producers)
        sailed += taken
        return taken

    monkeypatch.setattr(Convoy, "take", counting)
    with ExitStack() as stack:
        async with AsyncProducerPool(limits=Limits(buffer=limit, drain=0.0)) as pool:
            for number in range(3):
                never_reads = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                policy = DeliveryPolicy(overflow=Overflow.DROP_OLDEST, buffer=4 * MIB, deadline=600.0)
                url = f"tcp://127.0.0.1:{never_reads.getsockname()[1]}"
                await pool.add_producer(f"c{number}", url, policy=policy_that_holds(policy))
            await pool.check(wait=BOUND)
            with traced() as found:
                for number in range(MORE * limit // 1000):
                    pool.intake.feed(Batch.from_wire(b"%0999d\n" % number, LINES))
                    if number % 100 == 0:
                        await asyncio.sleep(0)
    check("convoy", found, limit)

    assert sailed > 300


def policy_that_holds(policy: DeliveryPolicy) -> DeliveryPolicy:
    relay = DeliveryPolicy.relay()
    return DeliveryPolicy(
        overflow=policy.overflow, buffer=policy.buffer, deadline=policy.deadline, retry=relay.retry
    )


class Blocks(Client):
    """A client that holds up the loop until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    async def connect(self) -> None:
        self.begun.set()
        self.go_on.wait(BOUND)

    async def send(self, message: bytes) -> None:
        pass


def test_submit_log() -> None:
    """Threads that submit while the loop is held up wait, once the log is full."""
    client = Blocks()
    with ProducerPool(limits=Limits(drain=0.3, watchdog=float("inf"))) as pool:
        pool.add_producer("blocks", client, policy=DeliveryPolicy.relay())
        pool.submit(b"first")
        assert client.begun.wait(BOUND)
        taken = 0

        def submit() -> None:
            nonlocal taken
            for _ in range(MORE * LOG_BYTES // 1000):
                pool.submit(bytes(1000))
                taken += 1

        with traced() as found, suppress(Full):
            thread = threading.Thread(target=submit, daemon=True)
            thread.start()
            steady(lambda: taken, 0.5, "it takes no more")
            waits = thread.is_alive()
        client.go_on.set()
        thread.join(BOUND)

        assert waits
        assert not thread.is_alive()
    check("submit log", found, LOG_BYTES)


@pytest.mark.usefixtures("unhurried")
async def test_callback_queue() -> None:
    """A callback that hangs makes the listener stop to read."""
    go_on = asyncio.Event()

    async def hangs(message: bytes) -> None:
        await go_on.wait()

    async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool:
        await pool.add_producer("null", "null:")
        async with await bind_transport_async("tcp://127.0.0.1:0", pool, on_message=hangs) as server:
            sock = await connect(server.endpoint)
            chunk = (b"x" * 999 + b"\n") * 100
            with sock, traced() as found:
                sent = 0
                while sent < MORE * CALLBACK_BYTES:
                    try:
                        async with asyncio.timeout(0.5):
                            await asyncio.get_running_loop().sock_sendall(sock, chunk)
                    except TimeoutError:
                        break
                    sent += len(chunk)

            assert sent < MORE * CALLBACK_BYTES
            go_on.set()
    check("callback queue", found, CALLBACK_BYTES)


async def test_unfinished_messages() -> None:
    """Each connection keeps its unfinished message, of which there is a longest one."""
    longest, count = 100_000, 40
    intake = FakeIntake()
    url = f"tcp://127.0.0.1:0?max-message={longest}"
    with ExitStack() as stack:
        async with ClientFactory().listener(url) as listener:
            endpoint = await listener.start(intake)
            socks = [stack.enter_context(await connect(endpoint)) for _ in range(count)]
            with traced() as found:
                for sock in socks:
                    await asyncio.get_running_loop().sock_sendall(sock, b"x" * (longest - 100))
                # All of it has been read when a message behind it has come in.
                last = await connect(endpoint)
                with last:
                    last.send(b"last\n")
                    await until(lambda: intake.messages == [b"last"], "the last message")
                for sock in socks:
                    sock.send(b"y")
                await asyncio.sleep(0.05)
            assert listener.stats.evicted == 0
    check("unfinished messages", found, count * longest)


async def test_backlog_of_a_peer() -> None:
    """A consumer that connects and does not read has its own bound, and others their messages."""
    limit = 2 * MIB
    async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool:
        url = f"tcp+serve://127.0.0.1:0?peer-buffer={limit}&ack=written"
        await pool.add_producer("serves", url, policy=DeliveryPolicy.relay())
        await pool.check(wait=BOUND)
        address = (await pool.health())["serves"].address
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)

            async def peers() -> int:
                return (await pool.stats()).producers["serves"].peers

            while not await peers():
                await asyncio.sleep(0.001)
            with traced() as found:
                for _ in range(MORE * limit // 10_000):
                    await pool.submit(bytes(10_000))
                    await asyncio.sleep(0)
    check("backlog of a peer", found, limit)


async def test_datagrams_while_the_intake_is_paused() -> None:
    """They are read and counted, and none is kept: whoever sends them cannot be made to wait."""
    intake = FakeIntake()
    intake.paused = True
    async with ClientFactory().listener("udp://127.0.0.1:0") as listener:
        endpoint = await listener.start(intake)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, traced() as found:
            sock.connect(("127.0.0.1", endpoint.port))
            for number in range(20_000):
                sock.send(bytes(1000))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await until(lambda: listener.stats.dropped > 1000, "they are dropped")
    report("ceiling: datagrams", peak_mib=found.peak / MIB, dropped=listener.stats.dropped)

    assert intake.messages == []
    assert found.peak <= BESIDE


class Unbounded(FakeClient):
    """Keeps what it cannot send."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    async def send(self, message: bytes) -> None:
        self.kept.append(bytes(message) + b"!")


async def test_control() -> None:
    """A naive client that keeps everything goes beyond."""
    limit = 2 * MIB
    client = Unbounded()
    with traced() as found:
        for _ in range(MORE * limit // 1000):
            await client.send(bytes(1000))

    assert found.peak > FACTOR * limit + BESIDE
