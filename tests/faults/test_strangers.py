"""Who may come in, and whom we trust: for every scheme, from its URL to the sentence of the refusal."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from producer_pool import AsyncProducerPool, ConfigurationError, ConnectError, Limits, bind_transport_async
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.errors import ProducerPoolError
from producer_pool.testing.leftovers import descriptors
from producer_pool.testing.subject import with_options
from support.certificates import Authority, Identity, self_signed
from support.matrix import Way, ways
from support.streams import BOUND, FakeIntake, until

WAYS: Final = {way.scheme: way for way in ways()}
FILES: Final = {scheme for scheme, way in WAYS.items() if "{tmp}" in way.transport.loopback}
"""Schemes whose place is a file: who may come there is said by its mode."""
SECURE: Final = {scheme for scheme in WAYS if "tls" in scheme or scheme.startswith("wss")}
OPEN: Final = set(WAYS) - FILES - SECURE
LISTENING_TLS: Final = sorted(scheme for scheme in SECURE if not WAYS[scheme].serves)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("strangers"), "stranger")


async def listens(way: Way, url: str) -> None:
    """Listen at *url* for a moment: by its listener, or by a producer that serves."""
    async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool:
        if way.serves:
            await pool.add_producer("serves", url)
            health = (await pool.check(wait=BOUND))["serves"]
            if health.last_error is not None:
                raise health.last_error
        else:
            async with await bind_transport_async(url, pool):
                pass


def everywhere(way: Way) -> str:
    """Return a URL of it at all addresses of this machine."""
    return way.transport.loopback.partition("?")[0].replace("127.0.0.1", "0.0.0.0")


def test_kinds_of_schemes() -> None:
    """None is left out below."""
    assert set(WAYS) == OPEN | SECURE | FILES
    assert {"tcp", "udp", "ws", "tcp+serve", "ws+serve"} <= OPEN
    assert {"tcp+tls", "wss"} <= SECURE
    assert all(scheme.startswith("unix") for scheme in FILES)


@pytest.mark.parametrize("scheme", sorted(OPEN))
async def test_other_machines_have_to_be_asked_for(scheme: str) -> None:
    """Without TLS, and where nobody is asked who he is: the URL has to say that this is meant."""
    way = WAYS[scheme]
    before = descriptors()
    with pytest.raises(ProducerPoolError, match="allow-remote") as refused:
        await listens(way, everywhere(way))
    assert "can be reached from other machines" in str(refused.value)
    assert isinstance(refused.value, ConfigurationError) or way.serves
    await until(lambda: descriptors() <= before, "nothing stays open")
    await listens(way, with_options(everywhere(way), {"allow-remote": "yes"}))


@pytest.mark.parametrize("scheme", sorted(SECURE))
async def test_other_machines_and_tls(scheme: str, authority: Authority) -> None:
    """With a certificate it may; without one it does not listen at all."""
    way = WAYS[scheme]
    identity = authority.issue()
    with pytest.raises(ConfigurationError, match="tls-cert"):
        await listens(way, everywhere(way))
    options = {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
    await listens(way, with_options(everywhere(way), options))


@pytest.mark.parametrize("scheme", sorted(FILES))
async def test_other_users(scheme: str, tmp_path: Path) -> None:
    """The file is for its owner alone, as long as nothing else is said."""
    way = WAYS[scheme]
    url = way.transport.loopback.partition("?")[0].replace("{tmp}", str(tmp_path))
    async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool, AsyncExitStack() as stack:
        if way.serves:
            await pool.add_producer("serves", url)
            await pool.check(wait=BOUND)
        else:
            await stack.enter_async_context(await bind_transport_async(url, pool))
        modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_socket()]

    assert modes == [0o600]


Made = Callable[[Authority, Authority], tuple[Identity, dict[str, str], dict[str, str]]]

# Cause -> the consumer's identity, its further options, the client's options; and what the error says.
CAUSES: Final[dict[str, tuple[Made, str]]] = {
    "wrong name": (
        lambda ours, _: (ours.issue("other.test"), {}, {"tls-ca": str(ours.file)}),
        "its certificate is not for 127.0.0.1; tls-name says which name to expect",
    ),
    "expired": (
        lambda ours, _: (ours.issue("127.0.0.1", expired=True), {}, {"tls-ca": str(ours.file)}),
        "its certificate has expired",
    ),
    "self-signed": (
        lambda ours, _: (self_signed(ours.file.parent), {}, {"tls-ca": str(ours.file)}),
        "its certificate is self-signed; name it, or its CA, with tls-ca",
    ),
    "of nobody known": (
        lambda ours, theirs: (theirs.issue(), {}, {"tls-ca": str(ours.file)}),
        "comes from a CA that is not trusted here; name the CA's file with tls-ca",
    ),
    "no client certificate": (
        lambda ours, _: (ours.issue(), {"tls-ca": str(ours.file)}, {"tls-ca": str(ours.file)}),
        "client certificate",
    ),
    "a stranger's client certificate": (
        lambda ours, theirs: (ours.issue(), {"tls-ca": str(ours.file)}, own(ours, theirs.issue("me.test"))),
        "does not trust the CA of our certificate",
    ),
}


def own(authority: Authority, identity: Identity) -> dict[str, str]:
    return {"tls-ca": str(authority.file), "tls-cert": str(identity.cert), "tls-key": str(identity.key)}


async def meeting(
    scheme: str,
    listening: dict[str, str],
    asking: dict[str, str],
    meet: Callable[[str], Awaitable[object]],
    count: int = 0,
) -> list[bytes]:
    """Have *meet* come to a listener, and return what it got, *count* messages or more."""
    intake = FakeIntake()
    url = with_options(WAYS[scheme].transport.loopback, listening)
    async with ClientFactory().listener(url) as listener:
        endpoint = await listener.start(intake)
        bare = f"{endpoint.without(endpoint.options)}"
        await meet(with_options(bare, asking))
        await until(lambda: len(intake.messages) >= count, "its messages")
    return intake.messages


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("scheme", LISTENING_TLS)
async def test_certificate_that_is_refused(
    scheme: str, cause: str, authority: Authority, stranger: Authority
) -> None:
    """Nothing is sent, and the error is a sentence that names the cause."""
    made, said = CAUSES[cause]
    identity, listening, asking = made(authority, stranger)

    async def meet(url: str) -> None:
        async with asyncio.timeout(BOUND):
            with pytest.raises(ConnectError, match="TLS") as refused:
                await ClientFactory.create(url).send(b"a secret")
            assert said in str(refused.value)

    listening |= {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
    assert await meeting(scheme, listening, asking, meet) == []


async def test_control_of_the_certificates(authority: Authority, stranger: Authority) -> None:
    """A naive client, which does not look, sends its message to a stranger."""
    identity = stranger.issue("other.test")

    async def meet(url: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"a secret\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listening = {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
    assert await meeting("tcp+tls", listening, {}, meet, 1) == [b"a secret"]
