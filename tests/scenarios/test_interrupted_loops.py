"""Ctrl-C on a loop of the program's own, in the middle of a send, when the program goes on with its pool."""
# asyncio raises KeyboardInterrupt out of whatever the loop does just then: out of the middle of a send, too.

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

import producer_pool
from producer_pool import Batch, DeliveryPolicy, Retry
from producer_pool.contract.stream import Stream
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.model.framing import LINES
from producer_pool.model.policies import Limits
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from support.consumers import RecordingConsumer
from support.interrupts import Interrupted, interrupted_at
from support.ledger import Ledger
from support.streams import until

PACKAGE = Path(producer_pool.__file__).parent
NAMES = ("a", "b", "c")
POLICY = replace(DeliveryPolicy.relay(), retry=Retry(backoff=0.001, max_backoff=0.001))

pytestmark = pytest.mark.usefixtures("no_log")


class CtrlC(Interrupted, KeyboardInterrupt):
    """A KeyboardInterrupt of which a test knows that it is its own."""


def press_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise CtrlC


class Narrow(socket.socket):
    """Takes half of what it is given, after a number of sends of which it takes all."""

    whole = sys.maxsize

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        self.whole -= 1
        return super().send(data[: len(data) // 2] if self.whole == -1 else data, flags)


class NarrowDialer(TcpDialer):
    async def dial(self, timeout: float) -> socket.socket:
        return Narrow(fileno=(await super().dial(timeout)).detach())


class Client(StreamClient):
    """Sends by start(), or with *streams* in a convoy."""

    def __init__(self, consumer: RecordingConsumer, *, streams: bool) -> None:
        endpoint = producer_pool.Endpoint.parse(consumer.url)
        super().__init__(NarrowDialer(endpoint, TcpOptions()), StreamClientOptions(), protocol_name="tcp")
        self._streams = streams

    def stream(self) -> Stream | None:
        return self._plain_stream() if self._streams else None

    def take_half_after(self, whole: int) -> None:
        assert isinstance(self._socket, Narrow)
        self._socket.whole = whole


class Strikes:
    """An engine that is interrupted again and again, and goes on."""

    def __init__(self, consumers: Sequence[RecordingConsumer], *, streams: bool) -> None:
        self.ledger = Ledger()
        self.engine = Engine(Limits())
        self._clients = [Client(consumer, streams=streams) for consumer in consumers]
        for name, client in zip(NAMES, self._clients, strict=True):
            self.engine.add(Producer(name, client, POLICY))

    def feed(self) -> None:
        self.engine.feed(Batch.from_wire(self.ledger.write() + b"\n", LINES))

    async def strike(self, folder: Path, number: int) -> str:
        """Interrupt the first two of four sends at that point, and return where it was; '': nowhere."""
        await self.engine.check(5.0)
        self.engine.stats()  # Whoever asks has all leave their convoy.
        for client in self._clients:
            client.take_half_after(1)
        messages = [self.ledger.write() for _ in range(2)]

        def feed_both() -> None:
            for message in messages:
                self.engine.feed(Batch.from_wire(message + b"\n", LINES))

        where = interrupted_at(number, feed_both, folder, press_ctrl_c)
        # What comes in the same turn of the loop must not go on in the middle of a frame.
        self.feed()
        await self.engine.drain(5.0)
        self.feed()
        await self.engine.drain(5.0)
        return where


@pytest.mark.parametrize(
    "streams,folder",
    [
        (True, "delivery/convoy.py"),
        (True, "delivery/link.py"),
        (True, "toolkit/streams"),
        (False, "delivery/link.py"),
        (False, "toolkit/streams"),
    ],
)
async def test_interrupt_at_every_point_of_a_send(streams: bool, folder: str) -> None:
    """Wherever it strikes: what was begun is given up with its connection, and the next one begins anew."""
    with ExitStack() as stack:
        consumers = [stack.enter_context(RecordingConsumer()) for _ in NAMES]
        strikes = Strikes(consumers, streams=streams)
        struck = 0
        while await strikes.strike(PACKAGE / folder, struck + 1):
            struck += 1
        await strikes.engine.aclose(5.0)
        await until(lambda: all(one.ending for consumer in consumers for one in consumer.streams))

    assert struck > 10
    for consumer in consumers:
        verdict = strikes.ledger.judge(consumer.messages)

        assert not verdict.corrupt
        assert not verdict.disordered
        # Of what feed() raised out of, nobody was told that it was taken.
        assert {int(message.split(b"/")[1]) % 4 for message in verdict.lost} <= {0, 1}
        assert not [one for one in consumer.streams if one.tail and one.ending != "reset"]
