"""The ways in which a program sends each message to all consumers."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from producer_pool import AsyncProducerPool, ProducerPool

WAIT = 30.0


class Verb(ABC):
    """A way to send each message to all consumers, which listen on *ports*. Threads may call at once."""

    lines: ClassVar[bool] = True
    """Whether what it sends are lines to the load's consumers. Another one looks itself at what arrives."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports

    @classmethod
    def missing(cls) -> str:
        """What is not installed that it needs; empty if nothing is missing."""
        return ""

    @abstractmethod
    def call(self, messages: Sequence[bytes]) -> None:
        """Send them one call after another. The time of this is taken."""

    def settle(self) -> bool:
        """Wait until the messages are with the kernel; true if all calls were successes."""
        return True


class Pooled(Verb):
    """Opens its own pool with default settings."""

    def __init__(self, ports: Sequence[int]) -> None:
        from producer_pool import ProducerPool

        super().__init__(ports)
        self.pool: ProducerPool = ProducerPool()
        for port in ports:
            self.pool.add_producer(f"consumer-{port}", f"tcp://127.0.0.1:{port}")
        self.pool.check(wait=WAIT)


class Submit(Pooled):
    """`submit()`: hands over and goes on. All receipts but the last are dropped, as most programs do."""

    def call(self, messages: Sequence[bytes]) -> None:
        submit = self.pool.submit
        receipt = submit(messages[0])
        for message in messages[1:]:
            receipt = submit(message)
        self.receipt = receipt

    def settle(self) -> bool:
        return self.pool.drain(wait=WAIT) and self.receipt.results(wait=WAIT).ok


class Forward(Pooled):
    """`forward_to_all()`: waits for the result of every consumer, and looks at it."""

    def call(self, messages: Sequence[bytes]) -> None:
        forward = self.pool.forward_to_all
        self.succeeded = True
        for message in messages:
            if not forward(message).ok:
                self.succeeded = False

    def settle(self) -> bool:
        return self.succeeded


class AwaitSubmit(Verb):
    """`await submit()` in a loop of its own. Calls follow one another without a pause for anything else."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(ports)
        self.loop = asyncio.new_event_loop()
        self.pool: AsyncProducerPool = self.loop.run_until_complete(self._open())

    async def _open(self) -> AsyncProducerPool:
        from producer_pool import AsyncProducerPool

        pool = await AsyncProducerPool().__aenter__()  # open until this process ends
        for port in self.ports:
            await pool.add_producer(f"consumer-{port}", f"tcp://127.0.0.1:{port}")
        await pool.check(wait=WAIT)
        return pool

    def call(self, messages: Sequence[bytes]) -> None:
        self.loop.run_until_complete(self._call(messages))

    async def _call(self, messages: Sequence[bytes]) -> None:
        submit = self.pool.submit
        receipt = await submit(messages[0])
        for message in messages[1:]:
            receipt = await submit(message)
        self.receipt = receipt

    def settle(self) -> bool:
        return self.loop.run_until_complete(self._settle())

    async def _settle(self) -> bool:
        return (await self.receipt.results(wait=WAIT)).ok


class Sendall(Verb):
    """What one writes without a pool: blocking sockets, one `sendall` after another."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(ports)
        self.sockets = [socket.create_connection(("127.0.0.1", port), timeout=WAIT) for port in ports]
        for sock in self.sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(True)

    def call(self, messages: Sequence[bytes]) -> None:
        sockets = self.sockets
        for message in messages:
            line = message + b"\n"
            for sock in sockets:
                sock.sendall(line)


OWN: dict[str, type[Verb]] = {
    "submit": Submit,
    "forward": Forward,
    "await-submit": AwaitSubmit,
    "sendall": Sendall,
}
VERBS = OWN
"""All of them by name."""
