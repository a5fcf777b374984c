"""Servers bound to a pool for threads: the callback has a thread of its own."""

import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from producer_pool import server as server_module
from producer_pool.aio import AsyncProducerPool
from producer_pool.model.batch import Batch
from producer_pool.model.errors import UsageError
from producer_pool.model.policies import DeliveryPolicy, Limits
from producer_pool.pool import ProducerPool
from producer_pool.server import bind_transport, bind_transport_async
from support.consumers import RecordingConsumer
from support.fake_clients import FakePipelinedClient
from support.fake_listeners import FakeListener, ListenerFactory
from support.waiting import BOUND, eventually

KiB = 1024


class BoundForThreads:
    """The same for a pool for threads, in real time."""

    def __init__(self, on_message: Callable[[bytes], object] | None = None, drain: float = BOUND) -> None:
        self.listener = FakeListener()
        self.client = FakePipelinedClient()
        self.pool = ProducerPool(
            factory=cast(Any, ListenerFactory(self.listener)), limits=Limits(drain=drain)
        )
        self.pool.add_producer("a", self.client)
        self.server = bind_transport("fake:", self.pool, on_message=on_message)

    def arrive(self, *messages: bytes) -> None:
        async def feed(_: object) -> None:
            self.listener.intake.feed(Batch.of(messages))

        self.pool.worker().run(feed)


def test_callback_on_a_thread() -> None:
    """It sees each message, in order, on one thread that is not the pool's; what it raises is counted."""
    seen: list[tuple[bytes, threading.Thread]] = []

    def on_message(message: bytes) -> None:
        seen.append((message, threading.current_thread()))
        if message == b"2":
            raise SystemExit(1)
        if message == b"3":
            raise ValueError("a bug")

    it = BoundForThreads(on_message)
    with it.pool, it.server:
        it.arrive(b"1", b"2")
        it.arrive(b"3")
        it.arrive(b"4")

    assert [message for message, _ in seen] == it.client.messages == [b"1", b"2", b"3", b"4"]
    assert it.server.callback_errors == 2
    assert {thread.name for _, thread in seen} == {"on_message"}
    eventually(lambda: not seen[0][1].is_alive(), "the thread has ended")


def test_slow_callback_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener is paused at the bound, and resumed when half of it is worked off."""
    monkeypatch.setattr(server_module, "CALLBACK_BYTES", 4 * KiB)
    go_on = threading.Semaphore(0)
    it = BoundForThreads(lambda message: go_on.acquire())
    with it.pool, it.server:
        for _ in range(4):
            it.arrive(b"x" * 512)

        assert it.listener.intake.paused

        go_on.release(2)
        eventually(lambda: not it.listener.intake.paused, "half is worked off")
        go_on.release(2)


def test_callback_on_a_thread_that_closes_the_server() -> None:
    """It does not wait for itself."""
    seen: list[bytes] = []

    def on_message(message: bytes) -> None:
        seen.append(message)
        it.server.close()

    it = BoundForThreads(on_message, drain=60)
    with it.pool:
        it.arrive(b"quit", b"after")

        assert it.server.wait(BOUND)
        eventually(lambda: seen == [b"quit", b"after"], "it sees the rest")
        it.server.close()


def test_callback_on_a_thread_that_hangs_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """It has the drain time, and then it is left behind."""
    go_on = threading.Event()
    it = BoundForThreads(lambda message: go_on.wait(), drain=0.2)
    it.arrive(b"x")
    it.arrive(b"y")
    it.server.close()
    it.pool.close()
    go_on.set()

    assert "on_message was not done within 0.2 s" in caplog.text


def test_pool_for_threads_is_closed_first() -> None:
    """It closes the server, and who waits for that is told."""
    it = BoundForThreads()
    it.listener.arrived = [Batch.of([b"last"])]
    it.pool.close()

    assert it.server.wait(0)
    assert it.listener.calls[-1] == "aclose"
    assert it.client.messages == [b"last"]

    it.server.close()


async def awaited(message: bytes) -> None:
    pass


def test_callback_that_would_have_to_be_awaited() -> None:
    """It is refused: nobody would await it."""
    with ProducerPool() as pool, pytest.raises(UsageError, match="bind_transport_async"):
        bind_transport("fake:", pool, on_message=awaited)


def test_callback_that_is_none() -> None:
    """What cannot be called is refused before anything listens."""
    listener = FakeListener()
    with (
        ProducerPool(factory=cast(Any, ListenerFactory(listener))) as pool,
        pytest.raises(UsageError, match="a function that takes a message, not 'print'"),
    ):
        bind_transport("fake:", pool, on_message=cast(Any, "print"))

    assert "start" not in listener.calls


async def test_pool_that_is_none() -> None:
    """A pool of the other kind, and arguments the wrong way round, are refused with the way out."""
    threads, loop = ProducerPool(), AsyncProducerPool()
    with pytest.raises(UsageError, match=r"type ProducerPool, not AsyncProducerPool; bind_transport_async"):
        bind_transport("fake:", cast(Any, loop))
    with pytest.raises(UsageError, match=r"\(url, pool\): .* type ProducerPool, not str"):
        bind_transport(cast(Any, threads), cast(Any, "fake:"))
    with pytest.raises(UsageError, match=r"type AsyncProducerPool, not ProducerPool; bind_transport\("):
        await bind_transport_async("fake:", cast(Any, threads))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was acknowledged")
def test_messages_in_turns() -> None:
    """What a listener takes in and what a thread waits for: both go out on the turn of the loop."""
    with (
        RecordingConsumer() as consumer,
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0", pool) as server,
        socket.create_connection(("127.0.0.1", server.endpoint.port)) as sender,
    ):
        pool.add_producer("a", consumer.url, policy=DeliveryPolicy.relay())
        pool.check()
        for number in range(10):
            sender.sendall(b"taken in %d\n" % number)
            consumer.wait_for(2 * number + 1)

            assert pool.forward_to_all(b"waited for %d" % number, wait=BOUND).ok

        stats = pool.stats().producers["a"]

        assert (stats.delivered, stats.breaks, stats.connects) == (20, 0, 1)
        assert consumer.wait_for(20) == [
            message
            for number in range(10)
            for message in (b"taken in %d" % number, b"waited for %d" % number)
        ]
