"""Members of a convoy that do not do as they should: what they raise stays with them, and nothing is lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from producer_pool.contract.stream import Stream
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.model.framing import LINES
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.testing import in_virtual_time
from support.engines import add, engine
from support.fake_clients import FakePipelinedClient
from support.streaming import FakeStream, StreamingClient, lines

pytestmark = pytest.mark.usefixtures("no_log")

RELAY = DeliveryPolicy.relay()


class FaultyStream(FakeStream):
    """A stream of which one call raises, as often as a test says."""

    def fail(self, name: str, error: BaseException) -> None:
        call = getattr(self, name)

        def fail(*args: Any) -> None:
            self.times = getattr(self, "times", 0) + 1
            if name == "watch" and not args[0]:
                call(*args)  # Else it would be among those of other tests.
            raise error

        setattr(self, name, fail)


class FaultyClient(StreamingClient):
    """A client whose first connection is a faulty stream."""

    def __init__(self) -> None:
        super().__init__()
        self.fault_of_stream: tuple[str, BaseException] | None = None
        self.streams: list[FaultyStream] = []

    def stream(self) -> Stream | None:
        self.streams.append(FaultyStream(self))
        if self.fault_of_stream is not None:
            self.streams[-1].fail(*self.fault_of_stream)
            self.fault_of_stream = None
        return self.streams[-1]


async def with_another(it: Engine, client: StreamingClient) -> tuple[StreamingClient, Producer]:
    """Add a good producer, and one that has *client*."""
    good = StreamingClient()
    add(it, "good", good, RELAY)
    producer = add(it, "bad", client, RELAY)
    await it.check(1.0)
    return good, producer


def left_behind(client: FaultyClient) -> None:
    """The next batch is not acknowledged."""
    client.prompt = False


def ended(client: FaultyClient) -> None:
    """Its consumer closes the connection; the loop is told a little later."""
    client.ended = True
    asyncio.get_running_loop().call_later(0.05, client.break_off)


def part_taken(client: FaultyClient) -> None:
    """The kernel takes a part of the next batch, and the rest soon."""
    client.room = 1
    asyncio.get_running_loop().call_later(0.05, client.make_room, None)


def reset(client: FaultyClient) -> None:
    """The connection is reset; the loop is told a little later."""
    client.fault = ConnectionResetError()
    asyncio.get_running_loop().call_later(0.05, client.break_off)


def nothing(client: FaultyClient) -> None:
    """All goes well."""


@pytest.mark.parametrize(
    "name, happen",
    [
        ("send", nothing),
        ("ended", nothing),
        ("has_ended", ended),
        ("unconfirmed", left_behind),
        ("watch", left_behind),
        ("passed", left_behind),
        ("took", left_behind),
        ("took", part_taken),
        ("broke", reset),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("fault"), ValueError("closed"), SystemExit(1)], ids=repr)
@in_virtual_time
async def test_stream_that_raises(
    name: str, happen: Callable[[FaultyClient], None], error: BaseException
) -> None:
    """Whatever its stream raises while it is in a convoy: others get all, once, and so does it in the end."""
    async with engine(drain=30.0) as it:
        client = FaultyClient()
        if name == "send":
            client.fault_of_stream = name, error  # Who joins takes hold of it.
        good, _ = await with_another(it, client)
        it.feed(lines(b"20"))
        happen(client)
        stream = client.streams[0]
        if name != "send":
            stream.fail(name, error)
        if name == "ended":
            it._convoys[LINES]._ended = stream.ended
        meant = [b"20"]
        for number in range(21, 40):
            it.feed(lines(b"%d" % number))
            meant.append(b"%d" % number)
            await asyncio.sleep(0.02)
        it.stats()
        client.prompt = True
        client.acknowledge()
        await it.drain(10.0)
        stats = it.stats().producers

        assert stream.times > 0
        assert good.arrived == [meant]
        assert (stats["good"].accepted, stats["good"].delivered) == (20, 20)
        assert (stats["bad"].accepted, stats["bad"].delivered) == (20, 20)


@in_virtual_time
async def test_stream_that_cannot_be_watched() -> None:
    """As where there is no descriptor left: whose stream it is gets everything in the usual way."""
    async with engine(drain=30.0) as it:
        client = FaultyClient()
        client.fault_of_stream = "watch", OSError(24, "Too many open files")
        good, _ = await with_another(it, client)
        it.feed(lines(b"0"))
        it.feed(lines(b"1"))

        assert good.arrived == client.arrived == [[b"0", b"1"]]
        assert (good.calls, client.calls) == (0, 2)
        assert it.stats().producers["bad"].breaks == 0


class OtherStream(FakePipelinedClient):
    """A client of others, to which the word means something else."""

    def stream(self) -> Any:
        return iter(())


@in_virtual_time
async def test_something_else_of_that_name() -> None:
    """What stream() returns, and is no Stream, is left alone."""
    async with engine(drain=30.0) as it:
        client = OtherStream()
        add(it, "a", client, RELAY)
        await it.check(1.0)
        it.feed(lines(b"0"))
        await asyncio.sleep(0.1)

        assert client.messages == [b"0"]
        assert it.stats().producers["a"].delivered == 1


@in_virtual_time
async def test_task_that_ends_in_flight() -> None:
    """Whoever ends all tasks, as asyncio.run() does, ends it at once; what was in flight is accounted for."""
    async with engine() as it:
        client = StreamingClient()
        _, producer = await with_another(it, client)
        client.prompt = False
        it.feed(lines(b"0"))
        it.feed(lines(b"1", b"2"))
        task = producer._task
        assert task is not None
        task.cancel()
        await asyncio.wait([task], timeout=0.01)

        assert task.cancelled()
        assert it.stats().producers["bad"].accepted == 3
    assert it.stats().producers["bad"].cancelled == 3
