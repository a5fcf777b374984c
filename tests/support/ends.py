"""Both ends of an installed transport, from a URL, without the factory between."""

from __future__ import annotations

from typing import Any

from producer_pool.contract.options import coerce
from producer_pool.discovery.registry import default_registry
from producer_pool.model.endpoint import Endpoint

__all__ = ["make_client", "make_listener"]


def make_client(url: str) -> Any:
    """Return what the transport's client factory makes of *url*; whoever asked closes it."""
    endpoint = Endpoint.parse(url)
    transport = default_registry().transport(endpoint.scheme)
    assert transport.client is not None
    assert transport.options is not None
    return transport.client(endpoint, coerce(transport.options, endpoint.options, where=endpoint.scheme))


def make_listener(url: str) -> Any:
    """Return what its listener factory makes of *url*."""
    endpoint = Endpoint.parse(url)
    transport = default_registry().transport(endpoint.scheme)
    kind = transport.listener_options
    assert transport.listener is not None
    assert kind is not None
    return transport.listener(endpoint, coerce(kind, endpoint.options, where=endpoint.scheme))
