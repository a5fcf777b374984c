"""The udp plugin: both ends, from the URL to the message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import producer_pool_udp
from producer_pool.contract.options import describe
from producer_pool.contract.transport import Transport
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, ConnectError, InvalidEndpoint, InvalidOption
from producer_pool.model.outcomes import Ack
from support.datagrams import Mailbox, nobody
from support.ends import make_client, make_listener, many_talk
from support.streams import FakeIntake, until

(TRANSPORT,) = producer_pool_udp.producer_pool_transports()


def test_guarantees() -> None:
    """No order, nothing above WRITTEN, every byte string up to the longest datagram."""
    expected = Transport(
        schemes=("udp",),
        client=TRANSPORT.client,
        listener=TRANSPORT.listener,
        options=producer_pool_udp.ClientOptions,
        listener_options=producer_pool_udp.ListenerOptions,
        acks={Ack.WRITTEN},
        ordered=False,
        binary_safe=True,
        max_message=65_507,
        loopback="udp://127.0.0.1:0?strip=no",
    )

    assert expected == TRANSPORT
    assert make_client("udp://here:1").acks == TRANSPORT.acks


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_both_ends(host: str) -> None:
    """Messages arrive as they were sent, over IPv4, IPv6 and a name, and are told where they come from."""
    listener = make_listener(f"udp://{host}:0?strip=no")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"udp://{host}:{endpoint.port}")
    messages = [b"one", b"", b"\xff\0two\n", b"x" * 65_507]
    async with client:
        await client.send_batch(Batch.of(messages))
        await until(lambda: len(intake.messages) == 4)
    await listener.aclose()

    assert sorted(intake.messages) == sorted(messages)
    assert client.address == f"udp://{host}:{endpoint.port}"
    assert intake.batches[0].origin.startswith("udp://")


async def test_loopback_url_is_where_both_ends_meet() -> None:
    """The URL that the transport names for tests is one, at which nothing is altered."""
    listener = make_listener(TRANSPORT.loopback)
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    async with make_client(f"udp://127.0.0.1:{endpoint.port}") as client:
        await client.send(b"hello\n")
        await until(lambda: intake.messages)
    await listener.aclose()

    assert intake.messages == [b"hello\n"]


async def test_options_reach_the_sockets() -> None:
    """What the URL of each end says is what that end does."""
    listener = make_listener("udp://127.0.0.1:0?max-message=3&strip=no")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"udp://127.0.0.1:{endpoint.port}?max-message=4")
    async with client:
        await client.send_batch(Batch.of([b"12\n", b"1234"]))
        await until(lambda: listener.stats.dropped == 1 and intake.messages)
    await listener.aclose()

    assert list(client.misfits(Batch.of([b"1234", b"12345"]))) == [1]
    assert intake.messages == [b"12\n"]


async def test_remote_listener_without_a_word() -> None:
    """The error says what to write; with it, the listener starts."""
    with pytest.raises(ConfigurationError, match="allow-remote=yes"):
        await make_listener("udp://0.0.0.0:0").start(FakeIntake())
    listener = make_listener("udp://0.0.0.0:0?allow-remote=yes")
    await listener.start(FakeIntake())
    await listener.aclose()


async def test_group_by_its_url() -> None:
    """Both ends of a multicast group, each with the options that say so."""
    words = "multicast=yes&multicast-interface=lo"
    listener = make_listener(f"udp://239.255.7.8:0?{words}&allow-remote=yes")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    async with make_client(f"udp://239.255.7.8:{endpoint.port}?{words}&multicast-ttl=0") as client:
        await client.send(b"to all")
        await until(lambda: intake.messages)
    await listener.aclose()

    assert intake.messages == [b"to all"]


async def test_everybody_by_a_url() -> None:
    """A broadcast address needs its option, and then reaches whoever listens at the port."""
    with Mailbox(host="0.0.0.0") as mailbox:
        async with make_client(f"udp://127.255.255.255:{mailbox.port}?broadcast=yes") as client:
            await client.send(b"all")
            await until(mailbox.read)
        with pytest.raises(ConnectError, match="say broadcast=yes"):
            await make_client(f"udp://127.255.255.255:{mailbox.port}").send(b"all")

    assert mailbox.letters == [b"all"]


async def test_client_alone_without_a_consumer() -> None:
    """Each message is told to have failed, the first one, too, and not to have arrived."""
    client = make_client(f"{nobody()}")
    for _ in range(2):
        with pytest.raises(ConnectError, match=r"connection refused; is it running\?"):
            await client.send(b"one")
    await client.aclose()


@pytest.mark.parametrize(
    "url,wrong",
    [
        ("udp://user:secret@here:1", "no users and passwords"),
        ("udp://here:1/path", "has no path"),
        ("udp://here", "names no port"),
        ("udp://:1", "names no host"),
    ],
)
@pytest.mark.parametrize("make", [make_client, make_listener])
def test_urls_that_say_too_much_or_too_little(make: Any, url: str, wrong: str) -> None:
    """Each is an error that says so, and keeps the password to itself."""
    with pytest.raises(InvalidEndpoint, match=wrong) as caught:
        make(url)

    assert "secret" not in str(caught.value)


def test_consumer_at_port_zero() -> None:
    """Nobody can be there, which is said when the producer is added, and not at its first message."""
    with pytest.raises(
        InvalidEndpoint, match="nobody is at port 0; name the port at which the consumer listens"
    ):
        make_client("udp://127.0.0.1:0")


@pytest.mark.parametrize(
    "make,url,wrong",
    [
        (make_client, "udp://here:1?framing=lines", "udp has no option framing"),
        (make_client, "udp://here:1?allow-remote=yes", "udp has no option allow-remote"),
        (make_client, "udp://here:1?max-message=65508", "max-message must be from 1 byte to 65507"),
        (make_client, "udp://here:1?multicast-ttl=-1", "multicast-ttl must be from 0 to 255"),
        (make_client, "udp://here:1?multicast-interface=eht0", "there is no network interface 'eht0'"),
        (make_listener, "udp://here:1?broadcast=yes", "udp has no option broadcast"),
        (make_listener, "udp://here:1?max-message=0", "max-message must be at least 1 byte"),
        (make_listener, "udp://here:1?strip=maybe", "option strip"),
        (make_listener, "udp://here:1?receive-buffer=much", "option receive-buffer"),
    ],
)
def test_options_that_are_wrong(make: Any, url: str, wrong: str) -> None:
    """Each is an error that names the option."""
    with pytest.raises(InvalidOption, match=wrong):
        make(url)


def test_options_are_what_the_readme_says() -> None:
    """Every option of both ends stands in the README's tables, and no other."""
    text = (Path(__file__).parents[3] / "plugins/udp/README.md").read_text()
    for kind, title in (
        (producer_pool_udp.ClientOptions, "## Options of consumers"),
        (producer_pool_udp.ListenerOptions, "## Options of listeners"),
    ):
        table = text.partition(title)[2].partition("\n## ")[0]
        listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}

        assert listed == {option.name for option in describe(kind)}


async def test_many_clients_and_one_listener() -> None:
    """All messages arrive, and each has the origin of its sender."""
    intake = await many_talk("udp://127.0.0.1:0", 20)
    senders: dict[str, set[bytes]] = {}
    for batch in intake.batches:
        senders.setdefault(batch.origin, set()).update(message.split()[0] for message in batch.messages)

    assert len(senders) == 20
    assert {len(numbers) for numbers in senders.values()} == {1}
