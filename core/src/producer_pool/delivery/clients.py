"""Whether an injected object can be driven as a client, and by whom it is."""

from __future__ import annotations

import inspect
from math import isfinite
from typing import Final, Protocol
from weakref import WeakValueDictionary

from producer_pool.contract.ports import Client
from producer_pool.model.errors import UsageError

__all__ = ["checked_client", "claim", "release"]


class _Owner(Protocol):
    """A producer."""

    id: str


_OWNERS: Final[WeakValueDictionary[int, _Owner]] = WeakValueDictionary()
"""Who drives a client, by the client's identity: not every client can be a key."""


def claim(client: Client, owner: _Owner) -> None:
    """
    Note that *owner* drives *client*, until release().

    Raises:
        UsageError: another one does. Two would connect and close each other's connection.
    """
    other = _OWNERS.get(id(client))
    if other is not None:
        raise UsageError(
            f"this {type(client).__name__} belongs to the producer {other.id!r}: a client has one "
            "connection; make another one for each producer"
        )
    _OWNERS[id(client)] = owner


def release(client: Client, owner: _Owner) -> None:
    """Let another one drive *client*, if *owner* does."""
    if _OWNERS.get(id(client)) is owner:
        del _OWNERS[id(client)]


def checked_client(client: object) -> Client:
    """
    Return *client* if it can be driven.

    Raises:
        UsageError: it is no Client, one of its methods blocks, or its timeout is none; the text says the
            way out.
    """
    name = type(client).__name__
    if isinstance(client, type):
        raise UsageError(f"{client.__name__} is a class; pass an instance: {client.__name__}(...)")
    for method in ("send", "send_batch", "connect", "aclose"):
        function = getattr(client, method, None)
        if callable(function) and not inspect.iscoroutinefunction(function):
            raise UsageError(
                f"{name}.{method}() is a blocking function, which would stop every producer; "
                f"write it as 'async def {method}', or pass BlockingClient({name}(...))"
            )
    if not isinstance(client, Client):
        raise UsageError(
            f"{name} is no client, and no URL as a text; derive it from producer_pool.Client "
            "and give it 'async def send'"
        )
    timeout: object = client.timeout
    if not isinstance(timeout, int | float) or not isfinite(timeout) or timeout <= 0:
        raise UsageError(f"{name}.timeout is the seconds that one attempt may take, not {timeout!r}")
    return client
