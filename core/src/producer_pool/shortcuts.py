"""The process-wide pool and its helper functions, and one consumer without a pool: for scripts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from producer_pool.contract.ports import Client
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.errors import WrongThread
from producer_pool.model.outcomes import ForwardResult, Results
from producer_pool.pool import ProducerPool

__all__ = [
    "OpenClient",
    "add_producer",
    "add_tcp_producer",
    "forward_to_all_producers",
    "forward_to_producer",
    "get_producer_pool",
    "open_client",
]

_lock = threading.RLock()  # A signal handler or a __del__ may come in the middle.
_pool: ProducerPool | None = None


def get_producer_pool() -> ProducerPool:
    """
    Return the pool of this process, made when first asked for, or again after it was closed or forked away.

    It drains and closes by itself when the program ends.
    """
    global _pool
    pool = _pool
    if pool is not None and not pool.closed:
        return pool
    with _lock:
        made = ProducerPool()
        pool = _pool
        if pool is None or pool.closed:
            _pool = pool = made
        return pool


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def add_producer(producer_id: str, to: str | Client, *, timeout: float | None = None) -> None:
    """Add a producer to the pool of this process: see ProducerPool.add_producer()."""
    get_producer_pool().add_producer(producer_id, to, timeout=timeout)


def add_tcp_producer(producer_id: str, address: str, timeout: float | None = None) -> None:
    """
    Add a producer for ``host:port`` over tcp to the pool of this process.

    *timeout* is in seconds and bounds one attempt; None: 10.
    """
    url = address if address.startswith("tcp://") else f"tcp://{address}"
    get_producer_pool().add_producer(producer_id, url, timeout=timeout)


def forward_to_producer(producer_id: str, message: bytes | str) -> ForwardResult:
    """Forward a message to one producer of the pool of this process: see ProducerPool.forward_to()."""
    return get_producer_pool().forward_to(producer_id, message)


def forward_to_all_producers(message: bytes | str) -> Results:
    """Forward a message to all producers of the pool of this process: see ProducerPool.forward_to_all()."""
    return get_producer_pool().forward_to_all(message)


class OpenClient:
    """One connected consumer, for plain blocking code: see open_client()."""

    def __init__(self, client: Client, runner: asyncio.Runner) -> None:
        self.client = client
        self._runner = runner

    def send(self, message: bytes | str) -> None:
        """
        Send one message and wait until it reached the client's level.

        Raises:
            DeliveryError: it did not; the connection is closed.
        """
        payload = message.encode() if isinstance(message, str) else bytes(message)
        self._runner.run(self.client.send(payload))


@contextmanager
def open_client(url: str, *, timeout: float | None = None) -> Iterator[OpenClient]:
    """
    Connect to one consumer, for plain blocking code, and close the connection at the end.

    ::

        with open_client("tcp://127.0.0.1:9000") as consumer:
            consumer.send("hello")

    Raises:
        ConfigurationError, PluginError: the URL cannot be used.
        ConnectError: the consumer cannot be reached.
        WrongThread: an event loop runs on this thread; use ``async with ClientFactory().create(url)``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise WrongThread(
            "open_client() blocks; in asyncio write: async with ClientFactory().create(url) as client"
        )
    client = ClientFactory().create(url, timeout=timeout)
    with asyncio.Runner() as runner:
        runner.run(_connect(client))
        try:
            yield OpenClient(client, runner)
        finally:
            runner.run(client.aclose())


async def _connect(client: Client) -> None:
    await client.__aenter__()
