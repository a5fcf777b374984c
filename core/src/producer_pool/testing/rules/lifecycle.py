"""How a client begins and ends, again and again, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from producer_pool.model.errors import DeliveryError
from producer_pool.testing.leftovers import COUNTED, CYCLES, require_back
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import CLIENT, CONSUMER, RuleBroken, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "arrives_before_the_end",
    "closes_before_it_connected",
    "closes_twice",
    "connects_again",
    "is_made_without_a_loop",
    "leaves_nothing",
]

T = TypeVar("T")


@rule()
async def is_made_without_a_loop(trial: Trial) -> None:
    """
    A client and a listener can be made where no event loop runs, and used on one after that.

    A ProducerPool makes them on the thread that asks for them, and has its loop on another. What belongs
    to a loop, such as a task, or what get_running_loop() returns, is for connect() and start().
    """
    transport = trial.subject.transport
    if transport.listener is not None:
        listener = _made_elsewhere("listener", lambda: trial.listener(trial.another_place()))
        async with trial.patience("a listener that was made without a loop starts, and is closed"):
            await listener.start(trial.pool().intake)
            await listener.aclose()
    if transport.client is None:
        return
    place = await trial.somewhere()
    client = _made_elsewhere("client", lambda: trial.client(place))
    if isinstance(place, str):
        return
    async with trial.patience("a client that was made without a loop is used"), trial.using(client):
        await client.send(numbered(1)[0])
    await trial.arrives(place, numbered(1))


@rule(CLIENT)
async def closes_before_it_connected(trial: Trial) -> None:
    """
    A client that was never connected can be closed.

    A pool that ends before its first message does that.
    """
    client = trial.client(await trial.somewhere())
    async with trial.patience("aclose() of a client that was never connected returns"):
        try:
            await client.aclose()
        except Exception as error:
            require(False, f"aclose() before connect() raised {type(error).__name__}: {error}")


@rule(CONSUMER)
async def closes_twice(trial: Trial) -> None:
    """
    A second aclose() does nothing.

    An error and the end of a program may both close a client, one after the other.
    """
    client = trial.client(await trial.consumer())
    async with trial.patience("connect() and two aclose() return"):
        await trial.reach(client)
        await client.aclose()
        try:
            await client.aclose()
        except Exception as error:
            require(False, f"the second aclose() raised {type(error).__name__}: {error}")


@rule(CONSUMER)
async def connects_again(trial: Trial) -> None:
    """
    After aclose(), connect() makes a new connection, and messages arrive over it.

    That is how a producer reconnects: it closes the client and connects it again.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    messages = numbered(3)
    async with trial.patience("three connections, one after the other, take a message each"):
        for message in messages:
            async with trial.using(client):
                await client.send(message)
    await trial.arrives(consumer, messages)


@rule(CONSUMER)
async def arrives_before_the_end(trial: Trial) -> None:
    """
    What send() took arrives, though the client is closed directly after it.

    Returning from send() means that the declared level is reached: nothing may be left in a buffer of
    the client's own, and closing must not destroy what is on its way.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    messages = numbered(20, size=512)
    async with trial.patience("twenty messages are taken"), trial.using(client):
        for message in messages:
            await client.send(message)
    await trial.arrives(consumer, messages)


@rule(CONSUMER)
async def leaves_nothing(trial: Trial) -> None:
    """
    A connection that ended, however it did, leaves no file descriptor, task or thread behind.

    A consumer that goes and comes back a thousand times would else exhaust those of the process. Here
    connections are closed, break, and cannot be made: what connect() had opened when it failed has to be
    closed, too, and aclose() waits for the end of what connect() began. What is left to the garbage
    collector is not closed: it comes when it likes.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    message = numbered(1)[0]

    async def close() -> None:
        async with trial.using(client):
            await client.send(message)

    async def break_off() -> None:
        with contextlib.suppress(DeliveryError):
            await trial.reach(client)
            await client.send(message)
        await consumer.crash()
        with contextlib.suppress(DeliveryError):
            await client.send(message)
        await client.aclose()
        await consumer.start()

    async def try_in_vain() -> None:
        with contextlib.suppress(DeliveryError):
            await trial.reach(client)
            await client.send(message)
        await client.aclose()

    with _collected() as unclosed:
        await _count(trial, close, "connections were closed")
        await _count(trial, break_off, "connections broke")
        await consumer.crash()
        await _count(trial, try_in_vain, "connections could not be made")
    require(not unclosed, f"{len(unclosed)} left to the garbage collector: {', '.join(unclosed[:1])}")


# -- what they share -------------------------------------------------------------------------------


def _made_elsewhere(what: str, make: Callable[[], T]) -> T:
    """Return what *make* makes on a thread that has no event loop."""
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(make).result()
        except Exception as error:
            raise RuleBroken(
                f"making a {what} where no event loop runs raised {type(error).__name__}: {error}"
            ) from error


async def _count(trial: Trial, cycle: Callable[[], Awaitable[None]], what: str) -> None:
    """Require that *cycle*, many times, leaves no more than what is made once and kept, such as a buffer."""
    before: dict[str, int] = {}
    for number in range(CYCLES + 2):
        await trial.within(f"{what}, many times", cycle())
        if number == 1:
            before = {name: count() for name, count in COUNTED.items()}
    for name, count in COUNTED.items():
        await require_back(trial, before[name], count, name, f"{CYCLES} {what}")


@contextlib.contextmanager
def _collected() -> Iterator[list[str]]:
    """Yield a list of what the garbage collector had to close, full when the block is done."""
    unclosed: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        gc.collect()  # What others left is not this transport's.
        caught.clear()
        warnings.simplefilter("always", ResourceWarning)
        yield unclosed
        gc.collect()
    unclosed += [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]
