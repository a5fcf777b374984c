"""The datagram client where nobody listens: what comes back does not count, and is sent again."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.contract.ports import Client
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConnectError
from producer_pool.model.outcomes import Outcome
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.stats import State
from producer_pool.toolkit.datagrams.client import came_back
from support.datagrams import Mailbox, Sending, SpyDialer, UnixDialer, deaf, udp, vacant
from support.descriptors import OUT_OF_FILES, out_of_files
from support.streams import until


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def mailbox(request: pytest.FixtureRequest) -> Iterator[Mailbox]:
    with Mailbox(request.param, shared=True) as made, deaf(made.port, request.param):
        yield made


# -- no socket -------------------------------------------------------------------------------------


async def test_no_descriptors(mailbox: Mailbox, tmp_path: Path) -> None:
    """It cannot connect for now, and says what to do about that, whatever its dialer makes of it."""
    for dialer in (udp(mailbox.endpoint), UnixDialer(tmp_path / "box")):
        with out_of_files(), pytest.raises(ConnectError, match=OUT_OF_FILES):
            await Sending(dialer).connect()


# -- nobody listens --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("messages", [[b"one"], [b"one", b"two!", b"three"], [b"same"] * 200, [b"", b""]])
async def test_nobody_listens(family: int, messages: list[bytes]) -> None:
    """Nothing counts as written, however many there are and however they go out, and the error says why."""
    with vacant(family) as endpoint:
        async with Sending(udp(endpoint)) as sending:
            assert sending.start([Batch.of(messages)]) in (0, 1)
            assert sending.client.settled() == (0, 0)
            assert sending.start([Batch.of(messages)]) == 0
            await until(lambda: sending.signals.errors)
            (error,) = sending.signals.errors

            assert isinstance(error, ConnectError)
            assert str(error) == f"{endpoint}: connection refused; is it running?"
            assert sending.client.settled() == (0, 0)


async def test_consumer_that_goes_away(mailbox: Mailbox) -> None:
    """What it had got counts as written, and nothing behind that."""
    async with Sending(udp(mailbox.endpoint)) as sending:
        sending.start([Batch.of([b"one", b"two"])])
        await until(lambda: len(mailbox.read()) == 2)
        mailbox.close()
        sending.start([Batch.of([b"three", b"four!"])])
        await until(lambda: sending.signals.errors)

        assert sending.client.settled() == (2, 2)
        await sending.client.aclose()
        assert sending.client.settled() == (2, 2)


# -- the connection after that ---------------------------------------------------------------------


@pytest.mark.usefixtures("unhurried")
async def test_first_message_goes_alone(mailbox: Mailbox) -> None:
    """After datagrams came back, one goes ahead; the others follow, and it counts, when it is not back."""
    endpoint, port = mailbox.endpoint, mailbox.port
    mailbox.close()
    sending = Sending(udp(endpoint))
    await sending.connect()
    batch = Batch.of([b"one", b"two", b"three"])
    sending.start([batch])
    await until(lambda: sending.signals.errors)
    with Mailbox(mailbox.socket.family, port=port, shared=True) as again:
        await sending.connect()
        assert sending.start([batch]) == 1
        assert sending.client.settled() == (0, 0)
        await until(lambda: again.read())
        alone = list(again.letters)
        await until(lambda: len(again.read()) == 3)

        assert alone == [b"one"]
        assert again.letters == [b"one", b"two", b"three"]
        await until(lambda: sending.signals.writes)
        assert sending.client.settled() == (3, 3)
        await sending.client.aclose()
        await sending.connect()
        sending.start([batch])
        assert sending.client.settled() == (3, 3)
        await sending.client.aclose()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("theirs,counts", [(b"mine", 0), (b"mi", 0), (b"other", 1)])
async def test_datagram_that_comes_back_later(theirs: bytes, counts: int) -> None:
    """While the first goes alone, it does not count if it is the one that comes back, and else it does."""
    with vacant() as endpoint:
        dialer = SpyDialer(endpoint)
        sending = Sending(dialer)
        await sending.connect()
        sending.start([Batch.of([b"x"])])
        await until(lambda: sending.signals.errors)
        with Mailbox(port=endpoint.port, shared=True):
            await sending.connect()
            sending.start([Batch.of([b"mine", b"not sent"])])
        assert dialer.shared is not None
        dialer.shared.send(theirs)
        await until(lambda: sending.signals.errors)

    assert sending.client.settled() == (counts, counts)
    await sending.client.aclose()
    dialer.close()


async def test_datagram_that_comes_back_unasked() -> None:
    """It breaks the connection though nobody sends, and what was settled stays so."""
    with Mailbox(shared=True) as mailbox, deaf(mailbox.port):
        dialer = SpyDialer(mailbox.endpoint)
        sending = Sending(dialer)
        await sending.connect()
        sending.start([Batch.of([b"one"])])
        assert sending.client.settled() == (1, 1)
        mailbox.close()
        assert dialer.shared is not None
        dialer.shared.send(b"one")
        await until(lambda: sending.signals.errors)

    assert sending.client.settled() == (1, 1)
    await sending.client.aclose()
    dialer.close()


def test_what_came_back() -> None:
    """All from the first message on of which the beginning came back; of those joined, it is the first."""
    messages = [b"zero", b"one", b"two", b"three"]

    assert came_back(messages, 0, 4, [b"two"]) == 2
    assert came_back(messages, 0, 4, [b"tw", b"on"]) == 3
    assert came_back(messages, 0, 4, [b"twothree"]) == 2
    assert came_back(messages, 2, 4, [b"one"]) == 0
    assert came_back(messages, 0, 4, [b""]) == 4
    assert came_back([b"", b"one"], 0, 2, [b"one"]) == 1
    assert came_back(messages, 1, 3, []) == 0
    assert came_back(messages, 1, 3, None) == 1
    assert came_back(messages, 1, 1, None) == 0


# -- unix sockets, whose errors are their own ------------------------------------------------------


async def test_consumer_of_a_unix_socket_that_goes_away(tmp_path: Path) -> None:
    """The message whose send fails was not sent; those before it were; connecting finds nobody."""
    with Mailbox(path=tmp_path / "box") as mailbox:
        sending = Sending(UnixDialer(tmp_path / "box"))
        await sending.connect()
        sending.start([Batch.of([b"one"])])
        assert mailbox.read() == [b"one"]
    assert sending.start([Batch.of([b"two"])]) == 0
    await until(lambda: sending.signals.errors)
    (error,) = sending.signals.errors

    assert isinstance(error, ConnectError)
    assert sending.client.settled() == (1, 1)
    with pytest.raises(ConnectError, match="connection refused"):
        await sending.connect()


async def test_firewall_of_this_machine(tmp_path: Path) -> None:
    """An error of another kind breaks the connection, too, with a hint."""
    with Mailbox(path=tmp_path / "box"):
        async with Sending(UnixDialer(tmp_path / "box", faults=[errno.EPERM])) as sending:
            sending.start([Batch.of([b"one"])])
            await until(lambda: sending.signals.errors)

            assert "operation not permitted; does a firewall" in str(sending.signals.errors[0])


async def test_break_that_nobody_hears(tmp_path: Path) -> None:
    """A client that is closed in between says nothing any more."""
    with vacant() as endpoint:
        async with Sending(udp(endpoint)) as sending:
            sending.start([Batch.of([b"one"])])
            await sending.client.aclose()
            for _ in range(3):
                await asyncio.sleep(0)

            assert not sending.signals.errors


# -- with a producer -------------------------------------------------------------------------------


class NaiveClient(Client):
    """Takes the error for one of the message whose send raised it, as one does without thinking."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._where = (endpoint.host, endpoint.port)

    async def connect(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(self._where)

    async def send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except ConnectionRefusedError as error:
            raise ConnectError("refused") from error

    async def aclose(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("naive", [False, True], ids=["ours", "naive"])
async def test_error_that_belongs_to_an_earlier_message(naive: bool) -> None:
    """The message that found nobody is sent again; the naive client says that it was delivered."""
    with vacant() as endpoint:
        client = NaiveClient(endpoint) if naive else Sending(udp(endpoint)).client
        async with Producer("udp", client, DeliveryPolicy.relay()) as producer:
            first = asyncio.ensure_future(producer.forward(b"one"))
            await until(lambda: producer.outbox.stats.delivered or producer.outbox.stats.breaks)
            delivered_to_nobody = producer.outbox.stats.delivered
            with Mailbox(port=endpoint.port, shared=True) as mailbox:
                second = await producer.forward(b"two")
                await until(lambda: b"two" in mailbox.read())

                assert (await first).ok
                assert second.ok
                assert mailbox.letters == ([b"two"] if naive else [b"one", b"two"])
                assert delivered_to_nobody == naive


async def test_producer_whose_consumer_comes_up_late() -> None:
    """It is down until then, tries again with growing pauses, and then delivers everything once, in order."""
    messages = [b"%d" % number for number in range(3000)]
    with vacant() as endpoint:
        async with Producer("udp", Sending(udp(endpoint)).client, DeliveryPolicy.relay()) as producer:
            results = [asyncio.ensure_future(producer.forward(message)) for message in messages]
            await until(lambda: producer.outbox.stats.breaks >= 3)
            assert producer.outbox.stats.delivered == 0
            await until(lambda: producer.health().state is State.DOWN)
            with Mailbox(port=endpoint.port, shared=True) as mailbox:
                await until(lambda: len(mailbox.read()) == 3000)
                outcomes = [(await result).outcome for result in results]

                assert mailbox.letters == messages
            assert set(outcomes) == {Outcome.DELIVERED}
            assert producer.outbox.stats.breaks < 50


async def test_direct_producer_whose_consumer_is_down() -> None:
    """Its message fails with the reason; the next one at once, until it is time to try again."""
    with vacant() as endpoint:
        async with Producer("udp", Sending(udp(endpoint)).client) as producer:
            first = await producer.forward(b"one")
            second = await producer.forward(b"two")

            assert isinstance(first.error, ConnectError)
            assert (first.outcome, first.ack) == (Outcome.FAILED, None)
            assert second.error == first.error or isinstance(second.error, ConnectError)
            assert producer.health().state is State.DOWN
            assert producer.outbox.stats.delivered == 0


async def test_refused_message_in_a_producer(tmp_path: Path) -> None:
    """It is FAILED alone; its neighbours are delivered."""
    with Mailbox(path=tmp_path / "box") as mailbox:
        client = Sending(UnixDialer(tmp_path / "box", send_buffer=4096)).client
        async with Producer("unix", client) as producer:
            results = await asyncio.gather(
                *(producer.forward(message) for message in (b"one", b"x" * 100_000, b"two"))
            )

            assert [result.outcome.name for result in results] == ["DELIVERED", "FAILED", "DELIVERED"]
            assert "the system sends no" in str(results[1].error)
            assert mailbox.read() == [b"one", b"two"]
