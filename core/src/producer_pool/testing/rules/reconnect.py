"""What becomes of messages when the consumer goes away, and when it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import Ack
from producer_pool.testing.between import between
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.driving import Driver
from producer_pool.testing.forwarding import RELAY, Forwarding
from producer_pool.testing.messages import numbered, shown
from producer_pool.testing.proxy_faults import Faults
from producer_pool.testing.rule import CONFIRMING, CONSUMER, Need, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "connects_only_when_told",
    "doubles_nothing_confirmed",
    "loses_nothing_in_a_proxy",
    "loses_nothing_in_mid_stream",
    "loses_nothing_unconfirmed",
    "notices_the_end",
    "reconnects",
    "tells_of_the_end_once",
]

ABOVE_KERNEL: Final = Need(
    lambda subject: max(subject.transport.acks) > Ack.KERNEL,
    "declares no level of acknowledgement above kernel",
)

_STEP: Final = 4096
_MOST: Final = 32 * 1024
"""Messages of 1 KiB, given to a consumer that reads nothing: at once, and until some are not confirmed."""
_TRIES: Final = 500
"""Messages sent to a consumer that is gone."""
_MOMENT: Final = 0.05
"""Seconds in which what must not happen would have happened. Should that take longer, less is asked."""


@rule(CONSUMER)
async def reconnects(trial: Trial) -> None:
    """
    When a consumer that crashed is back at the same address, messages arrive there again.

    The producer closes the client after an error, and calls connect() on the same object until it
    succeeds. So connect() has to begin anew: with no socket, buffer, count or error of the last
    connection left.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer, RELAY)
    await _arrive(trial, consumer, forwarding, numbered(5))
    for turn in range(1, 3):
        await consumer.crash()
        await forwarding.submit(numbered(1, start=10 * turn))
        await consumer.start()
        await _one_arrives(trial, consumer, forwarding, numbered(_TRIES, start=1000 * turn))


@rule(CONSUMER, CONFIRMING)
async def loses_nothing_unconfirmed(trial: Trial) -> None:
    """
    What was not confirmed when the consumer crashed arrives when it is back.

    Here the consumer reads nothing more, until the transport confirms nothing more; then it crashes.
    A message counts as lost only when its level says that it cannot be: what was confirmed at KERNEL
    lies in the buffer of the next hop, and may be lost with it; above that level it may not. If this
    fails, `settled()` counted something as confirmed that was only written, perhaps when the
    connection broke: at that moment nothing more can be known than was known before.
    """
    for level in trial.levels():
        await _crash_of_one_who_reads_nothing(trial, level)


@rule(CONSUMER, CONFIRMING)
async def loses_nothing_in_mid_stream(trial: Trial) -> None:
    """
    A consumer that crashes while messages stream in has got them all when it is back.

    All that was in flight and not confirmed is sent again. Only at KERNEL, messages may be missing
    that had been confirmed and not read: those directly behind the last one that it had read. If others
    are missing, they were counted in the wrong place: `settled()` counts messages since connect(), in
    their order, and the first one that it does not count is the first to be sent again.
    """
    for level in trial.levels():
        await _crash_of_one_who_reads(trial, level)


@rule(CONSUMER, ABOVE_KERNEL)
async def loses_nothing_in_a_proxy(trial: Trial) -> None:
    """
    At PEER and APP, what a proxy took and did not pass on is not confirmed, and is sent again.

    A proxy, a sidecar or a load balancer ends the connection: its kernel acknowledges what may never reach
    the consumer. A level above KERNEL is an answer of the consumer itself, and counts what that has read.
    """
    for level in trial.levels(Ack.KERNEL):
        await _swallow_and_reset(trial, level)


@rule(CONSUMER)
async def doubles_nothing_confirmed(trial: Trial) -> None:
    """
    What was reported delivered is not sent again after the connection breaks.

    Sending again is the producer's part: it keeps what is not settled. A client that keeps messages of
    its own, and sends them when it is connected again, doubles them.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer, RELAY)
    first = numbered(50)
    await _arrive(trial, consumer, forwarding, first)
    await forwarding.all_delivered()
    await consumer.crash()
    await consumer.start()
    await _one_arrives(trial, consumer, forwarding, numbered(_TRIES, start=1000))
    await trial.steady(lambda: len(consumer.received), _MOMENT)
    known = set(first)
    again = [message for message in consumer.received[len(first) :] if message in known]
    require(
        not again,
        f"{len(again)} of {len(first)} messages that were reported delivered were sent again after the "
        "connection broke",
    )


@rule(CONSUMER)
async def notices_the_end(trial: Trial) -> None:
    """
    Messages for a consumer that went away are not reported delivered for ever.

    The first may be: the kernel takes it before it knows. Then send() has to raise a SendError, or a
    PipelinedClient to call broken(). If this fails, an error is swallowed: of a write, or of the task
    that reads. Rejected is for what the consumer will never take: such a message is not sent again.
    """
    consumer = await trial.consumer(comes=False)
    forwarding = await trial.forwarding(consumer)
    await _arrive(trial, consumer, forwarding, numbered(1))
    await consumer.crash()
    for message in numbered(_TRIES, start=1):
        async with trial.patience("forwarding to a consumer that is gone returns"):
            (result,) = await forwarding.forward([message])
        if not result.ok:
            given_up = isinstance(result.error, Rejected)
            require(not given_up, f"a message for a consumer that went away is Rejected: {result.error}")
            return
        await asyncio.sleep(0.001)
    raise RuleBroken(f"{_TRIES} messages were reported delivered after the consumer went away")


@rule(CONSUMER)
async def connects_only_when_told(trial: Trial) -> None:
    """
    When its connection broke, a client sends nothing more until connect() is called.

    To reconnect is its producer's part, which waits between attempts, tells who watches, and sends first
    what was not confirmed. A send() that connects again by itself hides that what the old connection had
    taken may be lost.
    """
    consumer = await trial.consumer(comes=False)
    driver = await _breakable(trial, consumer)
    if driver.client.ack > Ack.WRITTEN and not isinstance(driver.client, PipelinedClient):
        not_applicable("waits for an answer to each message, and loses none with a connection")
    await consumer.crash()
    await consumer.start()
    for number in range(1, 4):  # The first finds that it broke; the next may think that all is well again.
        with contextlib.suppress(DeliveryError):
            async with trial.patience("sending over a connection that broke ends"):
                for message in numbered(_TRIES, start=number * _TRIES):
                    await driver.put([message])
                    await asyncio.sleep(0.001)
                    if len(consumer.received) > 1:
                        break
    await trial.steady(lambda: len(consumer.received), _MOMENT)
    again = len(consumer.received) - 1
    require(not again, f"{again} messages arrived over a connection that nobody had told it to make")


@rule(CONSUMER)
async def tells_of_the_end_once(trial: Trial) -> None:
    """
    A PipelinedClient calls broken() once when its connection breaks, and no signal after that.

    It does so on the event loop, never inside start(), with a ConnectError or a SendError. Signals that
    come later would be taken for those of the next connection.
    """
    consumer = await trial.consumer(comes=False)
    driver = await _breakable(trial, consumer)
    if not isinstance(driver.client, PipelinedClient):
        not_applicable("has a plain client: it has no signals")
    await consumer.crash()
    with contextlib.suppress(DeliveryError):
        async with trial.patience("broken() is called after the consumer went away"):
            for message in numbered(_TRIES, start=1):
                await driver.put([message])
                await asyncio.sleep(0.001)
            await driver.told()
    driver.settled()
    await trial.within("aclose() after broken() returns", driver.client.aclose())
    await trial.steady(lambda: driver.fault, _MOMENT)
    require(not driver.fault, driver.fault)


# -- what they share -------------------------------------------------------------------------------


async def _breakable(trial: Trial, consumer: TrialConsumer) -> Driver:
    """Return a client that is driven without a producer, over a connection that can break."""
    driver = await trial.driven(consumer, numbered(1))
    if not consumer.connections:
        not_applicable("has no connections, as far as its consumer can tell")
    driver.may_break = True
    return driver


async def _arrive(
    trial: Trial, consumer: TrialConsumer, forwarding: Forwarding, messages: Sequence[bytes]
) -> None:
    await forwarding.submit(messages)
    await trial.arrives(consumer, messages)


async def _one_arrives(
    trial: Trial, consumer: TrialConsumer, forwarding: Forwarding, messages: Sequence[bytes]
) -> None:
    """Send one of *messages* after the other until one arrives: the first may still be lost."""

    async def send(message: bytes) -> None:
        await forwarding.submit([message])

    if not await trial.one_arrives(consumer, messages, send):
        raise RuleBroken(f"nothing arrived after the consumer came back{await forwarding.trouble()}")


async def _crash_of_one_who_reads_nothing(trial: Trial, level: Ack) -> None:
    consumer = await trial.consumer(comes=False)
    forwarding = await trial.forwarding(consumer, RELAY, ack=level.label)
    await _arrive(trial, consumer, forwarding, numbered(20, size=1024))
    consumer.pause()
    while len(forwarding.messages) < _MOST:
        given = len(forwarding.messages)
        await forwarding.submit(numbered(_STEP, size=1024, start=given))
        await trial.steady(lambda: len(forwarding.reported()))
        if len(forwarding.reported()) < len(forwarding.messages):
            break
    # The kernel of a consumer that reads nothing acknowledges nothing more: what is known now is all.
    confirmed = set(forwarding.reported()) if level <= Ack.KERNEL else set()
    await _crash_and_come_back(consumer, forwarding)
    needed = [message for message in forwarding.messages if message not in confirmed]
    await _all_arrive(trial, consumer, needed, level)
    await consumer.aclose()


async def _crash_of_one_who_reads(trial: Trial, level: Ack) -> None:
    consumer = await trial.consumer(comes=False)
    forwarding = await trial.forwarding(consumer, RELAY, ack=level.label)
    await forwarding.submit(numbered(6000, size=512))
    await trial.until(lambda: len(consumer.received) >= 500, "messages stream in")
    read = len(consumer.received)
    await consumer.crash()
    # The kernel may have taken all that there was. This one goes over the new connection.
    await forwarding.submit(numbered(1, size=512, start=6000))
    await consumer.start()
    await forwarding.all_delivered()
    needed = forwarding.messages
    if level <= Ack.KERNEL:
        # When the last one is there, so are all before it that were sent over that connection.
        await _all_arrive(trial, consumer, needed[-1:], level)
        needed = needed[:read] + needed[read + _gap(needed[read:], consumer.received) :]
    await _all_arrive(trial, consumer, needed, level)
    await consumer.aclose()


async def _swallow_and_reset(trial: Trial, level: Ack) -> None:
    consumer = await trial.consumer()
    first, swallowed = numbered(20), numbered(50, start=20)
    async with between(trial, consumer) as proxy:
        forwarding = await trial.forwarding(proxy.url, RELAY, ack=level.label, timeout="1h")
        await _arrive(trial, consumer, forwarding, first)
        await forwarding.all_delivered()
        proxy.forth.faults = Faults(black_hole=True)
        await forwarding.submit(swallowed)
        await trial.steady(lambda: len(forwarding.reported()))
        wrong = forwarding.reported()[len(first) :]
        require(
            not wrong,
            f"{len(wrong)} messages were reported delivered ({level.label}) that a proxy took, and did not "
            "pass on",
        )
        proxy.forth.faults = Faults()
        proxy.reset()
        await forwarding.all_delivered()
        await _all_arrive(trial, consumer, swallowed, level)
        await forwarding.pool.aclose()
    await consumer.aclose()


async def _crash_and_come_back(consumer: TrialConsumer, forwarding: Forwarding) -> None:
    await consumer.crash()
    consumer.resume()
    await consumer.start()
    await forwarding.all_delivered()


async def _all_arrive(trial: Trial, consumer: TrialConsumer, messages: Sequence[bytes], level: Ack) -> None:
    lost = await trial.missing(consumer, messages)
    require(
        not lost,
        f"{len(lost)} messages were reported delivered ({level.label}) after the consumer had crashed, "
        f"and never arrived, such as {lost and shown(min(lost))}",
    )


def _gap(sent: Sequence[bytes], received: Iterable[bytes]) -> int:
    """Return how many messages are missing at the beginning of *sent*."""
    arrived = set(received)
    return next((index for index, message in enumerate(sent) if message in arrived), len(sent))
