"""What is left of a call that was cancelled: nothing, and least of all half a message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from producer_pool.contract.ports import Client
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidEndpoint
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.driving import Driver
from producer_pool.testing.leftovers import descriptors, require_back
from producer_pool.testing.messages import numbered, shown
from producer_pool.testing.rule import CONSUMER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "cancelled_close_leaves_nothing",
    "cancelled_connect_leaves_nothing",
    "cancelled_send_ends",
    "cancelled_send_leaves_no_half",
    "passes_on_cancellation",
]

_TURNS: Final = 24
"""Turns of the loop after which a call is cancelled, at the most, each of them once."""
_STUCK: Final = 0.05
"""Seconds after which a send() that goes on waits for its consumer. Should that be wrong, less is asked."""
_LARGE: Final = 1024 * 1024
_MOST: Final = 64 * _LARGE
"""Bytes of a message, so that it is sent in parts, and of all that are sent to make one wait."""


@rule(CONSUMER)
async def passes_on_cancellation(trial: Trial) -> None:
    """
    connect() and aclose() that are cancelled, wherever they wait, raise CancelledError, and soon.

    Who cancels a call wants to go on: a program that ends, a timeout. ``except BaseException`` and a
    bare ``except:`` swallow it, and so does ``asyncio.wait_for`` on Python 3.11, now and then; use
    ``asyncio.timeout``.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    for turns in range(_TURNS):
        before = await _cancelled(trial, "connect", Driver(client).connect, turns)
        await trial.within("aclose() after a cancelled connect() returns", client.aclose())
        if before:
            break
    for turns in range(_TURNS):
        async with trial.patience("it connects after a call was cancelled"):
            await trial.reach(client)
        before = await _cancelled(trial, "aclose", client.aclose, turns)
        await trial.within("aclose() after a cancelled aclose() returns", client.aclose())
        if before:
            break


@rule(CONSUMER)
async def cancelled_connect_leaves_nothing(trial: Trial) -> None:
    """
    A connect() that is cancelled leaves no socket behind, and the client can be connected afterwards.

    A producer bounds each connect() by its timeout: what was opened until then has to be closed, in a
    ``finally`` or an ``except BaseException`` that raises again.
    """

    async def connect(client: Client, turns: int) -> None:
        await _started(trial, Driver(client).connect, turns)

    await _leaves_nothing(trial, connect, "connect() was cancelled")


@rule(CONSUMER)
async def cancelled_close_leaves_nothing(trial: Trial) -> None:
    """
    An aclose() that is cancelled has closed the connection all the same, or the next one does.

    A producer waits for aclose() a second, then goes on. Put what must happen into a ``finally``, and
    remember only afterwards that it is done.
    """

    async def close(client: Client, turns: int) -> None:
        async with trial.patience("it connects"):
            await trial.reach(client)
        await _started(trial, client.aclose, turns)

    await _leaves_nothing(trial, close, "aclose() was cancelled")


@rule(CONSUMER)
async def cancelled_send_ends(trial: Trial) -> None:
    """
    A send() that waits for its consumer raises CancelledError when it is cancelled; then aclose() returns.

    Else a consumer that does not read would hold up the end of the program, and every timeout. What
    cannot be written any more is thrown away by aclose(): ``drain()`` and ``wait_closed()`` of asyncio
    wait for a consumer that may never read again.
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    sending = await _stuck(trial, client, consumer, [])
    sending.cancel()
    await _require_cancelled(trial, "send", sending)
    await trial.within("aclose() after a cancelled send() returns", client.aclose())
    consumer.resume()


@rule(CONSUMER)
async def cancelled_send_leaves_no_half(trial: Trial) -> None:
    """
    After a send() that was cancelled, no part of a message arrives, and a new connection works.

    It may have been sent in part. aclose() has to break the connection then, so that the consumer sees
    an error and no end: with SO_LINGER 0 a TCP connection is closed by a reset. Nor may the rest of the
    message be the first that the next connection carries.
    """
    consumer = await trial.consumer()
    if isinstance(consumer, ListenerConsumer) and _can_reset(consumer) and trial.has_option("tail", True):
        # Else our own listeners would throw away half a message, and hide that its end looked like one.
        await consumer.aclose()
        consumer = await trial.listening(tail="deliver")
    client = trial.client(consumer)
    sent: list[bytes] = []

    def last_arrived() -> bool:
        return sent[-1] in consumer.received

    before = 0
    for turns in (0, 1, 3, 8):
        sending = await _stuck(trial, client, consumer, sent)
        if turns:
            consumer.resume()
        for _ in range(turns):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending], timeout=_STUCK)
        await trial.within("aclose() after a cancelled send() returns", client.aclose())
        consumer.resume()
        sent += numbered(1, start=len(sent))
        async with trial.patience("it connects, and sends, after a send() was cancelled"):
            await trial.reach(client)
            await client.send(sent[-1])
        with contextlib.suppress(RuleBroken):
            await trial.until(last_arrived, "a message arrives")
        await trial.within("aclose() returns", client.aclose())
        with contextlib.suppress(RuleBroken):
            # What the first connection still brings is read after the message of the second, perhaps.
            await trial.until(lambda: not consumer.connections, "the connections end")
        whole = set(sent)
        strangers = [message for message in consumer.received if message not in whole]
        require(not strangers, f"{shown(b''.join(strangers[:1]))} arrived, and nobody sent it")
        require(last_arrived(), "no message arrives over the connection after it")
        before = before or descriptors()
    await require_back(trial, before, descriptors, "file descriptors", "send() was cancelled")


# -- what they share -------------------------------------------------------------------------------


async def _started(
    trial: Trial, call: Callable[[], Awaitable[Any]], turns: int
) -> tuple[asyncio.Future[Any], bool]:
    """Begin *call*, cancel it after so many turns, and wait for its end; say if it was over before."""
    task = asyncio.ensure_future(call())
    for _ in range(turns):
        await asyncio.sleep(0)
    over = task.done()
    task.cancel()
    async with trial.patience(f"a {call.__name__}() that is cancelled ends"):
        await asyncio.wait([task])
    return task, over


async def _cancelled(trial: Trial, name: str, call: Callable[[], Awaitable[Any]], turns: int) -> bool:
    """Cancel *call* after so many turns and require that it ends so; return whether it was over before."""
    task, over = await _started(trial, call, turns)
    if not over:
        await _require_cancelled(trial, name, task)
    return over


async def _require_cancelled(trial: Trial, name: str, task: asyncio.Future[Any]) -> None:
    """Require that a call which was cancelled ends so."""
    async with trial.patience(f"a {name}() that is cancelled ends"):
        await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        ended = f"raised {type(error).__name__}: {error}" if error is not None else "returned"
        require(False, f"{name}() was cancelled, and {ended}")


async def _leaves_nothing(trial: Trial, cancel: Callable[[Client, int], Awaitable[None]], what: str) -> None:
    """Have a call cancelled, each time a turn later; require that no descriptor is left, and all works."""
    consumer = await trial.consumer()
    messages = numbered(2)
    client = await trial.reached(consumer, messages[0])
    await trial.within("aclose() returns", client.aclose())
    before = descriptors()
    for turns in range(_TURNS):
        await cancel(client, turns)
        await trial.within(f"aclose() returns after {what}", client.aclose())
    await require_back(trial, before, descriptors, "file descriptors", what)
    async with trial.patience(f"a message is sent after {what}"):
        await trial.reach(client)
        await client.send(messages[1])
    await trial.arrives(consumer, messages)


def _can_reset(consumer: TrialConsumer) -> bool:
    """Whether its connections can be broken: those to a port can, and the kernel ends all others alike."""
    try:
        return Endpoint.parse(consumer.url).port > 0
    except InvalidEndpoint:
        return False


async def _stuck(
    trial: Trial, client: Client, consumer: TrialConsumer, sent: list[bytes]
) -> asyncio.Task[None]:
    """Connect *client*, send until a send() waits because the consumer reads nothing, and return that."""
    sent += numbered(1, start=len(sent))
    async with trial.patience("a first message is sent"):
        await trial.reach(client)
        await client.send(sent[-1])
    await trial.until(lambda: sent[-1] in consumer.received, "a first message arrives")
    consumer.pause()
    size = min(_LARGE, trial.longest(client) or _LARGE)
    for _ in range(_MOST // size):
        sent += numbered(1, size=size, start=len(sent))
        sending = asyncio.create_task(client.send(sent[-1]))
        await asyncio.wait([sending], timeout=_STUCK)
        if not sending.done():
            return sending
        await sending
    return not_applicable(f"took {_MOST >> 20} MiB that nobody read: no send() waits")
