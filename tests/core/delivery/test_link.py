"""One connection of a pipelined client."""

import asyncio
from typing import Any, cast

import pytest

from producer_pool.model.errors import DeliveryError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import BATCH_OVERHEAD, DeliveryPolicy
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakePipelinedClient
from support.lines import Line, line

MiB = 1024 * 1024


# -- delivering ------------------------------------------------------------------------------------


@in_virtual_time
async def test_what_waited_before_the_connection() -> None:
    """It goes out as soon as there is one, in one burst."""
    async with line(before=[b"a", b"b"]) as it:
        assert it.client.messages == [b"a", b"b"]
        assert it.client.asked == 1
        assert it.delivered == 2


@in_virtual_time
async def test_written_at_once() -> None:
    """It is delivered before the call is over."""
    async with line() as it:
        page = it.send(b"a")

        assert page.done(0)


@in_virtual_time
async def test_written_later() -> None:
    """It is delivered when the client says that it got further, even if nothing else waits."""
    client = FakePipelinedClient()
    client.written = 0
    async with line(client) as it:
        it.send(b"a")
        client.written = 1
        it.link.writable()

        assert it.delivered == 1


@pytest.mark.parametrize("seconds", [0.0005, 0.03, 0.7, 9.0])
@in_virtual_time
async def test_confirmed_without_an_event(seconds: float) -> None:
    """It is found soon: within 50 ms, or twice the time that it took."""
    async with line(FakePipelinedClient(confirms_after=seconds), ack=Ack.KERNEL) as it:
        page = it.send(b"last")
        done = asyncio.Event()
        page.when_done(0, done.set)
        loop = asyncio.get_running_loop()
        sent = loop.time()
        await done.wait()

        assert loop.time() - sent <= seconds + max(0.001, min(seconds, 0.05)) + 1e-6


@in_virtual_time
async def test_confirmed_one_after_the_other() -> None:
    """As long as anything is in flight, there is a timer."""
    async with line(FakePipelinedClient(confirms_after=0.2), ack=Ack.KERNEL) as it:
        for _ in range(20):
            it.send(b"x")
            await asyncio.sleep(0.07)
        await asyncio.sleep(0.3)

        assert it.delivered == 20


@in_virtual_time
@pytest.mark.parametrize("size, unasked", [(1, 20), (MiB // 4, 3), (MiB * 7 // 8, 0)])
async def test_many_batches_at_once(size: int, unasked: int) -> None:
    """Acknowledgements are asked for before the timer does, so that memory is let go of."""
    async with line(ack=Ack.KERNEL) as it:
        for _ in range(100):
            it.send(b"x" * size)

        assert it.delivered >= 100 - unasked


@in_virtual_time
async def test_idle_connection() -> None:
    """No timer runs while nothing is in flight."""
    async with line(FakePipelinedClient(confirms_after=0.2), ack=Ack.KERNEL) as it:
        it.send(b"x")
        await asyncio.sleep(1)
        asked = it.client.asked
        scheduled = cast(Any, asyncio.get_running_loop())._scheduled

        assert [handle for handle in scheduled if not handle.cancelled()] == []
        assert it.client.asked == asked


# -- turns and room --------------------------------------------------------------------------------


@in_virtual_time
async def test_more_than_one_turn() -> None:
    """After 1 MiB others have the loop; then it goes on."""
    async with line(before=[b"x" * (MiB // 4 - BATCH_OVERHEAD)] * 12) as it:
        first = len(it.client.messages)
        await asyncio.sleep(0)
        second = len(it.client.messages)
        await asyncio.sleep(0)

        assert (first, second, len(it.client.messages)) == (4, 8, 12)


@in_virtual_time
async def test_client_takes_some() -> None:
    """What it leaves waits until it says so, and goes out in order."""
    async with line(FakePipelinedClient(room=2), before=[b"a", b"b", b"c", b"d"]) as it:
        assert it.client.messages == [b"a", b"b"]

        it.send(b"e")
        it.client.make_room(1)

        assert it.client.messages == [b"a", b"b", b"c"]

        it.client.make_room(5)

        assert it.client.messages == [b"a", b"b", b"c", b"d", b"e"]


@in_virtual_time
async def test_full_client_is_not_asked_again() -> None:
    """Having said 0, it is left alone until it says that it takes more."""
    async with line(FakePipelinedClient(room=0)) as it:
        for _ in range(10):
            it.send(b"x")

        assert it.client.asked == 1


@in_virtual_time
async def test_confirmed_after_a_full_client_went_on() -> None:
    """The timer for confirmations is there although one for a stall was set before."""
    client = FakePipelinedClient(room=0, confirms_after=0.01)
    async with line(client, ack=Ack.KERNEL) as it:
        it.send(b"a")
        await asyncio.sleep(1)
        client.make_room(1)
        await asyncio.sleep(0.1)

        assert it.delivered == 1


# -- stalls ----------------------------------------------------------------------------------------


async def lost_after(it: Line) -> tuple[float, DeliveryError]:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    error = await it.lost
    return loop.time() - begin, error


@pytest.mark.parametrize("ack", [Ack.WRITTEN, Ack.KERNEL])
@in_virtual_time
async def test_consumer_that_does_not_read(ack: Ack) -> None:
    """Nothing in flight moves for the timeout: the connection is given up, in words."""
    client = FakePipelinedClient(confirms_after=10**6)
    client.written = 0
    async with line(client, ack=ack) as it:
        it.send(b"a")
        seconds, error = await lost_after(it)

        assert seconds == pytest.approx(10, abs=0.06)
        assert "accepts but does not read: nothing moved for 10s" in str(error)


class AtWork(FakePipelinedClient):
    """Its consumer confirms nothing, and says until some time that it is at work."""

    until = 25.0

    def heard_at(self) -> float:
        return self.began + min(asyncio.get_running_loop().time() - self.began, self.until)

    def why_stalled(self) -> str:
        return "sleeps"

    async def connect(self) -> None:
        await super().connect()
        self.began = asyncio.get_running_loop().time()


@in_virtual_time
async def test_consumer_that_is_at_work() -> None:
    """It gets its time; the timeout counts from its last sign of life, and the error is the client's."""
    async with line(AtWork(confirms_after=10**6), ack=Ack.KERNEL) as it:
        it.send(b"a")
        seconds, error = await lost_after(it)

        assert seconds == pytest.approx(35, abs=0.06)
        assert "sleeps: nothing moved for 10s" in str(error)


@in_virtual_time
async def test_stall_after_progress() -> None:
    """The time counts from the last progress, and not from when the timer was set."""
    client = FakePipelinedClient()
    client.written = 0
    async with line(client) as it:
        it.send(b"a")
        it.send(b"b")
        await asyncio.sleep(7)
        client.written = 1
        it.link.writable()
        seconds, _ = await lost_after(it)

        assert seconds == pytest.approx(10)


@in_virtual_time
async def test_client_that_takes_nothing() -> None:
    """That is a stall too, though nothing is in flight; that it is offered more does not hide it."""
    async with line(FakePipelinedClient(room=0), before=[b"a"]) as it:
        for _ in range(9):
            await asyncio.sleep(1)
            it.link.writable()
        seconds, error = await lost_after(it)

        assert seconds == pytest.approx(1)
        assert "may have arrived" not in str(error)


@in_virtual_time
async def test_quiet_connection_is_no_stall() -> None:
    """An hour without messages, and then one: it has all of its time."""
    client = FakePipelinedClient()
    client.written = 1
    async with line(client) as it:
        it.send(b"a")
        await asyncio.sleep(3600)
        it.send(b"b")
        await asyncio.sleep(9.9)
        client.written = 2
        it.link.writable()

        assert it.delivered == 2
        assert not it.lost.done()


# -- the end of a connection -----------------------------------------------------------------------


@in_virtual_time
async def test_close_asks_once_more() -> None:
    """What was confirmed when the connection broke counts as delivered."""
    client = FakePipelinedClient(confirms_after=0.01)
    async with line(client, ack=Ack.KERNEL, before=[b"a", b"b"]) as it:
        await asyncio.sleep(0.012)
        it.send(b"c")
        client.break_off()

        assert it.delivered == 0

        await it.lost
        it.link.close()

        assert it.delivered == 2
        assert it.outbox.in_flight() == 1


@in_virtual_time
async def test_signals_after_the_end() -> None:
    """They reach nobody."""
    async with line() as it:
        it.link.broken(SendError("first"))
        it.link.broken(SendError("second"))
        error = await it.lost
        it.link.close()
        it.send(b"a")
        it.link.writable()
        it.link.rejected(0, Rejected("no"))

        assert str(error) == "first"
        assert it.client.messages == []
        assert it.outbox.stats.failed == 0


@in_virtual_time
async def test_signals_before_the_connection() -> None:
    """A client that talks while it connects is not given anything yet."""
    line = Line(FakePipelinedClient(), Ack.WRITTEN, DeliveryPolicy.relay())
    line.send(b"a")
    line.link.writable()
    line.link.rejected(0, Rejected("no"))
    line.link.close()
    line.link.writable()

    assert line.client.asked == 0
    assert line.outbox.pending() == 1


@in_virtual_time
async def test_broken_while_it_connected() -> None:
    """Serving ends at once, and nothing is handed over."""
    line = Line(FakePipelinedClient(), Ack.WRITTEN, DeliveryPolicy.relay())
    line.send(b"a")
    line.link.broken(SendError("gone already"))
    error = await line.link.serve()
    line.link.close()

    assert str(error) == "gone already"
    assert line.client.asked == 0
