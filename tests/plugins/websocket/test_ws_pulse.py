"""Pings of one connection: behind messages, and to those who are quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from producer_pool.testing import in_virtual_time
from producer_pool_websocket.options import PingOptions
from producer_pool_websocket.pulse import Pulse
from producer_pool_websocket.reading import FrameReader
from support.streams import until


class FakeLine:
    """A connection that takes everything, and keeps the pings."""

    def __init__(self) -> None:
        self.position = 0
        self.reasons: list[str] = []
        self.pings: list[bytes] = []

    def say(self, data: bytes) -> None:
        self.position += len(data)
        reader = FrameReader(None, masked=False)
        reader.feed(data, len(data))
        assert reader.ping is not None
        self.pings.append(reader.ping)

    def silent(self, reason: str) -> None:
        self.reasons.append(reason)


def pulse(line: FakeLine, *, asks: bool = True, interval: float = 0.0, timeout: float = 20.0) -> Pulse:
    return Pulse(line, PingOptions(ping_interval=interval, ping_timeout=timeout), asks=asks, masked=False)


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@in_virtual_time
async def test_ping_behind_messages(line: FakeLine) -> None:
    """There is one, at once; no second one where nothing followed."""
    made = pulse(line)
    made.follow_up()
    assert line.pings == []
    line.position += 100
    made.follow_up()
    made.follow_up()

    assert len(line.pings) == 1
    assert made.pongs.acknowledged(100) == 0
    assert made.answered(line.pings)
    assert made.pongs.acknowledged(100) == 100
    assert len(line.pings) == 1
    made.stop()


@in_virtual_time
async def test_messages_behind_a_ping(line: FakeLine) -> None:
    """They are asked after when its answer is there."""
    made = pulse(line)
    line.position += 100
    made.follow_up()
    line.position += 100
    made.follow_up()
    assert len(line.pings) == 1
    made.answered(line.pings)
    await until(lambda: len(line.pings) == 2)
    made.answered(line.pings[1:])

    assert made.pongs.acknowledged(0) == 100 + 10 + 100
    made.stop()


@in_virtual_time
async def test_many_messages_in_a_moment(line: FakeLine) -> None:
    """They share a ping, however soon each is answered."""
    made = pulse(line)
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    while loop.time() < began + 0.05:
        line.position += 10
        sent += 1
        made.follow_up()
        made.answered(line.pings[-1:])
        await asyncio.sleep(0.0001)
    passed = loop.time() - began

    assert len(line.pings) <= passed * 1000 + 1
    assert sent > 5 * len(line.pings)
    await until(lambda: made.answered(line.pings[-1:]) or made.pongs.since is None)
    made.stop()


@in_virtual_time
async def test_no_questions_where_nobody_wants_answers(line: FakeLine) -> None:
    """Without asks there is no ping behind messages, and an answer moves nothing."""
    made = pulse(line, asks=False, interval=0.01)
    line.position += 100
    made.follow_up()
    assert line.pings == []
    await until(lambda: line.pings)

    assert not made.answered(line.pings)
    made.stop()


@in_virtual_time
async def test_quiet_other_side(line: FakeLine) -> None:
    """It is asked whenever it has been quiet for the interval; hearing anything puts that off."""
    made = pulse(line, interval=0.02)
    for count in range(1, 4):
        await until(lambda count=count: len(line.pings) == count)  # type: ignore[misc]
        made.heard()
        made.answered(line.pings[-1:])

    assert line.reasons == []
    made.stop()


@in_virtual_time
async def test_other_side_that_does_not_answer(line: FakeLine) -> None:
    """It is given up, once, and asked no more."""
    made = pulse(line, interval=0.01, timeout=0.03)
    await until(lambda: line.reasons)
    asked = len(line.pings)
    line.position += 100
    made.follow_up()
    await asyncio.sleep(0.05)

    assert line.reasons == ["no answer to a ping within 0.03 s; see ping-timeout"]
    assert len(line.pings) == asked == 1
    made.stop()


@in_virtual_time
async def test_stop(line: FakeLine) -> None:
    """Nothing is asked any more, and no timer is left."""
    made = pulse(line, interval=0.01)
    line.position += 10
    made.follow_up()
    made.answered(line.pings)
    line.position += 10
    made.follow_up()
    made.stop()
    made.stop()
    await asyncio.sleep(0.05)

    assert len(line.pings) == 1


@pytest.mark.parametrize("interval,timeout", [(1e-6, 20.0), (20.0, 1e-6), (0.0, 1e-6)])
@in_virtual_time
async def test_times_that_are_none(
    line: FakeLine, interval: float, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for microseconds gets what leaves time for others."""
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        if isinstance(getattr(callback, "__self__", None), Pulse):
            delays.append(delay)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", noted)
    made = pulse(line, asks=False, interval=interval, timeout=timeout)
    await until(lambda: len(delays) > 1)
    made.stop()

    assert min(delays) >= 0.01
