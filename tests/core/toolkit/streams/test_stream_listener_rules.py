"""The rules of the stream listener: limits, pauses, and whom it closes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from producer_pool.model.errors import InvalidOption
from producer_pool.model.framing import OCTET_COUNTING
from support.listening import PLAIN, Running, lines_of
from support.streams import connect, is_reset, receive, send, until


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with Running(PLAIN) as made:
        yield made


# -- rules -----------------------------------------------------------------------------------------


async def test_message_that_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is closed, what came before it is passed on, and others go on."""
    async with Running(replace(PLAIN, max_message=10)) as running:
        bad, good = await running.connect(), await running.connect()
        await send(bad, b"0123456789\n0123456789a\nlost\n")
        await until(lambda: running.stats.evicted)
        await send(good, b"still here\n")
        await until(lambda: len(running.intake.messages) == 2)

        assert running.intake.messages == [b"0123456789", b"still here"]
        assert running.stats.connections == 1
        assert "connection closed: message longer than 10 bytes" in lines_of(caplog)[0]
        assert "0123456789a" not in caplog.text


async def test_line_without_an_end() -> None:
    """It is refused as soon as it is too long, and not kept."""
    async with Running(replace(PLAIN, max_message=100_000)) as running:
        client = await running.connect()
        with pytest.raises(ConnectionError):
            await send(client, bytes(50_000_000))

        assert running.stats.evicted == 1
        assert running.stats.bytes < 1_000_000


async def test_broken_frames() -> None:
    """What cannot be framing closes the connection; what came before is passed on."""
    async with Running(replace(PLAIN, framing=OCTET_COUNTING)) as running:
        client = await running.connect()
        await send(client, b"2 hiGET / HTTP/1.1")
        await until(lambda: running.stats.evicted)

        assert running.intake.messages == [b"hi"]


@pytest.mark.usefixtures("unhurried")
async def test_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """However many break a rule, the log gets one line in a second, and the counter has them all."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with Running(replace(PLAIN, max_message=1)) as running:
        for _ in range(50):
            await send(await running.connect(), b"too long\n")
        await until(lambda: running.stats.evicted == 50)

        assert 1 <= len(lines_of(caplog)) <= 1 + loop.time() - began


async def test_too_many_connections(caplog: pytest.LogCaptureFixture) -> None:
    """One over the limit is refused at once and counted; when one leaves, there is room."""
    async with Running(replace(PLAIN, max_connections=2)) as running:
        first, _ = await running.connect(), await running.connect()
        await until(lambda: running.stats.connections == 2)
        third = socket.create_connection((running.endpoint.host, running.endpoint.port))
        third.setblocking(False)

        assert await is_reset(third)
        third.close()
        assert (running.stats.refused, running.stats.accepted) == (1, 2)
        assert "connection refused: 2 are open; see max-connections" in lines_of(caplog)[0]
        first.close()
        await until(lambda: running.stats.connections == 1)
        await send(await running.connect(), b"in\n")
        await until(lambda: running.intake.messages)


async def test_ten_thousand_connects(running: Running) -> None:
    """Ten thousand come and go, at most 500 at once; the listener serves all of them and keeps none."""

    async def visit(number: int) -> None:
        client = await connect(running.endpoint)
        await send(client, b"%d\n" % number)
        client.close()

    for there in range(500, 10_001, 500):
        await asyncio.gather(*(visit(number) for number in range(there - 500, there)))
        # Who was there for a moment only waits to be taken, too: of too many the kernel would drop some.
        await until(lambda there=there: running.stats.accepted == there)  # type: ignore[misc]
    await until(lambda: running.stats.messages == 10_000)
    await until(lambda: not running.stats.connections)

    assert sorted(map(int, running.intake.messages)) == list(range(10_000))
    assert running.stats.accepted == 10_000
    assert not running.listener._connections


@pytest.mark.usefixtures("unhurried")
async def test_too_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Who says nothing, or half a frame in small pieces, is closed; who completes messages is not."""
    async with Running(replace(PLAIN, idle_timeout=0.2)) as running:
        quiet, slow, busy = [await running.connect() for _ in range(3)]

        async def keep_busy() -> None:
            while True:
                await send(busy, b"here\n")
                await asyncio.sleep(0.02)

        async def drip() -> None:
            while True:
                await send(slow, b".")
                await asyncio.sleep(0.02)

        work = [asyncio.ensure_future(keep_busy()), asyncio.ensure_future(drip())]
        await until(lambda: running.stats.evicted == 2)

        assert await receive(quiet, 1) == b""
        assert running.stats.connections == 1
        assert "no message within" in lines_of(caplog)[0]
        assert "see idle-timeout" in lines_of(caplog)[0]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def test_time_that_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a microsecond gets as little as the loop can look at without doing nothing else."""
    loop = asyncio.get_running_loop()
    delays: list[tuple[float, object]] = []
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        delays.append((delay, callback))
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", noted)
    async with Running(replace(PLAIN, idle_timeout=1e-6)) as running:
        quiet = await running.connect()
        await until(lambda: running.stats.evicted == 1)

        assert await receive(quiet, 1) == b""
        looks = [delay for delay, callback in delays if callback == running.listener._sweep]
        assert looks
        assert min(looks) >= 0.01


# -- pausing ---------------------------------------------------------------------------------------


async def test_paused_intake() -> None:
    """Nothing is read while the intake is paused, so the senders have to wait; then all goes on in order."""
    async with Running(PLAIN) as running:
        running.intake.pause_after = 3
        clients = [await running.connect() for _ in range(5)]
        wire = b"".join(b"%06d%s\n" % (n, b"x" * 993) for n in range(20_000))
        sending = [asyncio.ensure_future(send(client, wire)) for client in clients]
        await until(lambda: running.intake.asked)
        read = running.stats.bytes
        for _ in range(20):
            await asyncio.sleep(0)

        assert len(running.intake.batches) == 3
        assert running.stats.bytes == read
        assert not any(task.done() for task in sending)
        assert running.intake.asked == 1
        running.intake.resume()
        await asyncio.gather(*sending)
        await until(lambda: running.stats.messages == 100_000)


@pytest.mark.usefixtures("unhurried")
async def test_nobody_is_too_quiet_while_paused() -> None:
    """Time in which we did not listen is not held against anybody."""
    async with Running(replace(PLAIN, idle_timeout=0.1)) as running:
        client, _ = await running.connect(), await running.connect()
        await until(lambda: running.stats.connections == 2)
        running.intake.pause_after = 1
        await send(client, b"one\n")
        await until(lambda: running.intake.asked)
        await asyncio.sleep(0.3)
        running.intake.resume()
        await until(lambda: running.listener._turns.reading)
        running.listener._sweep()

        assert running.stats.evicted == 0


def test_options_that_make_no_sense() -> None:
    """They are refused before anything is opened."""
    with pytest.raises(InvalidOption, match=r"tcp://127\.0\.0\.1:0: max-connections"):
        Running(replace(PLAIN, max_connections=0))
