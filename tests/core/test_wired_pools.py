"""Pools and the plugins that watch them: told of each pool, once, as soon as there are plugins to tell."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool import AsyncProducerPool, ClientFactory, ProducerPool
from producer_pool.discovery.registry import Registry
from support.distributions import Site

WATCHER = """
from producer_pool.plugin import hookimpl

told = []

class Watcher:
    def state_changed(self, health):
        told.append((health.producer_id, health.state.value))

    def settled(self, producer_id, outcome, count):
        told.append((producer_id, outcome.value, count))

@hookimpl
def producer_pool_observer(pool):
    return Watcher()

@hookimpl
def producer_pool_started(pool):
    told.append("started")

@hookimpl
def producer_pool_stopping(pool, deadline):
    told.append("stopping")
"""

STORY = [
    "started",
    ("a", "connecting"),
    ("a", "up"),
    ("a", "delivered", 1),
    "stopping",
    ("a", "closed"),
]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What an installed plugin that watches is told, through the factory that a pool makes for itself."""
    site = Site(tmp_path)
    site.install("watcher", plugins={"watcher": "watcher_plugin"}, modules={"watcher_plugin": WATCHER})
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    monkeypatch.setattr("producer_pool.discovery.factory.default_registry", lambda: registry)
    registry.wiring().observers(None)  # imports it
    yield sys.modules["watcher_plugin"].told
    site.forget_modules()


def test_threads_without_a_factory(told: list[object]) -> None:
    """The first URL brings the plugins: they are told of the pool then, and of all that follows."""
    with ProducerPool() as pool:
        pool.add_producer("a", "null:")
        pool.check()
        assert pool.forward_to_all("hello").ok

    assert told[0] == "started"
    assert sorted(map(str, told)) == sorted(map(str, STORY))


async def test_asyncio_without_a_factory(told: list[object]) -> None:
    """The first URL brings the plugins: they are told of the pool then, and of all that follows."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("a", "null:")
        await pool.check()
        assert (await pool.forward_to_all("hello")).ok

    assert told[0] == "started"
    assert sorted(map(str, told)) == sorted(map(str, STORY))


def test_factory_of_the_programs_own(told: list[object]) -> None:
    """They are told once, and not again with each producer."""
    with ProducerPool(factory=ClientFactory()) as pool:
        pool.add_producer("a", "null:")
        pool.add_producer("b", "null:")

    assert told.count("started") == told.count("stopping") == 1
