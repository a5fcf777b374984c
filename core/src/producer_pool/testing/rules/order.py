"""That messages arrive in their order, each of them, and once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.forwarding import RELAY
from producer_pool.testing.messages import numbered, shown
from producer_pool.testing.rule import CONSUMER, ORDERED, RuleBroken, require, rule
from producer_pool.testing.trial import Trial

__all__ = ["doubles_nothing", "drops_nothing", "keeps_order", "keeps_order_over_a_break"]

_MANY: Final = 3000
_FEW: Final = 400
"""Messages of a transport that may lose some: sent as slowly as they are read, it has no reason to."""
_BURSTS: Final = (1, 1, 2, 5, 40)
_BEFORE_THE_BREAK: Final = 200
"""Messages that arrive before a connection is broken."""


@rule(CONSUMER)
async def drops_nothing(trial: Trial) -> None:
    """
    What is delivered arrives, as long as nothing breaks.

    "Delivered" is what the pool says of a message whose send() returned, or which settled() counts.
    """
    sent, received = await _traffic(trial)
    missing = sorted(set(sent) - set(received))
    require(not missing, f"{len(missing)} of {len(sent)} messages did not arrive, such as {_first(missing)}")


@rule(CONSUMER)
async def doubles_nothing(trial: Trial) -> None:
    """
    No message arrives twice, as long as nothing breaks.

    A client sends what it is given, once. Whether it is sent again after an error, its producer decides.
    """
    sent, received = await _traffic(trial)
    twice = sorted(message for message, count in Counter(received).items() if count > 1)
    require(
        not twice, f"{len(twice)} of {len(sent)} messages arrived more than once, such as {_first(twice)}"
    )


@rule(CONSUMER, ORDERED)
async def keeps_order(trial: Trial) -> None:
    """
    Messages arrive in the order in which they were sent.

    One task for each message loses it, and so do two ways to send of which one is a short cut. A
    protocol that cannot keep it says so: ``Transport(ordered=False)``.
    """
    sent, received = await _traffic(trial)
    _require_order(sent, received)


@rule(CONSUMER, ORDERED)
async def keeps_order_over_a_break(trial: Trial) -> None:
    """
    When a connection breaks, what is sent on the next one is still in order.

    Some may arrive twice, and some be lost, as far as the acknowledged level allows. But nothing
    overtakes: a client that keeps messages over a break, and sends them itself, would come in between
    with them. So it keeps none; its producer has them all.
    """
    consumer = await trial.consumer(comes=False)
    forwarding = await trial.forwarding(consumer, RELAY)
    sent = numbered(_MANY)
    third = _MANY // 3
    await forwarding.submit(sent[:third])
    await trial.until(lambda: len(consumer.received) >= _BEFORE_THE_BREAK, "the first messages arrive")
    await consumer.crash()
    await forwarding.submit(sent[third : 2 * third])
    await consumer.start()
    for number, message in enumerate(sent[2 * third :]):
        await forwarding.submit([message])
        if number % 40 == 0:
            await asyncio.sleep(0)
    await forwarding.all_delivered()
    last = numbered(1, start=_MANY)
    await forwarding.forward(last)
    await trial.until(lambda: last[0] in consumer.received[-1:], "a message arrives after the break")
    _require_order([*sent, *last], list(dict.fromkeys(consumer.received)))


# -- what they share -------------------------------------------------------------------------------


async def _traffic(trial: Trial) -> tuple[list[bytes], list[bytes]]:
    """Send many messages in bursts of many sizes; return them, and what arrived."""
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer)
    ordered = trial.subject.transport.ordered
    messages = numbered(_MANY if ordered else _FEW)
    sent = forwarding.messages
    while len(sent) < len(messages):
        size = trial.random.choice((*_BURSTS, 300) if ordered else _BURSTS)
        await forwarding.submit(messages[len(sent) : len(sent) + size])
        await asyncio.sleep(0)
        if not (ordered or await _arrived(trial, consumer, len(sent))):
            break
    await forwarding.all_delivered()
    if ordered:
        await _arrived(trial, consumer, len(sent))
    return sent, list(consumer.received)


async def _arrived(trial: Trial, consumer: TrialConsumer, count: int) -> bool:
    """Wait until so many messages arrived; False: they never will."""
    try:
        await trial.until(lambda: len(consumer.received) >= count, "all messages arrive")
    except RuleBroken:
        return False
    return True


def _require_order(sent: list[bytes], received: list[bytes]) -> None:
    place = {message: number for number, message in enumerate(sent)}
    before = b""
    for message in received:
        require(message in place, f"{shown(message)} arrived, and nobody sent it")
        overtaken = before and place[before] > place[message]
        require(not overtaken, f"{shown(message)} arrived after {shown(before)}, and was sent before it")
        before = message


def _first(messages: list[bytes]) -> str:
    return shown(messages[0]) if messages else ""
