"""The pool for threads: waiting, and not waiting any more."""

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from producer_pool import (
    ConfigurationError,
    DeliveryPolicy,
    Limits,
    Outcome,
    ProducerPool,
    UnknownProducer,
    UsageError,
)
from producer_pool.delivery.engine import Engine
from support.fake_clients import Unreachable
from support.waiting import BOUND


@pytest.fixture
def pool() -> Iterator[ProducerPool]:
    """A pool whose one consumer never comes."""
    with ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=0)) as pool:
        pool.add_producer("away", Unreachable())
        yield pool


@pytest.mark.parametrize("wait", [0, -0.5, -1, -1e12])
def test_no_time_is_left_to_wait(pool: ProducerPool, wait: float) -> None:
    """A time that is over already is no error, and not for ever: it is PENDING."""
    found: list[Outcome] = []

    def ask() -> None:
        found.append(pool.forward_to("away", "hello", wait=wait).outcome)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(BOUND)

    assert found == [Outcome.PENDING]


@pytest.mark.parametrize("wait", [float("inf"), 1e12])
def test_all_time_is_left_to_wait(pool: ProducerPool, wait: float) -> None:
    """A time beyond what the system can wait for is as long as it takes."""
    found: list[Outcome] = []
    receipt = pool.submit("hello")
    thread = threading.Thread(target=lambda: found.append(receipt.results(wait)["away"].outcome), daemon=True)
    thread.start()

    pool.close()
    thread.join(BOUND)

    assert found == [Outcome.CANCELLED]


def test_drain_again_and_again(pool: ProducerPool) -> None:
    """Who asks often whether a consumer that is away has got everything costs no memory."""
    pool.submit("hello")

    for _ in range(20):
        assert not pool.drain(wait=0.0001)

    async def waiting(engine: Engine) -> bool:
        return any(producer._emptied for producer in engine._producers.values())

    assert not pool.worker().run(waiting)


def test_several_ids_where_one_is_expected(pool: ProducerPool) -> None:
    """They are no id."""
    with pytest.raises(UsageError, match=r"got the list \['a', 'm'\]; use forward_to_many\(\) for several"):
        pool.forward_to(cast(Any, ["a", "m"]), "x")


def test_unknown_producer_to_remove(pool: ProducerPool) -> None:
    """The error speaks of no message."""
    with pytest.raises(UnknownProducer, match=r"^no producer 'nope' in the pool; known: away$"):
        pool.remove_producer("nope")


def test_one_message_where_several_are_expected(pool: ProducerPool) -> None:
    """Its letters are not what was meant: it is an error, and nothing is accepted."""
    for message in ("abc", b"abc"):
        with pytest.raises(UsageError, match=r"use submit\(\)"):
            pool.submit_many(cast(Any, message))

    assert pool.stats().producers["away"].accepted == 0


def test_pool_with_words() -> None:
    """What is no policy, and what is no limits, is refused when the pool is made."""
    wrong = cast(Any, "relay")

    with pytest.raises(ConfigurationError, match="policy is a DeliveryPolicy"):
        ProducerPool(policy=wrong)
    with pytest.raises(ConfigurationError, match="limits is a Limits"):
        ProducerPool(limits=wrong)
