"""A proxy between two ends, and where none can stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer_pool.model.errors import ConfigurationError
from producer_pool.testing.between import between
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import NotApplicable
from producer_pool.testing.subject import Subject
from support.trials import trying


async def test_stream(tmp_path: Path) -> None:
    """What is sent to its address goes through it."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        async with between(trial, consumer) as proxy:
            client = trial.client(proxy.url)
            await trial.reach(client)
            await client.send(numbered(1)[0])
            await trial.arrives(consumer, numbered(1))

            assert proxy.forth.passed > 64


@pytest.mark.parametrize(
    "url,reason",
    [
        ("udp://127.0.0.1:0", "has no address at which a proxy could stand"),
        ("unix+dgram:{tmp}/x", "has no address at which a proxy could stand"),
    ],
)
async def test_datagrams(url: str, reason: str, tmp_path: Path) -> None:
    """There is nothing to be cut or held up."""
    async with trying(tmp_path, Subject(url)) as trial:
        consumer = await trial.consumer()
        with pytest.raises(NotApplicable, match=reason):
            async with between(trial, consumer):
                pytest.fail("there is none")


async def test_error_in_the_block(tmp_path: Path) -> None:
    """It is that of whoever is in it, and no reason to ask nothing."""
    async with trying(tmp_path) as trial:
        consumer = await trial.consumer()
        with pytest.raises(ConfigurationError, match="in the block"):
            async with between(trial, consumer):
                raise ConfigurationError("in the block")
