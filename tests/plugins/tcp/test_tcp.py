"""The tcp plugin: both ends of both schemes, from the URL to the message."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from producer_pool.contract.options import describe
from producer_pool.contract.transport import Transport
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, InvalidEndpoint, InvalidOption
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.streams.progress import TCP_ACKS
from producer_pool_tcp import plain, secure, secure_serving, serving
from support.certificates import Authority, Identity
from support.ends import make_client, make_listener, many_talk, said_by
from support.streams import FakeIntake, FakeSignals, until

TRANSPORTS: dict[str, Transport] = {
    scheme: transport
    for module in (plain, secure, serving, secure_serving)
    for transport in module.producer_pool_transports()
    for scheme in transport.schemes
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def here(authority: Authority) -> Identity:
    return authority.issue()


def test_levels_of_the_platform() -> None:
    """Linux tells what was acknowledged, with TLS, too; a consumer that we connect to may acknowledge."""
    expected = {Ack.WRITTEN, Ack.KERNEL} if sys.platform == "linux" else {Ack.WRITTEN}

    assert {scheme: transport.acks for scheme, transport in TRANSPORTS.items()} == {
        "tcp": expected | {Ack.APP},
        "tcp+tls": expected | {Ack.APP},
        "tcp+serve": expected,
        "tcp+tls+serve": expected,
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
@pytest.mark.parametrize("framing", ["lines", "nul", "length4", "octet-counting"])
async def test_tcp_both_ends(host: str, framing: str) -> None:
    """Messages arrive as they were sent, in every framing, over IPv4, IPv6 and a name."""
    listener = make_listener(f"tcp://{host}:0?framing={framing}")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"{endpoint}")
    async with client:
        await client.send_batch(Batch.of([b"one", b"\xff two", b"three"]))
        await until(lambda: len(intake.messages) == 3)
    await listener.aclose()

    assert intake.messages == [b"one", b"\xff two", b"three"]
    assert client.address == f"tcp://{host}:{endpoint.port}"


@pytest.mark.parametrize("ack", [*sorted(TCP_ACKS), Ack.APP], ids=lambda ack: ack.label)
async def test_tls_both_ends(authority: Authority, here: Identity, ack: Ack) -> None:
    """With certificates on both sides, and the levels of plain tcp."""
    options = f"{here.query}&tls-ca={authority.file}&ack-after=received"
    listener = make_listener(f"tcp+tls://localhost:0?{options}")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"tcp+tls://localhost:{endpoint.port}?tls-ca={authority.file}&{here.query}")
    signals = FakeSignals(ack)
    client.attach(signals)
    await client.connect()
    client.start([Batch.of([b"one", b"two"])])
    await until(lambda: client.settled() == (2, 2))
    await until(lambda: intake.messages == [b"one", b"two"])
    await client.aclose()
    await listener.aclose()


def test_remote_listeners() -> None:
    """Plain tcp beyond this machine has to be allowed; with TLS it need not be."""
    assert "allow-remote" in {option.name for option in describe(plain.ListenerOptions)}
    assert "allow-remote" not in {option.name for option in describe(secure.SecureListenerOptions)}


async def test_remote_listener_without_a_word(here: Identity) -> None:
    """The error says what to write; with it, or with TLS, the listener starts."""
    with pytest.raises(ConfigurationError, match="allow-remote=yes"):
        await make_listener("tcp://0.0.0.0:0").start(FakeIntake())
    for url in ("tcp://0.0.0.0:0?allow-remote=yes", f"tcp+tls://0.0.0.0:0?{here.query}"):
        listener = make_listener(url)
        await listener.start(FakeIntake())
        await listener.aclose()


@pytest.mark.parametrize(
    "url,wrong",
    [
        ("tcp://user:secret@here:1", "no users and passwords"),
        ("tcp://here:1/path", "has no path"),
        ("tcp://here", "names no port"),
        ("tcp://:1", "names no host"),
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
        make_client("tcp://127.0.0.1:0")


@pytest.mark.parametrize(
    "make,url,wrong",
    [
        (make_client, "tcp://here:1?tls-ca=x", "tcp has no option tls-ca"),
        (make_client, "tcp://here:1?max-connections=5", "tcp has no option max-connections"),
        (make_client, "tcp://here:1?max-message=0", "max-message must be at least 1 byte"),
        (make_client, "tcp://here:1?user-timeout=-1s", "user-timeout"),
        (make_client, "tcp+tls://here:1?tls-cert=x", "tls-cert needs tls-key"),
        (make_listener, "tcp://here:1?nodelay=yes", "tcp has no option nodelay"),
        (make_listener, "tcp+tls://here:1", "needs tls-cert and tls-key"),
    ],
)
def test_options_that_are_wrong(make: Any, url: str, wrong: str) -> None:
    """Each is an error that names the option."""
    with pytest.raises(InvalidOption, match=wrong):
        make(url)


async def test_many_clients_and_one_listener() -> None:
    """Each client's messages arrive in order, all at once."""
    intake = await many_talk("tcp://127.0.0.1:0", 50)

    for number in range(50):
        mine = [message for message in intake.messages if message.startswith(b"%d " % number)]
        assert mine == said_by(number)
