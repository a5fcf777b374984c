"""The transports ``stdout:``, ``null:`` and ``memory:``, found by entry points as any plugin's."""

from __future__ import annotations

from collections.abc import Iterable

from producer_pool.builtin.memory import MemoryClient, MemoryOptions
from producer_pool.builtin.null import NullClient
from producer_pool.builtin.stdout import StdoutClient, StdoutOptions
from producer_pool.contract.hookspecs import hookimpl
from producer_pool.contract.transport import Transport
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidEndpoint

__all__ = ["producer_pool_transports"]


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer the three sinks. All reach WRITTEN, and none claims that somebody handled a message."""
    yield Transport(schemes=("stdout",), client=_stdout, options=StdoutOptions)
    yield Transport(schemes=("null",), client=_null)
    yield Transport(schemes=("memory",), client=_memory, options=MemoryOptions)


def _stdout(endpoint: Endpoint, options: StdoutOptions) -> StdoutClient:
    _nothing_behind(endpoint)
    return StdoutClient(options.framing)


def _null(endpoint: Endpoint, _: None) -> NullClient:
    _nothing_behind(endpoint)
    return NullClient()


def _memory(endpoint: Endpoint, options: MemoryOptions) -> MemoryClient:
    name = endpoint.path
    if not name or "/" in name:
        raise InvalidEndpoint("memory: has no name; write it as memory:NAME")
    return MemoryClient(name, max_messages=options.max_messages, max_bytes=options.max_bytes)


def _nothing_behind(endpoint: Endpoint) -> None:
    if endpoint.path or endpoint.raw.startswith(f"{endpoint.scheme}://"):
        raise InvalidEndpoint(f"{endpoint}: nothing stands behind {endpoint.scheme}: but options")
