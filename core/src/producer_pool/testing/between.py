"""A fault proxy between the two ends of a transport on trial, where one can stand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from producer_pool.model.errors import ConfigurationError, DeliveryError, UsageError
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.patience import bounded
from producer_pool.testing.proxy import FaultProxy
from producer_pool.testing.rule import RuleBroken, not_applicable
from producer_pool.testing.trial import Trial

__all__ = ["between"]

_REACHES: Final = 0.5
"""Seconds in which a connection gets from one side of a proxy to the other, if it ever does."""
_TURNS: Final = 20
"""Turns of the loop in which what is at the other side is served, too."""


@contextlib.asynccontextmanager
async def between(trial: Trial, consumer: TrialConsumer) -> AsyncIterator[FaultProxy]:
    """
    Yield a proxy before *consumer*, which its clients reach at ``proxy.url``.

    Raises:
        NotApplicable: what leads there is no stream, or has no address at which a proxy could stand.
    """
    try:
        proxy = FaultProxy(consumer.url, seed=trial.random.randrange(1 << 32))
    except (ConfigurationError, UsageError):
        not_applicable("has no address at which a proxy could stand")
    async with proxy:
        if not await _stands(trial, proxy):
            not_applicable("is no stream in which a proxy could stand")
        yield proxy


async def _stands(trial: Trial, proxy: FaultProxy) -> bool:
    """Connect a client through *proxy*, and say whether that got to the other side."""
    try:
        client = trial.client(proxy.url)
    except ConfigurationError:
        not_applicable("has no address at which a proxy could stand")
    with contextlib.suppress(DeliveryError, RuleBroken):
        async with trial.patience("it connects", 0.1):
            await trial.reach(client)
    reached = False
    with contextlib.suppress(TimeoutError):
        async with bounded(_REACHES):
            while not (reached := any(connection.reached for connection in proxy.connections)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
    with contextlib.suppress(Exception):
        await client.aclose()
    return reached
