"""Servers: a listener poured into a pool, and into the program's own callback."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from producer_pool import server as server_module
from producer_pool.aio import AsyncProducerPool
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ListenError
from producer_pool.model.policies import Limits
from producer_pool.server import AsyncServer, bind_transport_async
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakePipelinedClient, hang, hang_stubbornly
from support.fake_listeners import FakeListener, ListenerFactory
from support.streams import FakeIntake

KiB = 1024


class Bound:
    """A fake listener, a pool with one consumer, and the server between them."""

    def __init__(self, drain: float = 10.0) -> None:
        self.listener = FakeListener()
        self.client = FakePipelinedClient()
        self.pool = AsyncProducerPool(
            factory=cast(Any, ListenerFactory(self.listener)), limits=Limits(drain=drain)
        )
        self.server: AsyncServer

    async def bind(self, on_message: Callable[[bytes], Awaitable[object]] | None = None) -> None:
        await self.pool.add_producer("a", self.client)
        await self.pool.check()
        self.server = await bind_transport_async("fake:", self.pool, on_message=on_message)

    def arrive(self, *messages: bytes) -> None:
        self.listener.intake.feed(Batch.of(messages))


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- messages --------------------------------------------------------------------------------------


@in_virtual_time
async def test_without_a_callback() -> None:
    """Messages go to every producer."""
    it = Bound()
    await it.bind()
    it.arrive(b"1", b"2")
    await it.server.aclose()
    await it.pool.aclose()

    assert it.client.messages == [b"1", b"2"]
    assert it.server.callback_errors == 0
    assert it.server.stats is it.listener.stats
    assert it.server.endpoint.scheme == "fake"


@in_virtual_time
async def test_callback() -> None:
    """It sees each message, in order, one after the other."""
    it = Bound()
    seen: list[bytes] = []
    calls = 0

    async def on_message(message: bytes) -> None:
        nonlocal calls
        calls += 1
        assert calls == 1
        await asyncio.sleep(0.1)
        seen.append(message)
        calls -= 1

    await it.bind(on_message)
    it.arrive(b"1", b"2")
    await asyncio.sleep(0.05)
    it.arrive(b"3")
    receipt = it.listener.intake.accept(Batch.of([b"4"]))
    await it.server.aclose()

    assert seen == it.client.messages == [b"1", b"2", b"3", b"4"]
    assert receipt.delivered
    await it.pool.aclose()


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), asyncio.CancelledError()], ids=repr)
@in_virtual_time
async def test_callback_that_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged and counted; it sees the next message, and forwarding goes on."""
    it = Bound()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        seen.append(message)
        raise error

    await it.bind(on_message)
    for number in range(5):
        it.arrive(b"%d" % number)
        await asyncio.sleep(0.1)
    await it.server.aclose()
    await it.pool.aclose()

    assert len(seen) == len(it.client.messages) == it.server.callback_errors == 5
    assert caplog.text.count("on_message raised, which stops nothing") == 1


@pytest.mark.parametrize("stores", [False, True])
async def test_callback_before_storage(stores: bool) -> None:
    """A listener that is to acknowledge what is stored is told whether the pool stores, callback or not."""

    async def on_message(message: bytes) -> None:
        return

    tap = server_module._TaskTap(FakeIntake(stores=stores), on_message)
    receipt = tap.accept(Batch.of([b"x"]))
    await tap.finish(1)

    assert tap.stores is stores
    assert receipt.stored is (False if stores else None)


@in_virtual_time
async def test_callback_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener is paused at the bound, and resumed when half of it is worked off."""
    monkeypatch.setattr(server_module, "CALLBACK_BYTES", 8 * KiB)
    it = Bound()

    async def on_message(message: bytes) -> None:
        await asyncio.sleep(1)

    await it.bind(on_message)
    intake = it.listener.intake
    paused = []
    for _ in range(8):
        paused.append(intake.paused)
        it.arrive(b"x" * 512)
    paused.append(intake.paused)
    begin = seconds()
    await intake.resumed()
    paused.append(intake.paused)

    assert paused == [False] * 8 + [True, False]
    assert len(it.client.messages) == 8
    assert seconds() - begin == pytest.approx(4, abs=0.1)

    await it.server.aclose()
    await it.pool.aclose()


@in_virtual_time
async def test_callback_that_never_waits() -> None:
    """Others have the loop between two of its turns."""
    it = Bound()
    seen = 0

    async def on_message(message: bytes) -> None:
        nonlocal seen
        seen += 1

    await it.bind(on_message)
    it.arrive(*[b"x"] * 5000)
    turns = []
    while seen < 5000:
        await asyncio.sleep(0)
        turns.append(seen)

    assert len(turns) > 10

    await it.server.aclose()
    await it.pool.aclose()


# -- the end ---------------------------------------------------------------------------------------


@in_virtual_time
async def test_order_of_the_end() -> None:
    """No new connections, then what has arrived is read, then it is let go; the callback sees all of it."""
    it = Bound()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        await asyncio.sleep(1)
        seen.append(message)

    await it.bind(on_message)
    it.listener.arrived = [Batch.of([b"last"])]
    waiting = asyncio.create_task(it.server.wait())
    await it.server.aclose()
    await waiting

    assert it.listener.calls == ["start", "stop_accepting", "drain", "aclose"]
    assert seen == it.client.messages == [b"last"]

    await it.server.aclose()
    await it.pool.aclose()

    assert it.listener.calls.count("aclose") == 1


@in_virtual_time
async def test_closed_twice_at_once() -> None:
    """Both calls return when it is over, and so does wait()."""
    it = Bound()
    await it.bind()
    it.listener.faults["drain"] = lambda: asyncio.sleep(3)
    begin = seconds()
    waiting = asyncio.create_task(it.server.wait())
    first = asyncio.create_task(it.server.aclose())
    await asyncio.sleep(1)

    assert not waiting.done()

    await it.server.aclose()
    await asyncio.gather(first, waiting)

    assert seconds() - begin == 3
    await it.pool.aclose()


@pytest.mark.parametrize("call", ["stop_accepting", "drain", "aclose"])
@pytest.mark.parametrize("error", [OSError("odd"), SystemExit(2), asyncio.CancelledError()], ids=repr)
@in_virtual_time
async def test_listener_that_raises_at_the_end(
    call: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the rest is done all the same."""
    it = Bound()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        seen.append(message)

    await it.bind(on_message)
    it.arrive(b"x")
    it.listener.faults[call] = error
    await it.server.aclose()
    await it.pool.aclose()

    assert it.listener.calls == ["start", "stop_accepting", "drain", "aclose"]
    assert seen == [b"x"]
    assert f"{call}() failed" in caplog.text


@pytest.mark.parametrize("call", ["stop_accepting", "drain", "aclose"])
@in_virtual_time
async def test_listener_that_hangs_at_the_end(call: str, caplog: pytest.LogCaptureFixture) -> None:
    """It has the drain time, and half a second to let go."""
    it = Bound(drain=5)
    await it.bind()
    it.listener.faults[call] = hang
    begin = seconds()
    await it.server.aclose()

    assert seconds() - begin == (0.5 if call == "aclose" else 5)
    assert it.listener.calls[-1] == "aclose"
    assert "within 5 s" in caplog.text or "longer than 0.5 s" in caplog.text

    await it.pool.aclose()


@in_virtual_time
async def test_callback_that_hangs_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """It has the drain time, and then it is cancelled; that is said."""
    it = Bound(drain=5)

    async def on_message(message: bytes) -> None:
        await hang()

    await it.bind(on_message)
    it.arrive(b"x", b"y")
    it.arrive(b"z")
    begin = seconds()
    await it.server.aclose()

    assert seconds() - begin == 5
    assert "on_message was not done within 5 s" in caplog.text

    await it.pool.aclose()


@in_virtual_time
async def test_callback_that_ignores_its_cancellation() -> None:
    """It is left behind."""
    it = Bound(drain=5)

    async def on_message(message: bytes) -> None:
        await hang_stubbornly(60)

    await it.bind(on_message)
    it.arrive(b"x")
    begin = seconds()
    await it.server.aclose()
    await it.pool.aclose()

    assert seconds() - begin <= 7

    await asyncio.sleep(100)


@in_virtual_time
async def test_callback_that_closes_the_server() -> None:
    """It does not wait for itself, and sees what else has arrived."""
    it = Bound()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        seen.append(message)
        if message == b"quit":
            await it.server.aclose()

    await it.bind(on_message)
    begin = seconds()
    it.arrive(b"quit", b"after")
    it.listener.arrived = [Batch.of([b"later"])]
    await it.server.wait()
    await asyncio.sleep(0.1)

    assert seconds() - begin < 1
    assert seen == it.client.messages == [b"quit", b"after", b"later"]

    await it.pool.aclose()


@in_virtual_time
async def test_closing_is_cancelled() -> None:
    """The listener is let go all the same."""
    it = Bound()
    await it.bind()
    it.listener.faults["drain"] = hang
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await it.server.aclose()

    assert it.listener.calls[-1] == "aclose"

    await it.server.wait()
    await it.pool.aclose()


@in_virtual_time
async def test_pool_is_closed_first() -> None:
    """It closes the server, and delivers what that had still to read."""
    it = Bound()
    seen: list[bytes] = []

    async def on_message(message: bytes) -> None:
        seen.append(message)

    await it.bind(on_message)
    it.listener.arrived = [Batch.of([b"last"])]
    await it.pool.aclose()
    await it.server.wait()
    await it.server.aclose()

    assert it.listener.calls == ["start", "stop_accepting", "drain", "aclose"]
    assert seen == it.client.messages == [b"last"]


@in_virtual_time
async def test_pool_is_closed_over_a_listener_that_hangs() -> None:
    """Both together take no longer than the drain time and a little more."""
    it = Bound(drain=5)
    await it.bind()
    it.listener.faults["drain"] = hang
    it.listener.faults["aclose"] = hang
    begin = seconds()
    await it.pool.aclose()

    assert seconds() - begin <= 5 + 2


@in_virtual_time
async def test_context_manager() -> None:
    """It closes at its end."""
    it = Bound()
    await it.bind()
    async with it.server:
        it.arrive(b"x")

    assert it.listener.calls[-1] == "aclose"
    await it.pool.aclose()


@in_virtual_time
async def test_nothing_can_listen_there() -> None:
    """The error is raised, and nothing is left behind."""
    it = Bound()
    it.listener.faults["start"] = ListenError("address in use")
    with pytest.raises(ListenError, match="address in use"):
        await it.bind(hang_on_message)
    await it.pool.aclose()


async def hang_on_message(message: bytes) -> None:
    await hang()
