"""The websocket plugin: both ends of both schemes, from the URL to the message."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import producer_pool_websocket
from producer_pool.contract.options import describe
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError, ConnectError, InvalidEndpoint, InvalidOption
from producer_pool.model.outcomes import Ack
from support.certificates import Authority, Identity
from support.ends import make_client, make_listener, many_talk, said_by
from support.streams import FakeIntake, FakeSignals, until
from support.webs import TRANSPORTS

MESSAGES = [b"one", "zwö".encode(), b"", b"new\nline and \0", b"x" * 65536, b"y" * (1 << 20)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def here(authority: Authority) -> Identity:
    return authority.issue()


def test_levels_of_the_platform() -> None:
    """PEER is everywhere; KERNEL is where the kernel tells it."""
    expected = {Ack.WRITTEN, Ack.PEER} | ({Ack.KERNEL} if sys.platform == "linux" else set())

    assert all(transport.acks == expected for transport in TRANSPORTS.values())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
@pytest.mark.parametrize("query", ["", "frames=binary", "compression=deflate"])
async def test_both_ends(host: str, query: str) -> None:
    """Messages arrive as they were sent, in every way, over IPv4, IPv6 and a name."""
    listener = make_listener(f"ws://{host}:0/in?{query if query.startswith('c') else ''}")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"ws://{host}:{endpoint.port}/in?{query}")
    client.ack = Ack.PEER
    async with client:
        await client.send_batch(Batch.of(MESSAGES))
        assert intake.messages == MESSAGES
    await listener.aclose()

    assert client.address == f"ws://{host}:{endpoint.port}"


@pytest.mark.parametrize("level", sorted(TRANSPORTS["wss"].acks), ids=lambda level: level.label)
async def test_tls_both_ends(authority: Authority, here: Identity, level: Ack) -> None:
    """With certificates on both sides, and each level; sent in one batch and in many."""
    listener = make_listener(f"wss://localhost:0/in?{here.query}&tls-ca={authority.file}")
    intake = FakeIntake()
    endpoint = await listener.start(intake)
    client = make_client(f"wss://localhost:{endpoint.port}/in?tls-ca={authority.file}&{here.query}")
    signals = FakeSignals(level)
    client.attach(signals)
    await client.connect()
    batches = [Batch.of(MESSAGES), *[Batch.of([b"%d" % number]) for number in range(500)]]
    done = 0
    while done < len(batches):
        done += client.start(batches[done : done + 7])
        await asyncio.sleep(0)
    count = len(MESSAGES) + 500
    await until(lambda: client.settled() == (count, count))
    await until(lambda: len(intake.messages) == count)
    await client.aclose()
    await listener.aclose()

    assert intake.messages == [message for batch in batches for message in batch.messages]
    assert (listener.stats.evicted, listener.stats.tails) == (0, 0)


async def test_plan_of_a_url() -> None:
    """A relay's best level is that of a pong."""
    plan = ClientFactory().plan("ws://127.0.0.1:1/in?ack=best&buffer=1MiB")

    assert plan.policy.ack is Ack.PEER


async def test_remote_listener_without_a_word(here: Identity, tmp_path: Path) -> None:
    """The error says what to write; with it, with TLS, or with a token, the listener starts."""
    (tmp_path / "token").write_text("abc\n")
    with pytest.raises(ConfigurationError, match="allow-remote=yes"):
        await make_listener("ws://0.0.0.0:0").start(FakeIntake())
    for url in (
        "ws://0.0.0.0:0?allow-remote=yes",
        f"ws://0.0.0.0:0?token-file={tmp_path / 'token'}",
        f"wss://0.0.0.0:0?{here.query}",
    ):
        listener = make_listener(url)
        await listener.start(FakeIntake())
        await listener.aclose()


async def test_token_both_ends(tmp_path: Path) -> None:
    """The same file opens on both sides; another token does not, and none is shown."""
    for name in ("right", "wrong"):
        (tmp_path / name).write_text(f"the-{name}-secret\n")
    listener = make_listener(f"ws://127.0.0.1:0?token-file={tmp_path / 'right'}")
    endpoint = await listener.start(FakeIntake())
    url = f"ws://127.0.0.1:{endpoint.port}"
    async with make_client(f"{url}?token-file={tmp_path / 'right'}") as client:
        await client.send(b"hello")
    for query in ("", f"?token-file={tmp_path / 'wrong'}"):
        with pytest.raises(ConnectError, match="401 Unauthorized: it asks who we are") as caught:
            await make_client(f"{url}{query}").connect()
        assert "secret" not in str(caught.value)
    await listener.aclose()


async def test_token_that_is_changed(tmp_path: Path) -> None:
    """A client reads it anew for each connection: a new one needs no restart, and a lost one is an error."""
    (tmp_path / "ours").write_text("old")
    (tmp_path / "theirs").write_text("new")
    listener = make_listener(f"ws://127.0.0.1:0?token-file={tmp_path / 'theirs'}")
    endpoint = await listener.start(FakeIntake())
    client = make_client(f"ws://127.0.0.1:{endpoint.port}?token-file={tmp_path / 'ours'}")
    with pytest.raises(ConnectError, match="401"):
        await client.connect()
    (tmp_path / "ours").write_text("new")
    await client.send(b"hello")
    await client.aclose()
    (tmp_path / "ours").unlink()
    with pytest.raises(ConnectError, match="cannot read token-file"):
        await client.connect()
    await listener.aclose()


@pytest.mark.parametrize(
    "make,url,wrong",
    [
        (make_client, "ws://here", "names no port"),
        (make_client, "ws://here:0", "nobody is at port 0; name the port at which the consumer listens"),
        (make_client, "ws://:1", "names no host"),
        (make_listener, "ws://user:secret@here:1", "there is no user here; token-file="),
        (make_listener, "ws://here", "names no port"),
    ],
)
def test_urls_that_say_too_much_or_too_little(make: Any, url: str, wrong: str) -> None:
    """Each is an error that says so, and keeps the password to itself."""
    with pytest.raises(InvalidEndpoint, match=wrong) as caught:
        make(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "make,url,wrong",
    [
        (make_client, "ws://here:1?tls-ca=x", "ws has no option tls-ca"),
        (make_client, "ws://here:1?framing=lines", "ws has no option framing"),
        (make_client, "ws://here:1?frames=words", "'words' is none of text, binary"),
        (make_client, "ws://here:1?token-file=/nowhere", "cannot read token-file"),
        (make_client, "wss://here:1?tls-cert=x", "tls-cert needs tls-key"),
        (make_listener, "ws://here:1?tail=deliver", "ws has no option tail"),
        (make_listener, "ws://here:1?origin=a%20b", "origin: 'a b' is none"),
        (make_listener, "ws://here:1?subprotocol=a%20b", "subprotocol: 'a b' is no name of one"),
        (make_listener, "wss://here:1", "needs tls-cert and tls-key"),
    ],
)
def test_options_that_are_wrong(make: Any, url: str, wrong: str) -> None:
    """Each is an error that names the option."""
    with pytest.raises(InvalidOption, match=wrong):
        make(url)


def test_secrets_in_options_are_declared() -> None:
    """What may hold one is hidden wherever the URL is shown; names of files hold none."""
    secret = {option.name for option in describe(producer_pool_websocket.ClientOptions) if option.secret}

    assert secret == {"query"}


async def test_many_clients_and_one_listener() -> None:
    """Each client's messages arrive in order, all at once."""
    intake = await many_talk("ws://127.0.0.1:0", 50)

    for number in range(50):
        mine = [message for message in intake.messages if message.startswith(b"%d " % number)]
        assert mine == said_by(number)
