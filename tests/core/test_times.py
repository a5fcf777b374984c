"""Calls that take seconds: a text in their place is refused, with what to write, and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from producer_pool import AsyncProducerPool, ProducerPool, UsageError, bind_transport
from producer_pool.toolkit.blocking import BlockingClient

REFUSED = r"^(wait|drain|timeout)= is a number of seconds, such as 5 or 0\.5, not '5s'; units go with URLs$"


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.forward_to_all("hello", wait="5s"),
        lambda pool: pool.forward_to("null", "hello", wait="5s"),
        lambda pool: pool.forward_to_many(["null"], "hello", wait="5s"),
        lambda pool: pool.check(wait="5s"),
        lambda pool: pool.drain(wait="5s"),
        lambda pool: pool.close(drain="5s"),
    ],
)
def test_text_for_seconds(call: Callable[[Any], object]) -> None:
    """Nothing is accepted, nothing closed."""
    with ProducerPool() as pool:
        pool.add_producer("null", "null:")

        with pytest.raises(UsageError, match=REFUSED):
            call(pool)
        assert pool.stats().producers["null"].accepted == 0
        assert not pool.closed


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.forward_to_all("hello", wait="5s"),
        lambda pool: pool.forward_to("null", "hello", wait="5s"),
        lambda pool: pool.forward_to_many(["null"], "hello", wait="5s"),
        lambda pool: pool.check(wait="5s"),
        lambda pool: pool.drain(wait="5s"),
        lambda pool: pool.aclose(drain="5s"),
    ],
)
async def test_text_for_seconds_in_asyncio(call: Callable[[Any], Any]) -> None:
    """The same for the pool of asyncio programs."""
    async with AsyncProducerPool() as pool:
        await pool.add_producer("null", "null:")

        with pytest.raises(UsageError, match=REFUSED):
            await call(pool)
        assert (await pool.stats()).producers["null"].accepted == 0


def test_text_for_the_seconds_of_a_receipt() -> None:
    """Also where it would not have to wait."""
    wait: Any = "5s"
    with ProducerPool() as pool:
        pool.add_producer("null", "null:")
        receipt = pool.submit("hello")
        receipt.results()

        for ask in (receipt.results, receipt.wait_stored):
            with pytest.raises(UsageError, match=REFUSED):
                ask(wait)


async def test_text_for_the_seconds_of_a_receipt_in_asyncio() -> None:
    """The same for those that are awaited."""
    wait: Any = "5s"
    async with AsyncProducerPool() as pool:
        await pool.add_producer("null", "null:")
        receipt = await pool.submit("hello")

        for ask in (receipt.results, receipt.wait_stored):
            with pytest.raises(UsageError, match=REFUSED):
                await ask(wait)


def test_text_for_the_seconds_of_a_server() -> None:
    """And for who waits for a server; a time beyond what the system can wait for is as long as it takes."""
    wait: Any = "5s"
    with ProducerPool() as pool:
        server = bind_transport("tcp://127.0.0.1:0", pool)

        with pytest.raises(UsageError, match=REFUSED):
            server.wait(wait)
        server.close()
        assert server.wait(float("inf"))


def test_text_for_the_seconds_of_a_client() -> None:
    """And for a client around what blocks."""

    class Library:
        def send(self, message: bytes) -> None:
            pass

    timeout: Any = "5s"
    with pytest.raises(UsageError, match=REFUSED):
        BlockingClient(Library(), timeout=timeout)
