"""How a listener that acknowledges ends: one connection, or all of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.model.framing import LENGTH4
from producer_pool.toolkit.acknowledging import answering
from producer_pool.toolkit.streams.connection import Tail
from support.acknowledged import DELIVERED, RECEIVED, batches, nothing_to_read
from support.certificates import Authority
from support.listening import Running, lines_of
from support.secure import identity
from support.streams import BOUND, receive, receive_all, reset, send, until


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no sign of life come between the answers, however long a test takes; but see `lively`."""
    monkeypatch.setattr(answering, "BEAT", 3600.0)


# -- ends --------------------------------------------------------------------------------------------


async def test_sender_that_has_said_all(delivered: Running) -> None:
    """Its answers still come; then the connection ends."""
    client = await delivered.connect()
    await send(client, b"one\ntwo\n")
    client.shutdown(socket.SHUT_WR)
    await batches(delivered, 1)
    assert await nothing_to_read(client)
    delivered.intake.receipts[0].finish()

    assert await receive_all(client) == b"2\n"
    await until(lambda: not delivered.stats.connections)


async def test_received_before_the_end() -> None:
    """The answer to what came together with the end is not forgotten."""
    async with Running(replace(RECEIVED, tail=Tail.DELIVER)) as running:
        client = await running.connect()
        await send(client, b"one\ntwo\nthree")
        client.shutdown(socket.SHUT_WR)

        assert (await receive_all(client)).endswith(b"3\n")


async def test_sender_that_broke_a_rule(delivered: Running, caplog: pytest.LogCaptureFixture) -> None:
    """What was good before that is answered, or it would be sent again for ever; then the connection ends."""
    client = await delivered.connect()
    await send(client, b"one\n" + b"x" * 2_000_000)
    await until(lambda: delivered.stats.evicted)
    delivered.intake.receipts[0].finish()

    assert await receive(client, 2) == b"1\n"
    assert len(lines_of(caplog)) == 1
    await until(lambda: not delivered.stats.connections)


@pytest.mark.usefixtures("lively")
async def test_sender_that_is_gone() -> None:
    """It is found out by the signs of life that it does not take: messages may wait for hours."""
    async with Running(DELIVERED) as running:
        for number, leave in enumerate((socket.socket.close, reset), 1):
            client = await running.connect()
            await send(client, b"one\n")
            await batches(running, number)
            leave(client)

            await until(lambda: not running.stats.connections)


async def test_drain(delivered: Running) -> None:
    """It waits for what can be answered, and reads nothing more meanwhile; then the answers go out."""
    client, other = await delivered.connect(), await delivered.connect()
    await send(client, b"one\n")
    await batches(delivered, 1)
    await send(other, b"two\n")
    await delivered.listener.stop_accepting()
    draining = asyncio.ensure_future(delivered.listener.drain())
    await batches(delivered, 2)
    await until(lambda: all(connection.deaf for connection in delivered.listener.everybody()))
    await send(client, b"late\n")
    await asyncio.sleep(0.02)
    assert not draining.done()
    for receipt in delivered.intake.receipts:
        receipt.finish()
    await draining
    await delivered.listener.aclose()

    assert delivered.intake.messages == [b"one", b"two"]
    assert await receive(client, 2) == await receive(other, 2) == b"1\n"


async def test_drain_reads_what_a_window_kept_waiting(delivered: Running, window: int) -> None:
    """All that has arrived is passed on: who sent it may not have asked for answers."""
    client = await delivered.connect()
    await send(client, b"x" * window + b"\n")
    await batches(delivered, 1)
    await send(client, b"y\n" * 999)
    assert len(delivered.intake.messages) == 1
    draining = asyncio.ensure_future(delivered.listener.drain())
    await until(lambda: len(delivered.intake.messages) == 1000)
    for receipt in delivered.intake.receipts:
        receipt.finish()
    await draining

    assert await receive(client, 5) == b"1000\n"


async def test_drain_ends_for_who_is_gone(delivered: Running) -> None:
    """Nobody is waited for who cannot be answered."""
    client = await delivered.connect()
    await send(client, b"one\n")
    await batches(delivered, 1)
    draining = asyncio.ensure_future(delivered.listener.drain())
    await asyncio.sleep(0.01)
    reset(client)

    async with asyncio.timeout(BOUND):
        await draining


async def test_drain_that_is_given_up(delivered: Running) -> None:
    """The caller bounds the time; what is not answered by then is not answered."""
    client = await delivered.connect()
    await send(client, b"one\n")
    await batches(delivered, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await delivered.listener.drain()
    await delivered.listener.aclose()

    assert await receive_all(client) == b""
    delivered.intake.receipts[0].finish()


async def test_close_answers_what_can_be_answered() -> None:
    """What is settled in the turn of the end is said before the connection is closed."""
    async with Running(RECEIVED) as running:
        client = await running.connect()
        await send(client, b"one\n")
        running.intake.pause_after = 1
        await batches(running, 1)
        await running.listener.aclose()

        assert await receive_all(client) == b"1\n"


async def test_settled_after_the_end(delivered: Running) -> None:
    """A receipt that outlives its connection, or its listener, disturbs nobody."""
    client = await delivered.connect()
    await send(client, b"one\n")
    await batches(delivered, 1)
    reset(client)
    await until(lambda: not delivered.stats.connections)
    delivered.intake.receipts[0].finish()
    await asyncio.sleep(0)
    await delivered.listener.aclose()


# -- over TLS ----------------------------------------------------------------------------------------


async def test_encrypted(listen: Any, authority: Authority) -> None:
    """Answers are encrypted as everything is."""
    running = await listen(identity(authority.issue()), replace(DELIVERED, framing=LENGTH4))
    context = ssl.create_default_context(cafile=str(authority.file))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
    writer.write(LENGTH4.encode([b"one", b"two"]))
    await until(lambda: running.intake.receipts)
    running.intake.receipts[0].finish()

    assert await reader.readexactly(5) == LENGTH4.encode([b"2"])
    writer.close()
    await writer.wait_closed()
