"""What happens when a consumer does not read: bounded memory, and going on afterwards."""

from __future__ import annotations

import asyncio
import math
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Ack
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.driving import Driver
from producer_pool.testing.forwarding import DIRECT
from producer_pool.testing.messages import difference, numbered
from producer_pool.testing.patience import bounded, call_after
from producer_pool.testing.rule import CONSUMER, not_applicable, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "bounds_what_it_holds",
    "forgets_what_is_settled",
    "goes_on_after_a_pause",
    "takes_what_it_says",
]

_MiB: Final = 1024 * 1024
_MOST: Final = 32 * _MiB
"""Bytes after which a client that still takes more has no bound; the kernel's buffers hold about ten."""
_HELD: Final = 12 * _MiB
"""Bytes that a process may keep of them. Datagrams that nobody reads are kept by nobody."""
_PIECE: Final = 32 * 1024
_SENT: Final = 8 * _MiB
"""Bytes that are sent, and settled, before it is looked what is left of them; and of them, the most."""
_LEFT: Final = 3 * _MiB
_STUCK: Final = 0.2
"""Seconds after which a send() that goes on waits for its consumer. Should that be wrong, less is asked."""


@rule(CONSUMER)
async def bounds_what_it_holds(trial: Trial) -> None:
    """
    As long as its consumer reads nothing, a client takes a bounded number of bytes.

    Then send() waits, and start() returns 0. What is waiting belongs into the outbox of its producer,
    which has a bound, and a rule for what is too much; a client keeps one partly written buffer. Many
    libraries write into a buffer without an end: wait for theirs to drain after each write.
    """
    consumer = await trial.consumer(comes=False)
    driver = await trial.driven(consumer, numbered(1))
    size = min(_PIECE, trial.longest(driver.client) or _PIECE)
    consumer.pause()
    taken = 0
    with _traced() as held:
        # Each message has memory of its own: what is kept of it can be seen.
        while taken < _MOST and await _takes(driver, numbered(1, size=size, start=taken // size + 1)):
            taken += size
        kept = held()
    if taken >= _MOST:
        text = f"took {taken // _MiB} MiB while nothing was read, and keeps {kept // _MiB} MiB of them"
        require(kept <= _HELD, text)
    consumer.resume()


@rule(CONSUMER)
async def forgets_what_is_settled(trial: Trial) -> None:
    """
    A client keeps nothing of the messages that arrived.

    It runs for months. What it needs in order to send again is kept by its producer, until it is settled;
    a history, or a table of answers that are awaited, has to be cleared as they come.
    """
    consumer = await trial.consumer()
    driver = await trial.driven(consumer, numbered(1))
    size = min(_PIECE, trial.longest(driver.client) or _PIECE)
    with _traced() as held:
        for number in range(1, _SENT // size):
            async with trial.patience("messages are sent, and arrive"):
                await driver.put(numbered(1, size=size, start=number))
                while not consumer.received and trial.subject.transport.ordered:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            _forget(consumer)
        await trial.steady(driver.settled, _STUCK / 4)
        _forget(consumer)
        kept = held()
    if consumer.received:
        not_applicable("has a consumer of its own whose list of what was received cannot be cleared")
    require(
        kept <= _LEFT,
        f"of {_SENT // _MiB} MiB that it sent, and that arrived, it keeps {kept / _MiB:.1f} MiB",
    )


@rule(CONSUMER)
async def goes_on_after_a_pause(trial: Trial) -> None:
    """
    When the consumer reads again, all that was taken arrives, and what comes after it.

    A datagram transport goes on reading while it is paused, and its listener counts what it drops in
    ``stats.dropped``; all others lose nothing. A client that waits for room has to be told of it:
    look for a writer that is not watched, or a writable() that is never called.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer, replace(DIRECT, deadline=math.inf))
    first = numbered(1)
    await forwarding.forward(first)
    await trial.arrives(consumer, first)
    limit = trial.longest(trial.client(consumer))
    sent = numbered(12 * _MiB // _PIECE, size=min(_PIECE, limit or _PIECE), start=1)
    consumer.pause()
    call_after(_STUCK, consumer.resume)
    for result in await forwarding.forward(sent):
        require(result.ok, f"a message was not delivered, though it had only to wait: {result.error}")
    await _pause_is_over(trial, consumer, [*first, *sent])
    later: set[bytes] = set()
    async with trial.patience("a message arrives after the pause"):
        # A datagram may find the buffer full of those that nobody read. Any other arrives at once.
        while later.isdisjoint(consumer.received):
            more = numbered(1, start=1 + len(sent) + len(later))
            later.update(more)
            await forwarding.forward(more)
            await asyncio.sleep(_STUCK / 20)


@rule(CONSUMER)
async def takes_what_it_says(trial: Trial) -> None:
    """
    start() takes whole batches, as many as it says; settled() counts messages, and never goes back.

    A producer believes both. Nothing is handed over twice that start() said it took, nor kept that
    settled() counts. The counts are messages since connect(), the skipped ones of the first batch not
    among them; ``0 <= confirmed <= written <= handed over``. No signal is called inside start().
    """
    consumer = await trial.consumer()
    client = trial.client(consumer)
    if not isinstance(client, PipelinedClient):
        not_applicable("has a plain client: there is no start()")
    driver = Driver(client, max(client.acks & {Ack.WRITTEN, Ack.KERNEL}, default=Ack.WRITTEN))
    await trial.within("connect() returns", driver.connect())
    await trial.met(client)
    require(driver.settled() == (0, 0), "settled() is not (0, 0) after connect()")
    skipped, sent = numbered(3, start=90_000), numbered(3)
    async with trial.patience("start() takes a first batch"):
        await _hand_over(driver, [Batch.of([*skipped, *sent])], len(skipped))
    await trial.arrives(consumer, sent)
    limit = trial.longest(client)
    messages = numbered(12 * _MiB // _PIECE, size=min(_PIECE, limit or _PIECE), start=3)
    consumer.pause()
    call_after(_STUCK, consumer.resume)
    batches = _batches(trial, messages)
    async with trial.patience("start() takes all batches; after a 0, writable() says when to ask again"):
        await _hand_over(driver, batches, 0)
    await trial.until(lambda: driver.settled().written == driver.taken, "all that was taken is written")
    await trial.until(lambda: driver.settled().confirmed == driver.taken, "all that was taken is confirmed")
    sent += messages
    require(driver.taken == len(sent), f"{driver.taken} messages were taken, and {len(sent)} handed over")
    await _pause_is_over(trial, consumer, sent)


# -- what they share -------------------------------------------------------------------------------


async def _takes(driver: Driver, messages: list[bytes]) -> bool:
    """Hand over *messages*; False: the client waits, or says that its consumer takes no more."""
    putting = asyncio.create_task(driver.put(messages))
    with suppress(TimeoutError):
        async with bounded(_STUCK):
            await asyncio.wait([putting])
    if not putting.done():
        putting.cancel()
        await asyncio.wait([putting], timeout=_STUCK)
        return False
    with suppress(DeliveryError):
        putting.result()
        return True
    return False


def _forget(consumer: TrialConsumer) -> None:
    """Let go of what has arrived."""
    consumer.received.clear()
    if isinstance(consumer, ListenerConsumer):
        consumer.batches.clear()


@contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Yield what tells how many bytes Python allocated, and did not free, since then."""
    began = not tracemalloc.is_tracing()
    if began:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        if began:
            tracemalloc.stop()


async def _hand_over(driver: Driver, batches: list[Batch], offset: int) -> None:
    """Hand over all *batches*, a few at a time, waiting for the client's word where it takes none."""
    while batches:
        taken = driver.start(batches[:4], offset)
        del batches[:taken]
        if taken:
            offset = 0
        else:
            await driver.told()
        await asyncio.sleep(0)


def _batches(trial: Trial, messages: list[bytes]) -> list[Batch]:
    """Cut *messages* into batches of chance sizes."""
    batches = []
    position = 0
    while position < len(messages):
        size = trial.random.choice((1, 1, 2, 7))
        batches.append(Batch.of(messages[position : position + size]))
        position += size
    return batches


async def _pause_is_over(trial: Trial, consumer: TrialConsumer, sent: list[bytes]) -> None:
    """Wait until all that was sent around a pause arrived, or was dropped as the transport may."""
    if not trial.subject.transport.ordered:
        return  # Nor is it said that none is lost.
    dropped = 0
    if isinstance(consumer, ListenerConsumer):
        stats = consumer.listener.stats
        what = "what was taken arrives after the pause, or is counted as dropped"
        await trial.until(lambda: len(consumer.received) + stats.dropped >= len(sent), what)
        dropped = stats.dropped
    if not dropped:
        await trial.arrives(consumer, sent)
        return
    fault = difference(sent, consumer.received)
    lost = len(sent) - len(consumer.received)
    require("did not arrive" in fault, fault)
    require(lost == dropped, f"{lost} messages did not arrive, and {dropped} are counted as dropped")
