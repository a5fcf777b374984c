"""That what a transport says of a message is true: how far it got, and that it got there at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.outcomes import Ack, resolve_ack
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import CLIENT, CONFIRMING, CONSUMER, RuleBroken, require, rule
from producer_pool.testing.stopping import StoppableDriver
from producer_pool.testing.trial import Trial

__all__ = [
    "confirms_only_what_arrived",
    "declares_what_it_reaches",
    "settles_everything",
    "written_means_written",
]

_TIMEOUT: Final = 0.2
"""Seconds after which a client that keeps time itself gives up."""


@rule(CLIENT)
async def declares_what_it_reaches(trial: Trial) -> None:
    """
    A client reaches the levels that its transport declares, and no others.

    The levels in ``Transport(acks=...)`` are those of this platform. ``client.acks`` are the ones that
    a producer can be asked for, `client.ack` is one of them, and ``ack=`` for what none of them meets is
    refused when the producer is added, not when its first message fails.
    """
    declared = frozenset(trial.subject.transport.acks)
    client = trial.client(trial.consumer_place)
    reached = client.acks
    require(
        reached <= declared,
        f"client.acks has {_labels(reached - declared)}, which its Transport does not declare",
    )
    require(
        declared <= reached,
        f"its Transport declares {_labels(declared - reached)}, which client.acks does not have",
    )
    require(client.ack in reached, f"client.ack is {client.ack}, and client.acks has {_labels(reached)}")
    for level in Ack:
        asked = trial.url(trial.consumer_place, ack=level.label)
        if _is_met(level, declared):
            trial.subject.factory.plan(asked)
            continue
        try:
            trial.subject.factory.plan(asked)
        except ConfigurationError:
            continue
        require(False, f"ack={level.label} was accepted, and {_labels(declared)} is all that it declares")


@rule(CONSUMER)
async def written_means_written(trial: Trial) -> None:
    """
    When send() has returned, the message arrives even if the program does nothing more.

    WRITTEN means that the kernel took every byte. Here the client's event loop stands still as soon as
    send() returns: what a task, a callback or a buffer of the client was to do after that never
    happens. An asyncio transport has such a buffer: wait until it is empty, with
    ``set_write_buffer_limits(high=1, low=0)`` and ``drain()``. A send() that runs out of time raises a
    SendError: who returns says that it is done.
    """
    consumer = await trial.consumer()
    client = trial.subject.factory.create(trial.url(consumer, timeout="1h"))
    messages = [*numbered(10), *trial.flood(client, piece=16 * 1024, start=10)]
    async with StoppableDriver(client, trial.reach) as driver:
        driver.put(messages[:10])
        await trial.until(lambda: driver.over, "it connects and sends")
        require(driver.error is None, f"sending raised {type(driver.error).__name__}: {driver.error}")
        await _all_arrive(trial, consumer, messages[:10])
    # A pipelined client gives up by itself, and throws away what it wrote: it needs no time to lie.
    patient = isinstance(client, PipelinedClient)
    client = trial.subject.factory.create(trial.url(consumer, timeout="1h" if patient else f"{_TIMEOUT:g}s"))
    consumer.pause()
    async with StoppableDriver(client, trial.reach) as driver:
        driver.put(messages[10:])
        await trial.steady(lambda: driver.sent, _TIMEOUT / 2)
        await trial.steady(lambda: None, 0 if patient else 2 * _TIMEOUT)
        driver.stop()
        consumer.resume()
        # One that never had to wait has no way to know what a consumer reads, and promised nothing of it.
        if not driver.over:
            await _all_arrive(trial, consumer, messages[10 : 10 + driver.sent])


@rule(CONSUMER, CONFIRMING)
async def confirms_only_what_arrived(trial: Trial) -> None:
    """
    A consumer that reads nothing confirms nothing more, and all is confirmed when it reads again.

    At PEER and APP, what is confirmed was read. At KERNEL it lies in the buffer of the next hop: when
    that is full, and ours too, what is confirmed stays behind what is written. A client that counts
    what is written as confirmed, at a level above WRITTEN, is found here.
    """
    for level in trial.levels():
        await _while_nobody_reads(trial, level)


@rule(CONSUMER)
async def settles_everything(trial: Trial) -> None:
    """
    Every message is settled, at each level, though no other comes after it.

    A producer asks `settled()` again and again, but it sends nothing only to learn something. If the
    last message stays open, its confirmation is looked for only when the next one is sent.
    """
    consumer = await trial.consumer()
    sent = 0
    for level in sorted(trial.subject.transport.acks):
        forwarding = await trial.forwarding(consumer, ack=level.label, timeout="1h")
        for count in (1, 3):
            messages = numbered(count, start=sent)
            sent += count
            await forwarding.submit(messages)
            try:
                await forwarding.all_delivered()
            except RuleBroken as fault:
                there = len(set(messages).intersection(consumer.received))
                raise RuleBroken(
                    f"{fault}; ack={level.label}, and {there} of the last {count} arrived"
                ) from None
        # The next one may have to listen where this one does.
        await trial.within("the pool is closed when all is delivered", forwarding.pool.aclose())


# -- what they share -------------------------------------------------------------------------------


def _is_met(level: Ack, declared: frozenset[Ack]) -> bool:
    try:
        resolve_ack(level, declared)
    except ConfigurationError:
        return False
    return True


def _labels(levels: frozenset[Ack]) -> str:
    return ", ".join(level.label for level in sorted(levels))


async def _all_arrive(trial: Trial, consumer: TrialConsumer, messages: Sequence[bytes]) -> None:
    lost = await trial.missing(consumer, messages)
    require(
        not lost,
        f"{len(lost)} of {len(messages)} messages never arrived: send() had returned, and the client still "
        "had to do something",
    )


async def _while_nobody_reads(trial: Trial, level: Ack) -> None:
    consumer = await trial.consumer()
    driver = await trial.driven(consumer, numbered(20), ack=level, timeout="1h")
    messages = [*numbered(20), *trial.flood(driver.client, piece=4096, start=20)]
    consumer.pause()
    putting = asyncio.create_task(driver.put(messages[20:]))
    try:
        settled = await trial.steady(driver.settled)
        read = len(consumer.received)
        if level > Ack.KERNEL:
            require(
                settled.confirmed <= read,
                f"{settled.confirmed} messages are confirmed ({level.label}), and the consumer read {read}",
            )
        elif not putting.done():
            require(
                settled.confirmed < settled.written,
                f"all {settled.confirmed} messages that are written are confirmed ({level.label}), and the "
                f"consumer read only {read} of them: it takes what nobody confirmed for confirmed",
            )
        consumer.resume()
        await trial.within("the consumer reads again, and all is sent", putting)
        await trial.until(
            lambda: driver.settled().confirmed == driver.taken,
            f"all is confirmed ({level.label}) that was read",
        )
        await trial.arrives(consumer, messages[: driver.taken])
    finally:
        putting.cancel()
    await consumer.aclose()
