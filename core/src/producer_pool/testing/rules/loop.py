"""That a transport leaves the event loop, and the program around it, to others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, DeliveryError
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.messages import numbered
from producer_pool.testing.patience import bounded
from producer_pool.testing.rule import CONSUMER, require, rule
from producer_pool.testing.trial import Trial
from producer_pool.testing.watchdog import Watchdog

__all__ = ["never_blocks_the_loop", "keeps_exceptions_to_itself", "leaves_the_program_alone"]

_TIMEOUT: Final = 0.3
"""Seconds that a call may wait, in an orderly way."""
_ANSWERS: Final = 0.1
"""Seconds in which this machine's kernel has answered a connect, if it does."""


@rule(CONSUMER)
async def never_blocks_the_loop(trial: Trial) -> None:
    """
    No call of a client holds up the event loop, whatever its consumer does.

    All producers share one loop: a call that waits in the kernel, for a name server, or asleep makes
    all of them wait. Here the consumer reads, does not read, is not there, and does not answer a
    connect. The verdict names the function that was waiting. Use asyncio's or the toolkit's way to do
    it; for a library that has none, BlockingClient, which gives it a thread of its own.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    async with trial.patience("a client connects, sends and is closed"), trial.using(client):
        await client.send(numbered(1)[0])  # What is imported, or made once, is so now.
    with Watchdog() as watch:
        flood = trial.flood(client, start=1)
        await _use(trial, watch, "a consumer that reads", consumer.url, flood[:3])
        for url in _by_name(consumer):
            await _use(trial, watch, "a consumer that has a name", url, flood[3:4])
        consumer.pause()
        await _use(trial, watch, "a consumer that does not read", consumer.url, flood)
        consumer.resume()
        await consumer.crash()
        await _use(trial, watch, "a consumer that is not there", consumer.url, flood[:1])
        async with _deaf(consumer, watch) as url:
            if url:
                await _use(trial, watch, "a host that does not answer", url, flood[:1])


@rule(CONSUMER)
async def keeps_exceptions_to_itself(trial: Trial) -> None:
    """
    No exception gets lost in a task, a callback or a thread of a client.

    Where nobody awaits, an exception ends in the loop's handler: a log line that names no producer,
    and often a connection that seems to be open. What goes wrong in the background is told by
    broken(), or raised by the next send().
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    with _unseen(trial) as unseen:
        for turn in range(3):
            with contextlib.suppress(DeliveryError, TimeoutError):
                async with trial.patience("a client is used, and its consumer crashes"):
                    await _crash_in_use(trial, consumer, client, numbered(50, start=50 * turn))
            await _cancel_connecting(trial, client)
            await trial.within("aclose() returns", client.aclose())
            await consumer.start()
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.01)
    require(not unseen, f"{len(unseen)} exceptions were seen by nobody, such as {unseen and unseen[0]}")


@rule(CONSUMER)
async def leaves_the_program_alone(trial: Trial) -> None:
    """
    Sending and listening change nothing of the program around them.

    A plugin is a guest. Timeouts that hold for all sockets, handlers of signals, of the loop and of
    uncaught exceptions, the environment, the working directory and the root logger belong to the program,
    and other plugins rely on them.
    """
    before = _surroundings()
    consumer = await trial.consumer()
    client = await trial.reached(consumer, numbered(1)[0])
    await consumer.crash()
    with contextlib.suppress(DeliveryError):
        await trial.within("send() after a crash ends", client.send(numbered(1)[0]))
    await trial.within("aclose() after a crash returns", client.aclose())
    for what, value in _surroundings().items():
        require(value == before[what], f"{what} changed, from {before[what]!r} to {value!r}")


# -- what they share -------------------------------------------------------------------------------


async def _use(trial: Trial, watch: Watchdog, who: str, url: str, messages: list[bytes]) -> None:
    """Connect, send until that has to wait, close; each within its time."""
    client = trial.client(url)
    calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [("connect()", partial(trial.reach, client))]
    calls += [("send()", partial(client.send, message)) for message in messages]
    for name, call in calls:
        failed = False
        try:
            async with (
                trial.patience(f"{name} to {who} ends when it is cancelled"),
                asyncio.timeout(_TIMEOUT),
            ):
                await call()
        except (DeliveryError, TimeoutError):
            failed = True
        require(not watch.found, f"{name} to {who}: {watch.found}")
        if failed:
            break
    await trial.within("aclose() returns", client.aclose())
    await asyncio.sleep(0)
    require(not watch.found, f"aclose() with {who}: {watch.found}")


def _by_name(consumer: TrialConsumer) -> list[str]:
    """Return the URL of *consumer* with a name in it, if it has a host."""
    with contextlib.suppress(ConfigurationError):
        endpoint = Endpoint.parse(consumer.url)
        return [endpoint.at("localhost", endpoint.port).raw]
    return []


@contextlib.asynccontextmanager
async def _deaf(consumer: TrialConsumer, watch: Watchdog) -> AsyncIterator[str]:
    """Give the URL of a port of this machine at which TCP never answers; empty: there are no ports here."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        url = ""
        with contextlib.suppress(ConfigurationError):
            listening = stack.enter_context(socket.socket())
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            # When its connections wait that nobody accepts, the kernel answers no other.
            for _ in range(16):
                filling = stack.enter_context(socket.socket())
                filling.setblocking(False)
                try:
                    async with bounded(_ANSWERS):
                        await loop.sock_connect(filling, listening.getsockname())
                except TimeoutError:
                    break
            url = Endpoint.parse(consumer.url).at(*listening.getsockname()).raw
            watch.when_found.append(listening.close)
        yield url


async def _crash_in_use(trial: Trial, consumer: TrialConsumer, client: Client, messages: list[bytes]) -> None:
    await trial.reach(client)
    await client.send(messages[0])
    await consumer.crash()
    for message in messages[1:]:
        await client.send(message)
        await asyncio.sleep(0.001)


async def _cancel_connecting(trial: Trial, client: Client) -> None:
    task = asyncio.ensure_future(trial.reach(client))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, DeliveryError):
        await trial.within("a connect() that is cancelled ends", task)


@contextlib.contextmanager
def _unseen(trial: Trial) -> Iterator[list[str]]:
    """Collect what the loop is told, and what ends threads that are started from now on."""
    before = set(threading.enumerate())
    hook = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        if args.thread in before:
            hook(args)
        else:
            trial.unseen.append(f"in a thread: {args.exc_value!r}")

    threading.excepthook = note
    try:
        yield trial.unseen
    finally:
        threading.excepthook = hook


def _surroundings() -> dict[str, object]:
    """Return what belongs to the program, and can be changed from anywhere."""
    root = logging.getLogger()
    return {
        "socket.getdefaulttimeout()": socket.getdefaulttimeout(),
        "the loop's exception handler": asyncio.get_running_loop().get_exception_handler(),
        "sys.excepthook": sys.excepthook,
        "threading.excepthook": threading.excepthook,
        "the handlers of signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "the root logger": (root.level, root.handlers[:]),
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
    }
