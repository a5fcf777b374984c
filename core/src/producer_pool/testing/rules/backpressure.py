"""What happens when a consumer does not read: bounded memory, and going on afterwards."""

from __future__ import annotations

import asyncio
import math
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from producer_pool.contract.ports import Client, PipelinedClient
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.testing.consumers import ListenerConsumer, TrialConsumer
from producer_pool.testing.handover import Handover
from producer_pool.testing.rule import CLIENT, CONSUMER, LISTENER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial, difference, numbered

__all__ = [
    "bounds_what_it_holds",
    "goes_on_after_a_pause",
    "listener_reads_nothing_while_paused",
    "takes_what_it_says",
]

_MiB: Final = 1024 * 1024
_MOST: Final = 32 * _MiB
"""Bytes after which a client that still takes more has no bound; the kernel's buffers hold about ten."""
_HELD: Final = 12 * _MiB
"""Bytes that a process may keep of them. Datagrams that nobody reads are kept by nobody."""
_PIECE: Final = 32 * 1024
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
    consumer = await trial.consumer()
    client = trial.client(consumer)
    size = min(_PIECE, trial.longest(client) or _PIECE)
    if isinstance(client, PipelinedClient):
        taking = await _begin_pipelined(trial, client, consumer)
    else:
        await _begin(trial, client, consumer)
        taking = partial(_taken_by_send, client)
    consumer.pause()
    taken = 0
    with _traced() as held:
        # Each message has memory of its own: what is kept of it can be seen.
        while taken < _MOST and await taking(numbered(1, size=size, start=taken // size + 1)[0]):
            taken += size
        kept = held()
    if taken >= _MOST:
        text = f"took {taken // _MiB} MiB while nothing was read, and keeps {kept // _MiB} MiB of them"
        require(kept <= _HELD, text)
    consumer.resume()


@rule(CONSUMER)
async def goes_on_after_a_pause(trial: Trial) -> None:
    """
    When the consumer reads again, all that was taken arrives, and what comes after it.

    A datagram transport goes on reading while it is paused, and its listener counts what it drops in
    ``stats.dropped``; all others lose nothing. A client that waits for room has to be told of it:
    look for a writer that is not watched, or a writable() that is never called.
    """
    consumer = await trial.consumer()
    pool = await trial.producing(consumer, policy=DeliveryPolicy(deadline=math.inf))
    first = numbered(1)
    await trial.forward(pool, first)
    await trial.arrives(consumer, first)
    limit = trial.longest(trial.client(consumer))
    sent = numbered(12 * _MiB // _PIECE, size=min(_PIECE, limit or _PIECE), start=1)
    consumer.pause()
    asyncio.get_running_loop().call_later(_STUCK, consumer.resume)
    for result in await trial.forward(pool, sent):
        require(result.ok, f"a message was not delivered, though it had only to wait: {result.error}")
    await _pause_is_over(trial, consumer, [*first, *sent])
    later: set[bytes] = set()
    async with trial.patience("a message arrives after the pause"):
        # A datagram may find the buffer full of those that nobody read. Any other arrives at once.
        while later.isdisjoint(consumer.received):
            more = numbered(1, start=1 + len(sent) + len(later))
            later.update(more)
            await trial.forward(pool, more)
            await asyncio.sleep(_STUCK / 20)


@rule(CLIENT, LISTENER)
async def listener_reads_nothing_while_paused(trial: Trial) -> None:
    """
    While its intake is paused, a listener passes nothing on.

    Look at ``intake.paused`` before each read, and wait for ``resumed()``: so the senders have to wait,
    and not the program's memory. Datagrams cannot wait: they are dropped, and counted in
    ``stats.dropped``.
    """
    consumer = await trial.listening()
    client = trial.client(consumer)
    await _begin(trial, client, consumer)
    consumer.pause()
    arrived = len(consumer.received)
    messages = numbered(20, start=1)

    async def send() -> None:
        for message in messages:
            await client.send(message)

    sending = asyncio.create_task(send())  # It may have to wait, too.
    await asyncio.sleep(_STUCK / 4)
    passed_on = len(consumer.received) - arrived
    require(not passed_on, f"{passed_on} messages were passed on while the intake was paused")
    consumer.resume()
    await trial.within("what had to wait is sent after the pause", sending)
    stats = consumer.listener.stats
    with suppress(RuleBroken):
        await trial.until(
            lambda: len(consumer.received) - arrived + stats.dropped >= len(messages),
            "what waited is passed on after the pause",
        )
    lost = len(messages) - (len(consumer.received) - arrived) - stats.dropped
    lossy = not trial.subject.transport.ordered
    require(lost <= 0 or lossy, f"{lost} messages that came during a pause were not passed on after it")


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
    handover = Handover(client, max(client.acks & {Ack.WRITTEN, Ack.KERNEL}, default=Ack.WRITTEN))
    client.attach(handover)
    await trial.within("connect() returns", client.connect())
    require(handover.settled() == (0, 0), "settled() is not (0, 0) after connect()")
    skipped, sent = numbered(3, start=90_000), numbered(3)
    async with trial.patience("start() takes a first batch"):
        await _hand_over(handover, [Batch.of([*skipped, *sent])], len(skipped))
    await trial.arrives(consumer, sent)
    limit = client.max_message
    messages = numbered(12 * _MiB // _PIECE, size=min(_PIECE, limit or _PIECE), start=3)
    consumer.pause()
    asyncio.get_running_loop().call_later(_STUCK, consumer.resume)
    batches = _batches(trial, messages)
    async with trial.patience("start() takes all batches; after a 0, writable() says when to ask again"):
        await _hand_over(handover, batches, 0)
    await trial.until(lambda: handover.settled().written == handover.handed, "all that was taken is written")
    await trial.until(
        lambda: handover.settled().confirmed == handover.handed, "all that was taken is confirmed"
    )
    sent += messages
    require(
        handover.handed == len(sent), f"{handover.handed} messages were taken, and {len(sent)} handed over"
    )
    await _pause_is_over(trial, consumer, sent)


# -- what they share -------------------------------------------------------------------------------


async def _begin(trial: Trial, client: Client, consumer: TrialConsumer) -> None:
    """Connect *client*, and have a first message arrive: all that only a beginning needs is done then."""
    first = numbered(1)
    async with trial.patience("a first message is sent"):
        await trial.reach(client)
        await client.send(first[0])
    await trial.arrives(consumer, first)


async def _taken_by_send(client: Client, message: bytes) -> bool:
    """Send *message*; False: the client waits, or says that its consumer takes no more."""
    sending = asyncio.create_task(client.send(message))
    done, _ = await asyncio.wait([sending], timeout=_STUCK)
    if not done:
        sending.cancel()
        await asyncio.wait([sending], timeout=_STUCK)
        return False
    with suppress(DeliveryError):
        sending.result()
        return True
    return False


async def _begin_pipelined(
    trial: Trial, client: PipelinedClient, consumer: TrialConsumer
) -> Callable[[bytes], Awaitable[bool]]:
    """Do the same as _begin() by start(), and return what takes one message so."""
    handover = Handover(client)
    client.attach(handover)

    async def taking(message: bytes) -> bool:
        while not handover.start([Batch.of([message])]):
            try:
                async with asyncio.timeout(_STUCK):
                    await handover.told()
            except TimeoutError:
                return False
        await asyncio.sleep(0)
        return True

    first = numbered(1)
    async with trial.patience("a first message is taken"):
        await client.connect()
        await taking(first[0])
    await trial.arrives(consumer, first)
    return taking


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


async def _hand_over(handover: Handover, batches: list[Batch], offset: int) -> None:
    """Hand over all *batches*, a few at a time, waiting for the client's word where it takes none."""
    while batches:
        taken = handover.start(batches[:4], offset)
        del batches[:taken]
        if taken:
            offset = 0
        else:
            await handover.told()
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
