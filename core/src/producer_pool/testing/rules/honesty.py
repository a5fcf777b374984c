"""That what a transport says of a message is true: how far it got, and that it got there at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.errors import ConfigurationError, Rejected
from producer_pool.model.outcomes import Ack
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.driving import Driver, StoppableDriver
from producer_pool.testing.forwarding import DIRECT, Forwarding, steady
from producer_pool.testing.rule import CLIENT, CONFIRMING, CONSUMER, RuleBroken, require, rule
from producer_pool.testing.trial import Trial, numbered, shown

__all__ = [
    "confirms_only_what_arrived",
    "declares_what_it_reaches",
    "delivers_or_rejects",
    "settles_everything",
    "written_means_written",
]

_KEPT: Final = 24 * 1024 * 1024
"""Bytes: more than two kernels keep for a consumer that reads nothing."""


@rule(CLIENT)
async def declares_what_it_reaches(trial: Trial) -> None:
    """
    A client reaches the levels that its transport declares, and no others.

    The levels in ``Transport(acks=...)`` are those of this platform. ``client.acks`` are the ones that
    a producer can be asked for, `client.ack` is one of them, and ``ack=`` for more than the highest is
    refused when the producer is added, not when its first message fails.
    """
    declared = frozenset(trial.subject.transport.acks)
    client = trial.client(trial.place)
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
        asked = trial.url(trial.place, ack=level.label)
        if level <= max(declared):
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
    ``set_write_buffer_limits(high=1, low=0)`` and ``drain()``.
    """
    consumer = await trial.consumer()
    client = trial.subject.factory.create(trial.url(consumer, timeout="1h"))
    longest = trial.longest(client)
    size = min(longest or 16 * 1024, 16 * 1024)
    messages = numbered(10 + _KEPT // size, size=size)
    async with StoppableDriver(client) as driver:
        driver.put(messages[:10])
        await trial.until(lambda: driver.over, "it connects and sends")
        require(driver.error is None, f"sending raised {type(driver.error).__name__}: {driver.error}")
        await _all_arrive(trial, consumer, messages[:10])
    client = trial.subject.factory.create(trial.url(consumer, timeout="1h"))
    consumer.pause()
    async with StoppableDriver(client) as driver:
        driver.put(messages[10:])
        await steady(lambda: driver.sent, trial)
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
    for level in sorted(trial.subject.transport.acks):
        if level > Ack.WRITTEN:
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
        forwarding = await Forwarding.to(trial, consumer, DIRECT, ack=level, timeout="1h")
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


@rule(CONSUMER)
async def delivers_or_rejects(trial: Trial) -> None:
    """
    A message that is reported delivered arrives as it was, and one that is Rejected does not arrive.

    Here some messages are empty, not text, hold the bytes that protocols mark off messages with, or are
    longer than the longest that is declared. A message that the protocol cannot carry is Rejected: not
    cut, escaped, split, or left out and reported delivered.
    """
    consumer = await trial.consumer()
    pool = await trial.producing(consumer)
    delivered = []
    for message in _odd_ones(trial, trial.client(consumer)):
        (result,) = await trial.forward(pool, [message])
        if result.ok:
            delivered.append(message)
            continue
        require(
            isinstance(result.error, Rejected),
            f"{shown(message)} was neither delivered nor Rejected: "
            f"{type(result.error).__name__}: {result.error}",
        )
    await trial.arrives(consumer, delivered)


# -- what they share -------------------------------------------------------------------------------


def _labels(levels: frozenset[Ack]) -> str:
    return ", ".join(level.label for level in sorted(levels))


def _odd_ones(trial: Trial, client: Client) -> list[bytes]:
    """Return messages that some protocols cannot carry, with ordinary ones in between."""
    odd = [
        b"",
        b"a\nb",
        b"a\0b",
        b"a\r\nb",
        b"\xff\xfe\xc3\x28",
        "gr\u00fc\u00dfe".encode(),
        b" ",
        b"a\x00\x00\x00\x05b",
    ]
    longest = trial.longest(client)
    if longest is not None and longest <= 64 * 1024 * 1024:
        odd.append(b"x" * (longest + 1))
    ordinary = numbered(len(odd) + 1)
    return [message for pair in zip(ordinary, odd, strict=False) for message in pair] + ordinary[-1:]


async def _all_arrive(trial: Trial, consumer: TrialConsumer, messages: Sequence[bytes]) -> None:
    needed = set(messages)
    with contextlib.suppress(RuleBroken):
        await trial.until(lambda: needed.issubset(consumer.received), "they arrive")
    lost = needed.difference(consumer.received)
    require(
        not lost,
        f"{len(lost)} of {len(messages)} messages never arrived: send() had returned, and the client still "
        "had to do something",
    )


async def _while_nobody_reads(trial: Trial, level: Ack) -> None:
    consumer = await trial.consumer()
    driver = Driver(trial.client(consumer, timeout="1h"), level)
    size = min(trial.longest(driver.client) or 4096, 4096)
    messages = numbered(_KEPT // size, size=size)
    async with trial.patience("it connects and sends"):
        await driver.connect()
        await driver.put(messages[:20])
    await trial.arrives(consumer, messages[:20])
    consumer.pause()
    putting = asyncio.create_task(driver.put(messages[20:]))
    try:
        settled = await steady(driver.settled, trial)
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
