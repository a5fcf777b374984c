"""Both ends of an installed transport, from a URL, without the factory between."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from producer_pool.contract.options import coerce
from producer_pool.discovery.registry import default_registry
from producer_pool.model.endpoint import Endpoint
from support.streams import FakeIntake, until

__all__ = ["make_client", "make_listener", "many_talk", "said_by"]

_EACH = 20
"""Messages that each client sends."""


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


async def many_talk(url: str, clients: int) -> FakeIntake:
    """Have so many clients send to a listener at *url*, all at once; return what that took in."""
    listener = make_listener(url)
    intake = FakeIntake()
    endpoint = await listener.start(intake)

    # All stay to the end: the port of one that is gone may be the next one's.
    async with AsyncExitStack() as open_ones:

        async def talk(number: int) -> None:
            client = await open_ones.enter_async_context(make_client(f"{endpoint}"))
            for message in said_by(number):
                await client.send(message)

        await asyncio.gather(*(talk(number) for number in range(clients)))
    await until(lambda: len(intake.messages) == clients * _EACH)
    await listener.aclose()
    return intake


def said_by(number: int) -> list[bytes]:
    """Return what one of these clients sends, which begins with its number and a space."""
    return [b"%d %d" % (number, message) for message in range(_EACH)]
