"""That an acknowledgement of the other end means what it says, where both ends of a transport have one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Final

from producer_pool.contract.options import describe
from producer_pool.contract.ports import PipelinedClient
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, ConnectError, DeliveryError
from producer_pool.model.framing import Framing, framing_named
from producer_pool.model.outcomes import Ack
from producer_pool.testing.between import between
from producer_pool.testing.consumers import ListenerConsumer
from producer_pool.testing.driving import Driver
from producer_pool.testing.forwarding import RELAY
from producer_pool.testing.messages import numbered
from producer_pool.testing.proxy_faults import Faults
from producer_pool.testing.rule import CLIENT, CONSUMER, LISTENER, Need, not_applicable, require, rule
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial

__all__ = [
    "acknowledges_what_is_delivered",
    "believes_no_false_answer",
    "keeps_back_what_failed",
    "sends_again_what_was_not_answered",
]


def _acknowledges(subject: Subject) -> bool:
    kind = subject.transport.listener_options or subject.transport.options
    names = () if kind is None else [one.name for one in describe(kind)]
    return Ack.APP in subject.transport.acks and "ack-after" in names


APP: Final = Need(lambda subject: Ack.APP in subject.transport.acks, "does not declare the level app")
ANSWERING: Final = Need(_acknowledges, "has no listener that acknowledges when it is asked to (ack-after=)")

_MOMENT: Final = 0.05
"""Seconds in which what must not happen would have happened. Should that take longer, less is asked."""
_COUNT: Final = 4
_ENDLESS: Final = 1024 * 1024
"""Bytes of an answer that does not end."""


@rule(CLIENT, LISTENER, ANSWERING)
async def acknowledges_what_is_delivered(trial: Trial) -> None:
    """
    With ``ack-after=delivered``, what is confirmed at APP was delivered behind the listener, in its order.

    Pass on what comes by ``intake.accept()``, and acknowledge when its receipt is done and says that it is
    delivered. Where an acknowledgement is a count, what is delivered before something older has to wait.
    """
    async with _sending(trial, _COUNT) as (consumer, driver, _):
        receipts = consumer.receipts
        several = isinstance(driver.client, PipelinedClient)
        await trial.until(lambda: len(consumer.received) == (_COUNT if several else 1), "messages arrive")
        await _require_confirmed(trial, driver, 0, "and nothing was delivered")
        require(
            receipts, "the listener passed messages on with feed(), which tells nobody what becomes of them"
        )
        if several:
            receipts[1].finish()
            await _require_confirmed(trial, driver, 0, "and the first message was not delivered")
        for number in range(_COUNT):
            await trial.until(lambda: len(receipts) > number, "the next message arrives")  # noqa: B023
            receipts[number].finish()
            await trial.until(
                lambda: driver.settled().confirmed > number,  # noqa: B023
                f"message {number + 1} is confirmed, and those before it: they are delivered",
            )
            delivered = sum(receipt.count for receipt in receipts if receipt.delivered)
            await _require_confirmed(trial, driver, delivered, f"and {delivered} were delivered")


@rule(CLIENT, LISTENER, ANSWERING)
async def keeps_back_what_failed(trial: Trial) -> None:
    """
    With ``ack-after=delivered``, a message that was not delivered is never confirmed, and its client is told.

    A receipt that is done may say that it is not delivered: somebody failed, or dropped, the message. Its
    sender has to keep it. Where an acknowledgement is a count, nothing behind it can be acknowledged any
    more: close the connection, so that the sender sends it again.
    """
    async with _sending(trial, 2) as (consumer, driver, sending):
        receipts = consumer.receipts
        several = isinstance(driver.client, PipelinedClient)
        await trial.until(
            lambda: len(receipts) == (2 if several else 1), "messages are passed on by accept()"
        )
        if several:
            receipts[1].finish()
        receipts[0].finish(delivered=False)
        await trial.steady(lambda: driver.settled().confirmed, _MOMENT)
        confirmed = driver.settled().confirmed
        require(not confirmed, f"{confirmed} messages are confirmed, and the first one was not delivered")
        await trial.until(
            lambda: driver.lost is not None or (sending.done() and not several),
            "the client is told that a message was not taken",
        )


@rule(CONSUMER, APP)
async def sends_again_what_was_not_answered(trial: Trial) -> None:
    """
    At APP, what arrived counts only when its acknowledgement has come back; else it is sent again.

    Here the consumer gets everything, and its answers are lost with the connection. Nobody can know that it
    has the messages. If this fails, something else counted: that they were written, perhaps, or read.
    """
    consumer = await trial.consumer()
    first, unanswered = numbered(20), numbered(20, start=20)
    async with between(trial, consumer) as proxy:
        forwarding = await trial.forwarding(proxy.url, RELAY, ack=Ack.APP.label, timeout="1h")
        await forwarding.submit(first)
        await trial.arrives(consumer, first)
        await forwarding.all_delivered()
        proxy.back.faults = Faults(black_hole=True)
        await forwarding.submit(unanswered)
        await trial.until(lambda: len(consumer.received) > len(first), "messages arrive whose answer is lost")
        arrived = await trial.steady(lambda: len(consumer.received))
        wrong = len(forwarding.reported()) - len(first)
        require(not wrong, f"{wrong} messages were reported delivered whose acknowledgement was lost")
        proxy.back.faults = Faults()
        proxy.reset()
        await forwarding.all_delivered()
        again = consumer.received[arrived:]
        missing = set(consumer.received[len(first) : arrived]).difference(again)
        require(not missing, f"{len(missing)} messages were not sent again whose acknowledgement was lost")
        await forwarding.pool.aclose()


@rule(CLIENT, ANSWERING)
async def believes_no_false_answer(trial: Trial) -> None:
    """
    An acknowledgement that goes back, counts more than was sent, or is none, ends the connection.

    Whoever answers so counts something else, or speaks another protocol. To go on would be to take for
    delivered what is not; to wait for the end of an answer that has none would fill the memory.
    """
    framing = _framing(trial)
    lies = {
        "counts more than was sent": framing.encode([b"4"]),
        "goes back": framing.encode([b"2", b"1"]),
        "is no number": framing.encode([b"thanks"]),
        "does not end": b"9" * _ENDLESS,
    }
    for what, words in lies.items():
        async with _liar(trial, words, framing) as url:
            driver = Driver(trial.client(url, timeout="1h"), Ack.APP)
            driver.may_break = True
            try:
                async with trial.patience("a client connects"):
                    await driver.connect()
            except ConnectError:
                not_applicable(
                    "says something else before its messages, such as TLS, which nobody answers here"
                )
            end = f"an acknowledgement that {what} ends the connection"
            with contextlib.suppress(DeliveryError):
                async with trial.patience(end):
                    await driver.put(numbered(3))
                await trial.until(lambda: driver.lost is not None, end)  # noqa: B023
            confirmed = driver.settled().confirmed
            require(confirmed < 3, f"{confirmed} messages are confirmed by an acknowledgement that {what}")
            await trial.within("aclose() after broken() returns", driver.client.aclose())


# -- what they share -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _sending(
    trial: Trial, count: int
) -> AsyncIterator[tuple[ListenerConsumer, Driver, asyncio.Task[None]]]:
    """Send messages at APP, each alone, to a listener behind which nothing is delivered by itself."""
    consumer = await trial.listening(ack_after="delivered")
    consumer.hold()
    driver = Driver(trial.client(consumer, timeout="1h"), Ack.APP)
    driver.may_break = True
    async with trial.patience("a client connects"):
        await driver.connect()

    async def send() -> None:
        with contextlib.suppress(DeliveryError):
            for number, message in enumerate(numbered(count), 1):
                await driver.put([message])
                await trial.until(lambda: len(consumer.received) >= number, "it arrives")  # noqa: B023

    sending = asyncio.create_task(send())
    try:
        yield consumer, driver, sending
    finally:
        sending.cancel()


async def _require_confirmed(trial: Trial, driver: Driver, most: int, but: str) -> None:
    confirmed = await trial.steady(lambda: driver.settled().confirmed, _MOMENT)
    require(confirmed <= most, f"{confirmed} messages are confirmed, {but}")


def _framing(trial: Trial) -> Framing:
    """Return in which framing the client on trial reads answers."""
    subject = trial.subject
    named = subject.client_options.get("framing")
    kind = subject.transport.options
    fields = dataclasses.fields(kind) if kind is not None and dataclasses.is_dataclass(kind) else ()
    found = next((field.default for field in fields if field.name == "framing"), None)
    with contextlib.suppress(ConfigurationError):
        if named is not None:
            found = framing_named(named)
    if not isinstance(found, Framing):
        not_applicable("has a framing of its own, in which the suite cannot answer")
    return found


@contextlib.asynccontextmanager
async def _liar(trial: Trial, words: bytes, framing: Framing) -> AsyncIterator[str]:
    """Yield the URL of a consumer that answers *words* to the first message, and nothing to anything else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            data = await reader.read(_ENDLESS)
            wire = framing.decoder(_ENDLESS).feed(data, len(data))
            if framing.split(wire)[:1] == numbered(1):
                writer.write(words)
                await writer.drain()
                await reader.read()
        writer.close()

    url = trial.another_place()
    endpoint = Endpoint.parse(url)
    try:
        host, _ = endpoint.host, endpoint.port
    except ConfigurationError:
        path = endpoint.path
        path = f"\0{path[1:]}" if path.startswith("@") else path
        server = await asyncio.start_unix_server(serve, path)
    else:
        server = await asyncio.start_server(serve, host, 0)
        url = endpoint.at(*server.sockets[0].getsockname()[:2]).raw
    async with server:
        yield url
