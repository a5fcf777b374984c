"""A server bound to a pool: its messages go to every producer, and to the program's own callback."""

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from producer_pool import AsyncProducerPool, Limits, ProducerPool, bind_transport, bind_transport_async
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.producers import send_lines
from support.waiting import BOUND, eventually


@pytest.fixture
def consumer() -> Iterator[RecordingConsumer]:
    with RecordingConsumer() as consumer:
        yield consumer


def test_messages_reach_producers_and_callback(consumer: RecordingConsumer) -> None:
    """Each message arrives at every consumer and in the callback, once and in order."""
    ledger = Ledger()
    seen: list[bytes] = []
    with (
        RecordingConsumer() as other,
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0", pool, on_message=seen.append) as server,
    ):
        pool.add_producer("a", consumer.url)
        pool.add_producer("b", other.url)
        send_lines(server.endpoint.port, ledger.write_many(2000))
        eventually(lambda: len(seen) == 2000, "the callback has seen all")

        assert ledger.judge(seen).exact
        assert ledger.judge(consumer.wait_for(2000)).exact
        assert ledger.judge(other.wait_for(2000)).exact


def test_callback_raises(consumer: RecordingConsumer, caplog: pytest.LogCaptureFixture) -> None:
    """It is called again with the next message, each exception is counted, and forwarding goes on."""
    ledger = Ledger()
    seen: list[bytes] = []

    def on_message(message: bytes) -> None:
        seen.append(message)
        if len(seen) % 2:
            raise ValueError("a bug in the program")

    with (
        ProducerPool(limits=Limits(drain=1)) as pool,
        bind_transport("tcp://127.0.0.1:0", pool, on_message=on_message) as server,
    ):
        pool.add_producer("a", consumer.url)
        send_lines(server.endpoint.port, ledger.write_many(100))
        # The last message raises nothing, and may be seen after the last exception is counted.
        eventually(lambda: len(seen) == 100, "the callback has seen all")
        eventually(lambda: server.callback_errors == 50, "every exception is counted")

        assert ledger.judge(seen).exact
        assert ledger.judge(consumer.wait_for(100)).exact
    raised = [record for record in caplog.records if record.exc_info]
    assert "on_message raised" in raised[0].message
    assert "a bug in the program" in caplog.text


def test_callback_is_slow(consumer: RecordingConsumer) -> None:
    """The consumers have everything while the callback is still busy with its first message."""
    ledger = Ledger()
    go_on = threading.Event()
    seen: list[bytes] = []

    def on_message(message: bytes) -> None:
        go_on.wait(BOUND)
        seen.append(message)

    with (
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0", pool, on_message=on_message) as server,
    ):
        pool.add_producer("a", consumer.url)
        send_lines(server.endpoint.port, ledger.write_many(1000))
        record = consumer.wait_for(1000)

        assert seen == []
        assert ledger.judge(record).exact
        go_on.set()
    assert ledger.judge(seen).exact


def test_forward_fails(consumer: RecordingConsumer, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the producer that failed, and the callback and the other consumer do not notice."""
    ledger = Ledger()
    seen: list[bytes] = []
    with (
        RecordingConsumer(listens=False) as dead,
        ProducerPool() as pool,
        bind_transport("tcp://127.0.0.1:0", pool, on_message=seen.append) as server,
    ):
        pool.add_producer("alive", consumer.url)
        pool.add_producer("dead-one", dead.url)
        send_lines(server.endpoint.port, ledger.write_many(100))
        eventually(lambda: len(seen) == 100, "the callback has seen all")

        assert ledger.judge(consumer.wait_for(100)).exact
        eventually(lambda: "dead-one: " in caplog.text, "the failure is logged")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings
    assert all("dead-one: " in text for text in warnings)
    assert any(" failed: " in text and "connection refused" in text for text in warnings)


async def test_callback_of_asyncio_raises(
    consumer: RecordingConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is awaited, one message after the other; what it raises is logged and counted, and stops nothing."""
    ledger = Ledger()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        seen.append(message)
        if len(seen) % 2:
            raise ValueError("a bug in the program")

    async with AsyncProducerPool() as pool:
        await pool.add_producer("a", consumer.url)
        async with await bind_transport_async("tcp://127.0.0.1:0", pool, on_message=on_message) as server:
            await asyncio.to_thread(lambda: send_lines(server.endpoint.port, ledger.write_many(100)))
            await asyncio.to_thread(lambda: consumer.wait_for(100))
        errors = server.callback_errors

    assert errors == 50
    assert ledger.judge(seen).exact
    assert ledger.judge(consumer.messages).exact
    assert "a bug in the program" in caplog.text


def test_server_is_closed_before_the_pool(consumer: RecordingConsumer) -> None:
    """What had arrived is read and forwarded; the pool goes on without the server."""
    ledger = Ledger()
    with ProducerPool() as pool:
        pool.add_producer("a", consumer.url)
        with bind_transport("tcp://127.0.0.1:0", pool) as server:
            send_lines(server.endpoint.port, ledger.write_many(5000, size=200))
        result = pool.forward_to_all(ledger.write("program"))

        assert result.ok
        assert server.wait(0)
        assert ledger.judge(consumer.wait_for(5001)).exact
