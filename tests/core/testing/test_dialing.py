"""Consumers that connect: to whoever listens, again and again, and what they take then."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer_pool.testing.dialing import DialingConsumer
from producer_pool.testing.messages import numbered
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial
from support.trials import trying

PLACES = ["tcp+serve://127.0.0.1:0", "tcp+serve://[::1]:0", "unix+serve://{tmp}/x.sock"]


async def dialing(trial: Trial) -> DialingConsumer:
    """Return one that was started; the trial closes it."""
    consumer = await trial.consumer()
    assert isinstance(consumer, DialingConsumer)
    return consumer


@pytest.mark.parametrize("framing", ["lines", "nul", "length4", "octet-counting"])
@pytest.mark.parametrize("url", PLACES)
async def test_messages_are_taken(url: str, framing: str, tmp_path: Path) -> None:
    """Wherever the client listens, which the consumer has to know before; in the framing of its options."""
    messages = numbered(3)
    async with trying(tmp_path, Subject(url, client_options={"framing": framing})) as trial:
        consumer = await dialing(trial)
        client = trial.client(consumer)
        await trial.reach(client)
        for message in messages:
            await client.send(message)

        await trial.arrives(consumer, messages)
        assert consumer.connections == 1


async def test_coming_again(tmp_path: Path) -> None:
    """It comes whenever the client listens anew, and not after its end."""
    async with trying(tmp_path, Subject(PLACES[0])) as trial:
        consumer = await dialing(trial)
        client = trial.client(consumer)
        for number in range(3):
            await trial.reach(client)
            await client.send(b"%d" % number)
            await trial.arrives(consumer, [b"%d" % sent for sent in range(number + 1)])
            await client.aclose()
            await trial.until(lambda: not consumer.connections, "it notices the end")
        await consumer.crash()
        await client.connect()

        assert (consumer.comes, client.peers) == (False, 0)


async def test_pause(tmp_path: Path) -> None:
    """But for a read that had begun, nothing is read until it goes on; what had come is there then."""
    async with trying(tmp_path, Subject(PLACES[0])) as trial:
        consumer = await dialing(trial)
        client = trial.client(consumer)
        await trial.reach(client)
        await client.send(b"first")
        await trial.until(lambda: consumer.received, "the first one arrives")
        consumer.pause()
        await client.send(b"in a read that had begun")
        await trial.until(lambda: len(consumer.received) == 2, "that one arrives")
        await client.send(b"second")
        taken = await trial.steady(lambda: list(consumer.received), 0.05)

        assert b"second" not in taken
        consumer.resume()
        await trial.until(lambda: consumer.received[-1:] == [b"second"], "it reads again")
