"""The ways in which a program sends each message to all consumers."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from logging.handlers import SocketHandler
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.peers.launch import UnavailableError
from bench.peers.supplies import python

if TYPE_CHECKING:
    from producer_pool import AsyncProducerPool, ProducerPool

WAIT = 30.0
SILENCE = 0.005


class Verb(ABC):
    """A way to send each message to all consumers, which listen on *ports*. Threads may call at once."""

    lines: ClassVar[bool] = True
    """Whether it sends lines. Of anything else, only the load in C sees by the first byte what it is."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports

    @classmethod
    def missing(cls) -> str:
        """What is not installed that it needs; empty if nothing is missing."""
        return ""

    @abstractmethod
    def call(self, messages: Sequence[bytes]) -> None:
        """Send them one call after another."""

    def timed(self, messages: Sequence[bytes]) -> float:
        """Call, and return the seconds that the calls took."""
        began = time.perf_counter()
        self.call(messages)
        return time.perf_counter() - began

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
    """
    `await submit()` in a loop of its own. Calls follow one another without a pause for anything else.

    Their time is taken inside: before asyncio returns, it goes on with what the calls left to do. That
    belongs to what is settled.
    """

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
        self.timed(messages)

    def timed(self, messages: Sequence[bytes]) -> float:
        return self.loop.run_until_complete(self._timed(messages))

    async def _timed(self, messages: Sequence[bytes]) -> float:
        submit = self.pool.submit
        began = time.perf_counter()
        receipt = await submit(messages[0])
        for message in messages[1:]:
            receipt = await submit(message)
        took = time.perf_counter() - began
        self.receipt = receipt
        return took

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


class Handlers(Verb):
    """`logging` with a SocketHandler for each consumer, which pickles every record, and sends it alone."""

    lines = False

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(ports)
        self.logger = logging.getLogger("bench")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        for port in ports:
            self.logger.addHandler(SocketHandler("127.0.0.1", port))

    def call(self, messages: Sequence[bytes]) -> None:
        info = self.logger.info
        for message in messages:
            info(message.decode())


class Zmq(Verb):
    """
    `send()` of a PUB socket of pyzmq, which hands over to a thread of its own.

    Its queues are without bound here: with one of 1,000 messages, as by default, it drops most of them.
    """

    lines = False

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__(ports)
        sys.path.append(str(self._library()))
        zmq = import_module("zmq")
        # The same as PUB, but it tells of subscriptions: what is sent before there are four is dropped.
        self.socket = zmq.Context().socket(zmq.XPUB)
        self.socket.set(zmq.XPUB_VERBOSE, 1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVTIMEO, round(WAIT * 1000))
        for port in ports:
            self.socket.connect(f"tcp://127.0.0.1:{port}")
        for _ in ports:
            self.socket.recv()

    @staticmethod
    def _library() -> Path:
        return Path(python("zmq").variables["PYTHONPATH"])

    @classmethod
    def missing(cls) -> str:
        try:
            cls._library()
        except UnavailableError as error:
            return str(error)
        return ""

    def call(self, messages: Sequence[bytes]) -> None:
        send = self.socket.send
        for message in messages:
            send(message)

    def settle(self) -> bool:
        """Wait until this process has no work any more, because the socket does not tell what it has sent."""
        while True:
            before = time.process_time()
            time.sleep(SILENCE)
            if time.process_time() - before < SILENCE / 20:
                return True


VERBS: dict[str, type[Verb]] = {
    "submit": Submit,
    "forward": Forward,
    "await-submit": AwaitSubmit,
    "sendall": Sendall,
    "handlers": Handlers,
    "zmq": Zmq,
}
