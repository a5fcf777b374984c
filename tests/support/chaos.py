"""Clients that do whatever a client may do, and much that it may not; the same from the same seed."""

import asyncio
import errno
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from producer_pool.contract.ports import Client, ClientSignals, PipelinedClient, Settled
from producer_pool.contract.stream import Stream
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from support.fake_clients import hang
from support.streaming import FakeStream, StreamingClient

__all__ = ["ChaoticClient", "ChaoticConsumer", "ChaoticPipelinedClient", "ChaoticStreamingClient"]

ERRORS = (
    partial(ConnectError, "chaos: refused"),
    partial(SendError, "chaos: reset"),
    partial(ValueError, "chaos: odd"),
    partial(SystemExit, 3),
    partial(asyncio.CancelledError, "chaos: out of nowhere"),
    partial(TimeoutError, "chaos: its own"),
)
"""What makes each of them anew: one that is raised again holds all that it was raised in before."""


class ChaoticConsumer:
    """What really arrived, and how moody everything on the way is."""

    def __init__(self, random: Random, *, calm: float) -> None:
        self.random = random
        self.calm = calm
        """The part of calls that go well."""
        self.arrived: list[bytes] = []
        self.rejected: set[bytes] = set()

    def well(self) -> bool:
        return self.random.random() < self.calm

    async def maybe_fail(self) -> None:
        """Take some time, and then perhaps fail or hang."""
        random = self.random
        if random.random() < 0.3:
            await asyncio.sleep(random.choice([0.0, 0.001, 0.2, 3.0]))
        if self.well():
            return
        if random.random() < 0.2:
            await hang()
        raise random.choice(ERRORS)()


class ChaoticClient(Client):
    """Plain: what it raises may come before or after the message has arrived."""

    protocol_name = "chaos"

    def __init__(self, random: Random, *, calm: float, consumer: ChaoticConsumer | None = None) -> None:
        self.address = "chaos:plain"
        self.timeout = random.choice([0.5, 5.0])
        self.consumer = consumer or ChaoticConsumer(random, calm=calm)

    @property
    def arrivals(self) -> list[bytes]:
        return self.consumer.arrived

    async def connect(self) -> None:
        await self.consumer.maybe_fail()

    async def send(self, message: bytes) -> None:
        consumer = self.consumer
        random = consumer.random
        if not consumer.well() and random.random() < 0.3:
            consumer.rejected.add(message)
            raise Rejected("chaos: no")
        arrives_first = random.random() < 0.5
        if arrives_first:
            consumer.arrived.append(message)
        try:
            await consumer.maybe_fail()
        except ConnectError:
            if arrives_first:  # That would be a lie.
                raise SendError("chaos: reset") from None
            raise
        if not arrives_first:
            consumer.arrived.append(message)

    async def aclose(self) -> None:
        await self.consumer.maybe_fail()


class ChaoticPipelinedClient(PipelinedClient):
    """Pipelined: takes some, gets stuck, confirms late, breaks at any time, calls back when it should not."""

    protocol_name = "chaos"

    def __init__(self, random: Random, *, calm: float, consumer: ChaoticConsumer | None = None) -> None:
        self.address = "chaos:pipelined"
        self.timeout = random.choice([0.5, 5.0])
        self.consumer = consumer or ChaoticConsumer(random, calm=calm)
        self._signals: list[ClientSignals] = []
        self._open = False
        self._given: list[bytes] = []
        self._written = self._confirmed = 0
        self._refused = False
        self.lies = random.random() < 0.15
        """Whether it sometimes says that more was settled than it was given."""

    @property
    def arrivals(self) -> list[bytes]:
        return self.consumer.arrived

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.KERNEL})

    def attach(self, signals: ClientSignals) -> None:
        self._signals.append(signals)

    async def connect(self) -> None:
        await self.consumer.maybe_fail()
        self._open = True
        self._given = []
        self._written = self._confirmed = 0
        self._later(self._live, len(self._signals))

    def _later(self, call: Any, *arguments: object) -> None:
        delay = self.consumer.random.choice([0.0, 0.0005, 0.01, 0.3, 2.0])
        asyncio.get_running_loop().call_later(delay, call, *arguments)

    def _live(self, connection: int) -> None:
        """Let the connection get on, or break, from time to time."""
        random = self.consumer.random
        if random.random() < 0.1:
            # Somebody's old signals: nobody may listen to them.
            random.choice(self._signals[:-1] or self._signals).writable()
        if connection != len(self._signals) or not self._open:
            return
        if not self.consumer.well():
            if random.random() < 0.5 and self._given:
                number = random.randrange(len(self._given))
                if number >= self._confirmed:
                    self.consumer.rejected.add(self._given[number])
                    self._signals[-1].rejected(number, Rejected("chaos: no"))
            else:
                self._break()
                return
        self._written = random.randint(self._written, len(self._given))
        self._arrive(random.randint(self._confirmed, self._written))
        if random.random() < 0.5:
            self._signals[-1].writable()
        if self._confirmed < len(self._given) or self._refused:
            self._later(self._live, connection)
        else:
            asyncio.get_running_loop().call_later(random.choice([5.0, 500.0]), self._live, connection)

    def _arrive(self, count: int) -> None:
        self.consumer.arrived += self._given[self._confirmed : count]
        self._confirmed = count

    def _break(self) -> None:
        """Lose the connection: more may have arrived than was confirmed."""
        self._open = False
        self.consumer.arrived += self._given[
            self._confirmed : self.consumer.random.randint(self._confirmed, len(self._given))
        ]
        self._signals[-1].broken(SendError("chaos: reset"))

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        random = self.consumer.random
        if not self._open:
            return 0
        if not self.consumer.well():
            if random.random() < 0.2:
                raise random.choice(ERRORS)()
            if random.random() < 0.2:
                self._signals[-1].writable()
            self._refused = True
            self._later(self._live, len(self._signals))
            return 0
        self._refused = False
        self._later(self._live, len(self._signals))
        count = random.randint(1, len(batches))
        for batch in batches[:count]:
            self._given += batch.messages[offset:]
            offset = 0
        return count

    def settled(self) -> Settled:
        if self.lies and not self.consumer.well():
            return Settled(len(self._given) + 7, len(self._given) + 7)
        return Settled(self._written, self._confirmed)

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            # What was on its way may still arrive.
            self.consumer.arrived += self._given[
                self._confirmed : self.consumer.random.randint(self._confirmed, len(self._given))
            ]
        await self.consumer.maybe_fail()


class ChaoticStreamingClient(StreamingClient):
    """Writes into a stream whose kernel takes a part, acknowledges late, refuses for a moment, and breaks."""

    def __init__(self, random: Random, *, calm: float) -> None:
        super().__init__()
        self.protocol_name = "chaos"
        self.address = "chaos:stream"
        self.timeout = random.choice([0.5, 5.0, 5.0, 5.0])
        self.consumer = ChaoticConsumer(random, calm=calm)
        self._next: asyncio.TimerHandle | None = None
        self._told = True

    @property
    def arrivals(self) -> list[bytes]:
        """All lines that its kernels took whole."""
        return [message for connection in self.arrived for message in connection]

    async def connect(self) -> None:
        await self.consumer.maybe_fail()
        await super().connect()
        random = self.consumer.random
        self.prompt = random.random() < 0.5
        self.room = None
        self._told = False
        self._come(random.choice([0.0, 5.0, 500.0]))

    def stream(self) -> Stream | None:
        if self.consumer.well():
            return ChaoticStream(self)
        if self.consumer.random.random() < 0.2:
            raise self.consumer.random.choice(ERRORS)()
        return None

    def write(self, data: bytes) -> int:
        sent = super().write(data)
        self._come(self.consumer.random.choice([0.0005, 0.003, 0.01, 0.1, 0.3, 2.0]))
        return sent

    def _come(self, delay: float) -> None:
        """Live at the latest after *delay* seconds."""
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        if self._next is not None:
            when = min(when, self._next.when())
            self._next.cancel()
        self._next = loop.call_at(when, self._live)

    def _live(self) -> None:
        """Let the connection get on, or end."""
        self._next = None
        if self._told:
            return
        random = self.consumer.random
        if not self.consumer.well():
            end = random.choice([self.reset, self._close, self._fail])
            end()
            return
        self.prompt = random.random() < 0.7
        self.acknowledge(random.choice([1, 10, 300, None, None]))
        self.make_room(random.choice([0, 1, 30, 5_000, None, None, None]))
        now = self.now
        if self._waiting or now.acknowledged < len(now.taken):
            self._come(random.choice([0.001, 0.01, 0.3]))
        else:
            self._come(random.choice([1.0, 5.0, 500.0]))

    def reset(self) -> None:
        """Lose the connection, and say so."""
        if not self._told:
            self._told = self._broken = True
            self._signals.broken(SendError("chaos: reset"))

    def _close(self) -> None:
        """Have the other side close it in good order: the loop is told of it a little later."""
        self.ended = True
        self._reset_soon()

    def _fail(self) -> None:
        """Have the next send raise: the loop is told of it a little later."""
        self.fault = self.consumer.random.choice(
            [ConnectionResetError(), BrokenPipeError(), OSError(105, "")]
        )
        self._reset_soon()

    def _reset_soon(self) -> None:
        connection = self.now

        def reset() -> None:
            if connection is self.now:
                self.reset()

        asyncio.get_running_loop().call_later(self.consumer.random.choice([0.0, 0.001, 0.05]), reset)

    async def aclose(self) -> None:
        self._told = True
        await super().aclose()
        await self.consumer.maybe_fail()


class ChaoticStream(FakeStream):
    """The connection of a ChaoticStreamingClient. It is interrupted now and then, and any call may raise."""

    def __init__(self, client: ChaoticStreamingClient) -> None:
        super().__init__(client)
        self._consumer = client.consumer

    def _maybe_raise(self) -> None:
        if not self._consumer.well() and self._consumer.random.random() < 0.1:
            raise self._consumer.random.choice(ERRORS)()

    def _send(self, wire: bytes) -> int:
        self._maybe_raise()
        if not self._consumer.well():
            raise self._consumer.random.choice([BlockingIOError(), InterruptedError()])
        return super()._send(wire)

    def watch(self, yes: bool) -> None:
        if yes:
            self._maybe_raise()
        super().watch(yes)
        if not yes:
            self._maybe_raise()

    def has_ended(self) -> bool:
        self._maybe_raise()
        return super().has_ended()

    def unconfirmed(self) -> int:
        self._maybe_raise()
        if not self._consumer.well():
            raise OSError(errno.ENOTCONN, "chaos: not connected")
        return super().unconfirmed()

    def passed(self, size: int, count: int) -> None:
        super().passed(size, count)
        self._maybe_raise()

    def took(self, batch: Batch, sent: int) -> None:
        self._maybe_raise()
        super().took(batch, sent)

    def broke(self, error: OSError) -> None:
        super().broke(error)
        self._maybe_raise()
