"""Core's own answers to the hooks that ask for an object: the last ones to be asked."""

from __future__ import annotations

from typing import Any

from producer_pool.contract.hookspecs import hookimpl
from producer_pool.contract.ports import Client, Listener
from producer_pool.contract.transport import Transport
from producer_pool.model.endpoint import Endpoint

__all__ = ["producer_pool_make_client", "producer_pool_make_listener"]


@hookimpl(trylast=True)
def producer_pool_make_client(transport: Transport, endpoint: Endpoint, options: Any) -> Client | None:
    """Make what the transport makes."""
    return transport.client and transport.client(endpoint, options)


@hookimpl(trylast=True)
def producer_pool_make_listener(transport: Transport, endpoint: Endpoint, options: Any) -> Listener | None:
    """Make what the transport makes."""
    return transport.listener and transport.listener(endpoint, options)
