"""That a message arrives as it was sent: whole, alone, and with every byte; or is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from producer_pool.contract.ports import Client
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected
from producer_pool.model.outcomes import ForwardResult
from producer_pool.testing.between import between
from producer_pool.testing.forwarding import Forwarding
from producer_pool.testing.messages import numbered, shown
from producer_pool.testing.patience import call_after
from producer_pool.testing.proxy_faults import Faults
from producer_pool.testing.rule import CLIENT, CONSUMER, LISTENER, RuleBroken, not_applicable, require, rule
from producer_pool.testing.trial import Trial

__all__ = [
    "carries_64_kib",
    "carries_a_mebibyte",
    "carries_empty_messages",
    "finds_messages_in_every_split",
    "keeps_boundaries",
    "passes_on_no_half_message",
    "refuses_too_long_messages",
    "rejects_only_the_misfit",
    "sends_batches_as_they_are",
]

_NASTY: Final = (
    *(b"\n", b"\r\n", b"\r", b"\n\n", b"a\nb", b"a\r\nb", b"line feed\n", b"both\r\n", b"\nline feed"),
    *(b" ", b"  spaces  ", b"\ttab\t", b"\0", b"NUL\0", b"\0NUL", b"a\0b", b"\x04", b"\x1a", b"\x1b[0m"),
    *(b"\xff", b"\xff\xfe", b"\x80", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xef\xbb\xbfBOM"),
    *("ü".encode(), "日本語".encode(), "e\u0301".encode(), "\u2028".encode(), "\U0001f600".encode()),
    *(b"5 hello", b"0 ", b"12 3", b"\0\0\0\5hello", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x81\5hello", b"."),
    *(b'{"a": 1}', b"'; --", b"%s %d {}", b"http://x/?a=b&c#d", b"GET / HTTP/1.1", b"=?utf-8?q?=FC?="),
)
"""What some protocol somewhere takes for its own: ends of lines, frames of others, bytes that are no text."""
_TOGETHER: Final = 40
"""Messages that are on their way at once: few enough for the buffer of a socket that takes datagrams."""
_PAUSE: Final = 0.05
"""Seconds in which nothing is read, so that all buffers fill; should that take longer, less is asked."""


@rule(CONSUMER)
async def keeps_boundaries(trial: Trial) -> None:
    """
    Every message arrives as it was sent, or is Rejected: never altered, split, or merged with others.

    The messages are random bytes, and those that look like the ends or beginnings of others. What the
    protocol cannot carry has to be refused before it is sent, with Rejected: a changed message is worse
    than a missing one, because nobody notices. Nothing may be stripped, escaped or replaced.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer)
    chance = trial.random
    messages = [b"plain", *_NASTY, *(chance.randbytes(chance.choice((1, 2, 3, 17, 300))) for _ in range(80))]
    messages += [bytes(chance.choices(range(32, 127), k=chance.randrange(300))) for _ in range(80)]
    chance.shuffle(messages)
    carried: list[bytes] = []
    while messages:
        some = [messages.pop() for _ in range(min(chance.randrange(1, _TOGETHER), len(messages)))]
        carried += await _carried(forwarding, some)
        await trial.arrives(consumer, carried)
    require(b"plain" in carried, "not even a message of five letters is carried")
    # Behind it nothing can be on its way any more, such as the second half of one that was split.
    carried += await _carried(forwarding, [b"the last one"])
    await trial.arrives(consumer, carried)


@rule(CONSUMER)
async def carries_empty_messages(trial: Trial) -> None:
    """
    An empty message arrives as an empty message, or is Rejected.

    It is a message like others: programs send them as signs of life. Look for code that takes it for
    "nothing there", such as ``if message:``.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer)
    before, after = numbered(2)
    carried = await _carried(forwarding, [before, b"", b"", after])
    carried += await _carried(forwarding, [b""])
    require({before, after} <= set(carried), "the messages beside the empty one were not carried")
    await trial.arrives(consumer, carried)


@rule(CONSUMER)
async def carries_64_kib(trial: Trial) -> None:
    """
    A message of 64 KiB arrives unchanged, unless the declared limit is lower; then it is Rejected.

    That is where simple readers give up: ``asyncio.StreamReader.readline()`` refuses it by default, and
    a single recv() returns a part.
    """
    await _carries(trial, 64 * 1024)


@rule(CONSUMER)
async def carries_a_mebibyte(trial: Trial) -> None:
    """
    A message of 1 MiB arrives unchanged, unless the declared limit is lower; then it is Rejected.

    No socket takes so much at once: what send() left has to be kept, and sent later. A transport with
    a limit declares it, as ``Transport.max_message`` or as ``max_message`` of its clients.
    """
    await _carries(trial, 1024 * 1024, pausing=True)


@rule(CONSUMER)
async def refuses_too_long_messages(trial: Trial) -> None:
    """
    The longest message arrives; one byte more is Rejected, and nothing else suffers.

    Set ``Client.max_message`` to what the protocol can carry, and a pool refuses what is longer before
    it gets to the client. Where the other side has to find out, it can only close the connection.
    """
    consumer = await trial.consumer()
    if trial.has_option("max-message"):
        limit: int | None = 1024
        forwarding = await trial.forwarding(consumer, max_message="1KiB")
    else:
        limit = trial.longest(trial.client(consumer))
        forwarding = await trial.forwarding(consumer)
    if limit is None or limit > 16 * 1024 * 1024:
        not_applicable("declares no limit, and has no option max-message")
    size = min(limit, 100)
    fits, other, after = numbered(1, size=limit)[0], *numbered(2, size=size, start=1)
    too_long = numbered(1, size=limit + 1, start=3)[0]
    results = await forwarding.forward([fits, too_long, other, after])
    allowed = f"a message of exactly {limit} bytes, which are allowed, was not carried"
    require(results[0].ok, f"{allowed}: {_why(results[0])}")
    _require_only(results, 1, f"a message of {limit + 1} bytes, where {limit} are allowed,")
    await trial.arrives(consumer, [fits, other, after])
    await _require_one_connection(forwarding, "a message was too long")


@rule(CONSUMER)
async def rejects_only_the_misfit(trial: Trial) -> None:
    """
    Among others, a message that cannot be carried is Rejected alone: the others arrive.

    Rejected settles one message, and never the connection, or the batch around it. Raise it from
    send(), or return it from misfits(); any other error says that the consumer is out of reach.
    """
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer)
    misfit = None
    wanted: list[bytes] = []
    for candidate in (b"a\nb", b"a\0b", b"\xff", b""):
        carried = await _carried(forwarding, [candidate])
        wanted += carried
        if not carried:
            misfit = candidate
            break
    if misfit is None:
        limit = trial.longest(trial.client(consumer))
        if limit is None or limit > 16 * 1024 * 1024:
            not_applicable("carries every message that was tried")
        misfit = numbered(1, size=limit + 1)[0]
    good = numbered(10, size=32)
    results = await forwarding.forward([*good[:5], misfit, *good[5:]])
    _require_only(results, 5, f"{shown(misfit)}, which cannot be carried,")
    await trial.arrives(consumer, [*wanted, *good])
    await _require_one_connection(forwarding, "a message was rejected")


@rule(CONSUMER)
async def sends_batches_as_they_are(trial: Trial) -> None:
    """
    send_batch() begins where it is told to, says at which message it stopped, and changes nothing.

    Behind a message that was Rejected, a producer goes on where ``error.index`` says: if that is not set,
    or counted from another place, messages are doubled or lost. A batch is shared by all producers, and
    its list of messages, too: to change it in misfits() or send_batch() changes what others send.
    """
    consumer = await trial.consumer()
    (first,) = numbered(1)
    client = await trial.reached(consumer, first)
    messages = [*numbered(4, start=1), b"a\nb", b"", *numbered(3, start=5), b"a\0b", b"\xff", b"end"]
    whole = Batch.of(messages)
    misfits = client.misfits(whole)
    batch = whole.select(index for index in range(len(whole)) if index not in misfits)
    fitting = list(batch.messages)
    start, sent = 2, [first]
    async with trial.patience("send_batch() ends"):
        while start < len(fitting):
            try:
                await client.send_batch(batch, start)
            except Rejected as error:
                stopped = error.index
                if type(stopped) is not int or not start <= stopped < len(fitting):
                    raise RuleBroken(
                        f"send_batch() of messages {start} to {len(fitting) - 1} raised Rejected with "
                        f"index={stopped}: {error}"
                    ) from error
            else:
                stopped = len(fitting)
            sent += fitting[start:stopped]
            start = stopped + 1
    same = list(whole.messages) == messages and list(batch.messages) == fitting
    require(same, "the list of a batch's messages is another after misfits() and send_batch()")
    await trial.arrives(consumer, sent)


@rule(CLIENT, LISTENER)
async def finds_messages_in_every_split(trial: Trial) -> None:
    """
    A listener finds the messages in a stream however the network cut it, byte by byte if need be.

    What one recv() returns may be a part of a message, or several, and may end between two bytes that
    belong together. So keep what is not finished, and look again when there is more. Here everything
    goes through a proxy that cuts it, from the first byte of the connection on.
    """
    consumer = await trial.listening()
    messages = numbered(9, size=18)
    async with between(trial, consumer) as proxy:
        client = trial.client(proxy.url)
        proxy.forth.faults = Faults(slice=1)
        await trial.within("it connects", trial.reach(client))
        await _send_all(trial, client, messages)
        await trial.arrives(consumer, messages)
        for turn in range(1, 12):
            proxy.forth.faults = Faults(slice=trial.random.randrange(2, 60))
            more = numbered(9, size=trial.random.randrange(18, 90), start=9 * turn)
            await _send_all(trial, client, more)
            messages += more
            await trial.arrives(consumer, messages)


@rule(CLIENT, LISTENER)
async def passes_on_no_half_message(trial: Trial) -> None:
    """
    When a connection ends inside a message, whether broken off or closed, no part of it is passed on.

    The beginning of a message is not that message: the consumer would take it for a whole one. Throw
    it away, and count it in ``stats.tails``; its sender knows that it was not delivered, and sends it
    again.
    """
    consumer = await trial.listening()
    sent: list[bytes] = []

    async def last_arrives(client: Client) -> None:
        await trial.within("it connects", trial.reach(client))
        sent.extend(numbered(1, start=len(sent)))
        await _send_all(trial, client, sent[-1:])
        await trial.until(lambda: sent[-1] in consumer.received, "a message arrives that was not cut")

    async with between(trial, consumer) as proxy:
        for turn in range(12):
            client = trial.client(proxy.url)
            await last_arrives(client)
            cut = trial.random.randrange(1, 400)
            proxy.forth.faults = Faults(slice=1, reset_after=cut if turn % 2 else None)
            through = proxy.forth.passed + cut
            sent += numbered(2, size=400, start=len(sent))
            with contextlib.suppress(DeliveryError):
                await _send_all(trial, client, sent[-2:])
            async with trial.patience("what was sent goes through the proxy"):
                while proxy.forth.passed < through:  # noqa: ASYNC110 - not a byte more
                    await asyncio.sleep(0)
            proxy.forth.half_close()
            proxy.forth.faults = Faults()
            await trial.within("aclose() returns", client.aclose())
    last = trial.client(consumer)
    await last_arrives(last)
    await trial.within("aclose() returns", last.aclose())
    with contextlib.suppress(RuleBroken):
        await trial.until(lambda: not consumer.connections, "the connections end")
    parts = sorted(set(consumer.received) - set(sent))
    require(not parts, f"{len(parts)} parts of messages were passed on, such as {shown(b''.join(parts[:1]))}")


# -- what they share -------------------------------------------------------------------------------


async def _send_all(trial: Trial, client: Client, messages: Sequence[bytes]) -> None:
    async with trial.patience("messages are sent through a proxy"):
        for message in messages:
            await client.send(message)


async def _carried(forwarding: Forwarding, messages: Sequence[bytes]) -> list[bytes]:
    """Forward *messages* together, and return those that were not Rejected."""
    carried = []
    for message, result in zip(messages, await forwarding.forward(messages), strict=True):
        if result.ok:
            carried.append(message)
        elif not isinstance(result.error, Rejected):
            raise RuleBroken(f"{shown(message)} is neither carried nor Rejected: {_why(result)}")
    return carried


async def _carries(trial: Trial, size: int, *, pausing: bool = False) -> None:
    """Send a message of *size* bytes; with *pausing*, several, while the consumer does not read."""
    consumer = await trial.consumer()
    forwarding = await trial.forwarding(consumer)
    limit = trial.longest(trial.client(consumer))
    before, after = numbered(2, size=18)
    large = numbered(1, size=size, start=2)
    if limit is not None and limit < size:
        result = (await forwarding.forward([before, *large, after]))[1]
        refused = isinstance(result.error, Rejected)
        require(refused, f"{size} bytes, where {limit} are allowed, were not Rejected: {_why(result)}")
        await trial.arrives(consumer, [before, after])
        return
    await forwarding.forward([before])
    if pausing:
        large += numbered(7, size=size, start=3)
        await trial.arrives(consumer, [before])
        consumer.pause()
        call_after(_PAUSE, consumer.resume)
    for result in await forwarding.forward([*large, after]):
        require(result.ok, f"a message of {size} bytes was not carried: {_why(result)}")
    await trial.arrives(consumer, [before, *large, after])


def _require_only(results: Sequence[ForwardResult], index: int, what: str) -> None:
    """Require that of all *results* only that of message *index* is Rejected."""
    for number, result in enumerate(results):
        if number != index:
            require(result.ok, f"{what} took another message with it: {_why(result)}")
    refused = isinstance(results[index].error, Rejected)
    require(refused, f"{what} was not Rejected: {_why(results[index])}")


async def _require_one_connection(forwarding: Forwarding, after: str) -> None:
    connects = (await forwarding.stats()).connects
    require(connects == 1, f"the connection was lost and made anew when {after}")


def _why(result: ForwardResult) -> str:
    error = result.error
    return f"{result.outcome.value}, {type(error).__name__}: {error}" if error else result.outcome.value
