"""Whether an injected object can be driven as a client."""

from __future__ import annotations

import inspect
from math import isfinite

from producer_pool.contract.ports import Client
from producer_pool.model.errors import UsageError

__all__ = ["checked_client"]


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
