"""One consumer, reached by its URL: from asyncio, and from plain blocking code."""

import asyncio
import time

import pytest

from producer_pool import Client, ClientFactory, ConnectError, SendError, open_client
from producer_pool.shortcuts import OpenClient
from support.consumers import RecordingConsumer
from support.ledger import Ledger
from support.waiting import eventually

MANY = 10_000
SIZE = 4096
"""So many messages of this size are more than the buffers of a consumer hold that does not read."""


async def test_client_made_from_a_url() -> None:
    """It says what it speaks and where to, connects, sends, and closes in good order."""
    ledger = Ledger()
    with RecordingConsumer() as consumer:
        client = ClientFactory.create(consumer.url)
        async with client:
            for message in ledger.write_many(10):
                await client.send(message)
        record = consumer.wait_for(10)

        assert (client.protocol_name, client.address) == ("tcp", consumer.url)
        assert ledger.judge(record).exact


@pytest.mark.parametrize("said", ["by the call", "in the URL"])
def test_timeout_is_said(said: str) -> None:
    """It means the same in either place; without it, an attempt has ten seconds."""
    if said == "by the call":
        client = ClientFactory.create("tcp://127.0.0.1:9000", timeout=3)
    else:
        client = ClientFactory.create("tcp://127.0.0.1:9000?timeout=3s")

    assert client.timeout == 3
    assert ClientFactory.create("tcp://127.0.0.1:9000").timeout == 10


async def fill(client: Client, ledger: Ledger) -> tuple[SendError, float]:
    """Send until the buffers are full; return the error of that attempt, and how long it took by the loop."""
    loop = asyncio.get_running_loop()
    for _ in range(MANY):
        began = loop.time()
        try:
            await client.send(ledger.write(size=SIZE))
        except SendError as error:
            return error, loop.time() - began
    raise AssertionError("the consumer's buffers never filled")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("said", ["by the call", "in the URL"])
async def test_consumer_accepts_and_never_reads(said: str) -> None:
    """Once its buffers are full, an attempt ends within its timeout, with an error that says so."""
    ledger = Ledger()
    with RecordingConsumer(reads=False, receive_buffer=8192) as consumer:
        url = consumer.url if said == "by the call" else f"{consumer.url}?timeout=300ms"
        client = ClientFactory.create(url, timeout=0.3 if said == "by the call" else None)
        async with client:
            error, took = await fill(client, ledger)
        consumer.read_on()
        record = consumer.wait_for(1)

        assert "reads too slowly, or not at all" in str(error)
        assert took < 3
        assert ledger.judge(record, expected=ledger.sent[: len(record)]).exact


@pytest.mark.usefixtures("unhurried")
async def test_message_cut_by_a_timeout_is_not_a_message() -> None:
    """The consumer sees a reset, and not a clean end after half a message."""
    with RecordingConsumer(reads=False, receive_buffer=8192) as consumer:
        async with ClientFactory.create(consumer.url, timeout=0.3) as client:
            await fill(client, Ledger())
        consumer.read_on()
        eventually(lambda: consumer.streams[0].ending, "the connection ends")

        assert consumer.streams[0].ending == "reset"


def test_plain_blocking_code() -> None:
    """Text and bytes arrive, and the connection ends in good order."""
    with RecordingConsumer() as consumer:
        with open_client(consumer.url) as client:
            client.send("hello")
            client.send("größer".encode())
        record = consumer.wait_for(2)

        assert record == [b"hello", "größer".encode()]


def fill_blocking(client: OpenClient, ledger: Ledger) -> tuple[SendError, float]:
    """As fill()."""
    for _ in range(MANY):
        began = time.monotonic()
        try:
            client.send(ledger.write(size=SIZE))
        except SendError as error:
            return error, time.monotonic() - began
    raise AssertionError("the consumer's buffers never filled")


def test_blocking_code_and_a_consumer_that_never_reads() -> None:
    """The call that finds the buffers full raises within its timeout."""
    ledger = Ledger()
    with RecordingConsumer(reads=False, receive_buffer=8192) as consumer:
        with open_client(consumer.url, timeout=2) as client:
            error, took = fill_blocking(client, ledger)

        assert "reads too slowly, or not at all" in str(error)
        assert took < 10  # which is what it has if nothing is said


def test_blocking_code_and_nobody_there() -> None:
    """Opening raises, with the address and what to look at."""
    with (
        RecordingConsumer(listens=False) as consumer,
        pytest.raises(ConnectError, match=rf"{consumer.port}: connection refused; is it running\?"),
        open_client(consumer.url),
    ):
        pass
