"""What a listener answers to those who send: after what, in which order, and how much it may owe."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.model.errors import ConfigurationError
from producer_pool.model.framing import FRAMINGS, Framing
from producer_pool.toolkit.acknowledging import answering
from producer_pool.toolkit.streams.connection import Connection, FramedConnection
from support.acknowledged import DELIVERED, RECEIVED, STORED, batches, nothing_to_read
from support.listening import PLAIN, Running, lines_of
from support.streams import receive, receive_all, send, until

READ = 256 * 1024
"""Bytes that are read at once."""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no sign of life come between the answers, however long a test takes; but see `lively`."""
    monkeypatch.setattr(answering, "BEAT", 3600.0)


# -- after what ------------------------------------------------------------------------------------


async def test_left_out() -> None:
    """Without the option nobody is answered, and nobody asked for receipts."""
    async with Running(PLAIN) as running:
        client = await running.connect()
        await send(client, b"one\n")
        await batches(running, 1)

        assert await nothing_to_read(client)
        assert not running.intake.receipts


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.name)
async def test_received(framing: Framing) -> None:
    """What was passed on is answered at once, in the connection's framing, and counted since it began."""
    async with Running(replace(RECEIVED, framing=framing)) as running:
        client = await running.connect()
        first = framing.encode([b"2"])
        await send(client, framing.encode([b"one", b"two"]))
        assert await receive(client, len(first)) == first
        await send(client, framing.encode([b"three"]))
        assert await receive(client, len(first)) == framing.encode([b"3"])
        other = await running.connect()
        await send(other, framing.encode([b"four"]))

        assert await receive(other, len(first)) == framing.encode([b"1"])
        assert not running.intake.receipts


async def test_delivered(delivered: Running) -> None:
    """It is answered when it is, and not before; the last message of a batch of many counts them all."""
    client = await delivered.connect()
    await send(client, b"one\ntwo\n")
    await batches(delivered, 1)
    assert await nothing_to_read(client)
    delivered.intake.receipts[0].finish()

    assert await receive(client, 2) == b"2\n"


async def test_in_order(delivered: Running) -> None:
    """What is delivered before something older waits for that one; then one answer tells both."""
    client = await delivered.connect()
    for count in range(1, 4):
        await send(client, b"message\n")
        await batches(delivered, count)
    first, second, third = delivered.intake.receipts
    third.finish()
    second.finish()
    assert await nothing_to_read(client)
    first.finish()

    assert await receive(client, 2) == b"3\n"
    assert await nothing_to_read(client)


async def test_one_answer_a_turn(delivered: Running) -> None:
    """However many batches are settled together: one answer."""
    client = await delivered.connect()
    for count in range(1, 21):
        await send(client, b"message\n")
        await batches(delivered, count)
    for receipt in delivered.intake.receipts:
        receipt.finish()

    assert await receive(client, 3) == b"20\n"
    assert await nothing_to_read(client)


async def test_stored(stored: Running) -> None:
    """It is answered when it is stored, delivered or not."""
    client = await stored.connect()
    await send(client, b"one\n")
    await batches(stored, 1)
    await send(client, b"two\n")
    await batches(stored, 2)
    first, second = stored.intake.receipts
    first.finish()
    assert await nothing_to_read(client)
    first.store()

    assert await receive(client, 2) == b"1\n"
    second.store()
    assert await receive(client, 2) == b"2\n"


async def test_could_not_be_stored(stored: Running) -> None:
    """As on a full disk: then it is answered when it is delivered."""
    client = await stored.connect()
    await send(client, b"one\n")
    await batches(stored, 1)
    stored.intake.receipts[0].store(False)
    assert await nothing_to_read(client)
    stored.intake.receipts[0].finish()

    assert await receive(client, 2) == b"1\n"


async def test_neither_stored_nor_delivered(stored: Running, caplog: pytest.LogCaptureFixture) -> None:
    """That is not answered: the connection is closed."""
    client = await stored.connect()
    await send(client, b"one\n")
    await batches(stored, 1)
    stored.intake.receipts[0].finish(delivered=False)
    assert await nothing_to_read(client)
    stored.intake.receipts[0].store(False)

    assert await receive_all(client) == b""
    assert len(lines_of(caplog)) == 1


async def test_nothing_to_store_in() -> None:
    """It does not start, and says what to do."""
    running = Running(STORED)
    with pytest.raises(ConfigurationError, match=r"ack-after=stored needs a spool .* add --spool DIR"):
        await running.listener.start(running.intake)
    await running.listener.aclose()


# -- what is not delivered ---------------------------------------------------------------------------


async def test_not_delivered(delivered: Running, caplog: pytest.LogCaptureFixture) -> None:
    """What is before it is answered; then the connection ends, and a line names the sender and the cause."""
    client = await delivered.connect()
    for count in range(1, 4):
        await send(client, b"message\nmessage\n")
        await batches(delivered, count)
    first, second, third = delivered.intake.receipts
    third.finish()
    second.finish(delivered=False)
    first.finish()

    assert await receive_all(client) == b"2\n"
    (line,) = lines_of(caplog)
    sender = f"tcp://127.0.0.1:{client.getsockname()[1]}"
    assert f"{sender}: not acknowledged, and the connection closed: of 2 messages, some were not" in line
    assert delivered.stats.connections == 0


async def test_others_go_on(delivered: Running) -> None:
    """It ends one connection, and no other."""
    bad, good = await delivered.connect(), await delivered.connect()
    await send(bad, b"message\n")
    await batches(delivered, 1)
    await send(good, b"message\n")
    await batches(delivered, 2)
    delivered.intake.receipts[0].finish(delivered=False)
    assert await receive_all(bad) == b""
    delivered.intake.receipts[1].finish()

    assert await receive(good, 2) == b"1\n"


# -- how much may be owed ----------------------------------------------------------------------------


async def test_window(delivered: Running, window: int) -> None:
    """A sender to whom much is owed has to wait, and others have not; it goes on when half is answered."""
    client, other = await delivered.connect(), await delivered.connect()
    sending = asyncio.ensure_future(send(client, (b"x" * 999 + b"\n") * 20_000))
    await until(lambda: sum(batch.cost for batch in delivered.intake.batches) > window)
    owed = len(delivered.intake.batches)
    await send(other, b"hello\n")
    await until(lambda: delivered.intake.batches[-1].messages == [b"hello"])

    assert len(delivered.intake.batches) == owed + 1
    assert delivered.stats.bytes < window + 2 * READ
    assert not sending.done()
    answers = b""
    while not answers.endswith(b"20000\n"):
        for receipt in delivered.intake.receipts:
            receipt.finish()
        answers += await receive(client, 1)
    await sending


async def test_sender_gone_behind_a_window(delivered: Running, window: int) -> None:
    """What had arrived of one that is gone is passed on: it may not have asked for answers."""
    client = await delivered.connect()
    await send(client, b"x" * window + b"\n")
    await batches(delivered, 1)
    await send(client, b"y\n" * 1000)
    client.close()
    assert len(delivered.intake.messages) == 1
    delivered.intake.receipts[0].finish()

    await until(lambda: not delivered.stats.connections)
    assert len(delivered.intake.messages) == 1001


async def test_sender_that_does_not_read_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is served all the same, and costs no memory; when it reads, it is told the newest count."""
    async with Running(RECEIVED) as running:
        client = await running.connect()
        await send(client, b"x\n")
        await batches(running, 1)
        with monkeypatch.context() as full:
            # as if the kernel took nothing more
            full.setattr(FramedConnection, "answer", _take_nothing)
            for count in range(2, 100):
                await send(client, b"x\n")
                await batches(running, count)
            (connection,) = running.listener.everybody()
            assert len(connection.unsent) < 10
        answers = b""
        while not answers.endswith(b"\n99\n"):
            answers += await receive(client, 1)

        assert len(answers.split()) <= 3


def _take_nothing(connection: Connection, data: bytes) -> bool:
    connection.unsent += data
    return bool(connection.unsent)


async def test_sender_that_quits_without_reading() -> None:
    """Because of our answer, its kernel breaks off the connection; what had arrived is passed on."""
    async with Running(RECEIVED) as running:
        client = await running.connect()
        await send(client, b"x\n" * 3)
        await batches(running, 1)
        running.intake.paused = True
        await send(client, b"y\n" * 1000)
        client.close()
        await asyncio.sleep(0.02)
        running.intake.resume()
        await until(lambda: not running.stats.connections)

        assert len(running.intake.messages) == 1003


# -- signs of life -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("lively")
async def test_says_that_it_is_there() -> None:
    """While something is owed, the last count is repeated; and not after that."""
    async with Running(DELIVERED) as delivered:
        client, quiet = await delivered.connect(), await delivered.connect()
        await send(client, b"one\n")
        await batches(delivered, 1)
        assert await receive(client, 6) == b"0\n" * 3
        delivered.intake.receipts[0].finish()
        said = b""
        while not said.endswith(b"1\n"):
            said += await receive(client, 1)
        await asyncio.sleep(0.05)

        assert await nothing_to_read(client)
        assert await nothing_to_read(quiet)


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("options", [RECEIVED, DELIVERED], ids=["received", "delivered"])
async def test_says_that_it_is_there_while_the_intake_is_paused(options: Any) -> None:
    """To everybody: what they sent waits in our kernel."""
    async with Running(options) as running:
        running.intake.paused = True
        client = await running.connect()
        await send(client, b"one\n")

        assert await receive(client, 6) == b"0\n" * 3
        running.intake.resume()
        await batches(running, 1)


@pytest.mark.usefixtures("unhurried")
async def test_nobody_is_too_quiet_who_waits_for_us() -> None:
    """The idle timeout counts from the last answer."""
    async with Running(replace(DELIVERED, idle_timeout=0.1)) as running:
        client, idle = await running.connect(), await running.connect()
        await send(client, b"one\n")
        await batches(running, 1)
        assert await receive_all(idle) == b""
        assert running.stats.connections == 1
        running.intake.receipts[0].finish()

        assert await receive_all(client) == b"1\n"
        assert running.stats.evicted == 2
