"""How a client and a listener begin and end, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.errors import DeliveryError
from producer_pool.testing.leftovers import descriptors, require_back
from producer_pool.testing.rule import CLIENT, CONSUMER, LISTENER, require, rule
from producer_pool.testing.subject import with_options
from producer_pool.testing.trial import Trial, numbered

__all__ = [
    "arrives_before_the_end",
    "closes_before_it_connected",
    "closes_twice",
    "connects_again",
    "leaks_no_descriptor",
    "leaks_no_task",
    "leaks_no_thread",
    "listener_closes_twice",
    "listener_drains_what_has_arrived",
    "listener_frees_its_address",
    "listener_leaves_nothing",
    "listener_stops_accepting_alone",
    "listener_tells_its_address",
]

_CYCLES: Final = 12
"""Connections made and closed before what is left is counted."""
_COUNTED: Final[dict[str, Callable[[], int]]] = {
    "file descriptors": descriptors,
    "tasks": lambda: len(asyncio.all_tasks()),
    "threads": threading.active_count,
}
"""What can be left, and what counts it."""


@rule(CLIENT)
async def closes_before_it_connected(trial: Trial) -> None:
    """
    A client that was never connected can be closed.

    A pool that ends before its first message does that.
    """
    client = trial.client(await _somewhere(trial))
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
            async with client:
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
    async with trial.patience("twenty messages are taken"), client:
        for message in messages:
            await client.send(message)
    await trial.arrives(consumer, messages)


@rule(CONSUMER)
async def leaks_no_descriptor(trial: Trial) -> None:
    """
    Connections that were closed leave no file descriptor open.

    A consumer that goes and comes back a thousand times would else exhaust those of the process. What
    is left to the garbage collector is not closed: it comes when it likes.
    """
    with warnings.catch_warnings(record=True) as caught:
        gc.collect()  # What others left is not this transport's.
        caught.clear()
        warnings.simplefilter("always", ResourceWarning)
        await _count_after_cycles(trial, "file descriptors")
        gc.collect()
    unclosed = [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]
    require(not unclosed, f"{len(unclosed)} left to the garbage collector: {', '.join(unclosed[:1])}")


@rule(CONSUMER)
async def leaks_no_task(trial: Trial) -> None:
    """
    Connections that were closed leave no task behind.

    aclose() has to end what connect() began, and wait until it has ended.
    """
    await _count_after_cycles(trial, "tasks")


@rule(CONSUMER)
async def leaks_no_thread(trial: Trial) -> None:
    """
    Connections that were closed leave no thread behind.

    Threads outlive their loops, and keep a program from ending.
    """
    await _count_after_cycles(trial, "threads")


@rule(LISTENER)
async def listener_closes_twice(trial: Trial) -> None:
    """
    A listener can be closed before it was started, and twice after that.

    A server that cannot start one of its listeners closes all of them, and may be closed itself then.
    """
    never = trial.subject.factory.listener(
        with_options(trial.place, trial.filled(trial.subject.listener_options))
    )
    async with trial.patience("aclose() of a listener returns"):
        await never.aclose()
        listener = (await trial.listening()).listener
        await listener.aclose()
        try:
            await listener.aclose()
        except Exception as error:
            require(False, f"the second aclose() raised {type(error).__name__}: {error}")


@rule(LISTENER)
async def listener_tells_its_address(trial: Trial) -> None:
    """
    start() returns where the listener really is, so that a client reaches it there.

    Whoever asked for port 0 has no other way to know.
    """
    consumer = await trial.listening()
    require(not consumer.url.endswith(":0"), f"start() returned {consumer.url}, where nobody can connect")
    if trial.subject.transport.client is not None:
        async with trial.patience("a client reaches it there"), trial.client(consumer) as client:
            await client.send(numbered(1)[0])
        await trial.arrives(consumer, numbered(1))


@rule(LISTENER)
async def listener_frees_its_address(trial: Trial) -> None:
    """
    Where a listener was closed, the next one can be started at once.

    A daemon that is restarted listens where the old one did.
    """
    consumer = await trial.listening()
    try:
        for _ in range(2):
            await consumer.crash()
            await consumer.start()
    except Exception as error:
        require(False, f"the address could not be listened at again: {type(error).__name__}: {error}")


@rule(CLIENT, LISTENER)
async def listener_leaves_nothing(trial: Trial) -> None:
    """
    A listener that was closed leaves no file descriptor, task or thread behind, though it had connections.

    aclose() ends the connections, too, and whatever was made for them or for listening.
    """
    consumer = await trial.listening()
    await consumer.crash()
    before: dict[str, int] = {}
    for number, message in enumerate(numbered(_CYCLES + 2)):
        async with trial.patience("a listener is started, reached, and closed, many times"):
            await consumer.start()
            client = trial.client(consumer)
            await trial.reach(client)
            await client.send(message)
            await trial.until(partial(consumer.received.__contains__, message), "a message arrives")
            # Both at once: some protocols have words to part with, and wait for an answer.
            await asyncio.gather(consumer.crash(), client.aclose())
        if number == 1:  # What is made once and kept, such as a buffer, is no leak.
            before = {what: count() for what, count in _COUNTED.items()}
    for what, count in _COUNTED.items():
        await require_back(trial, before[what], count, what, f"{_CYCLES} listeners were closed")


@rule(CLIENT, LISTENER)
async def listener_drains_what_has_arrived(trial: Trial) -> None:
    """
    drain() passes on what has arrived already, and returns.

    An orderly end is stop_accepting(), drain(), aclose(). Senders know what was taken from them: what
    lies in a buffer of the kernel or of the listener then must not be lost.
    """
    messages = numbered(20)
    # What was sent may need a moment to arrive, on a busy machine. So one time in three is enough.
    for last in (False, False, True):
        consumer = await trial.listening()
        client = trial.client(consumer)
        async with trial.patience("messages are sent, and drain() returns"):
            await trial.reach(client)
            for message in messages:
                await client.send(message)
            await consumer.listener.stop_accepting()
            await consumer.listener.drain()
            arrived = len(consumer.received)
            await asyncio.gather(consumer.listener.aclose(), client.aclose())
        if arrived == len(messages) or last:
            await trial.arrives(consumer, messages)
            return


@rule(CLIENT, LISTENER)
async def listener_stops_accepting_alone(trial: Trial) -> None:
    """
    After stop_accepting(), the connections that are open go on.

    Their senders are in the middle of something. drain() and aclose() end them, in their time.
    """
    consumer = await trial.listening()
    client = trial.client(consumer)
    messages = numbered(2)
    async with trial.patience("messages are sent, before and after stop_accepting()"):
        await trial.reach(client)
        await client.send(messages[0])
        await trial.until(lambda: consumer.received, "the first message arrives")
        await consumer.listener.stop_accepting()
        with contextlib.suppress(DeliveryError):
            await client.send(messages[1])
    await trial.arrives(consumer, messages)


# -- what they share -------------------------------------------------------------------------------


async def _somewhere(trial: Trial) -> str:
    """Return a URL for a client; there may be nobody."""
    if not trial.subject.sees_arrivals:
        return trial.place
    consumer = await trial.consumer()
    return consumer.url


async def _cycle(client: Client, message: bytes) -> None:
    async with client:
        await client.send(message)


async def _count_after_cycles(trial: Trial, what: str) -> None:
    count = _COUNTED[what]
    consumer = await trial.consumer()
    client = trial.client(consumer)
    messages = numbered(_CYCLES + 2)
    async with trial.patience("a connection is made, used and closed, many times"):
        for message in messages[:2]:  # What is made once and kept, such as a buffer, is no leak.
            await _cycle(client, message)
        await trial.until(lambda: len(consumer.received) >= 2, "the first messages arrive")
        before = count()
        for message in messages[2:]:
            await _cycle(client, message)
    await require_back(trial, before, count, what, f"{_CYCLES} connections were made and closed")
