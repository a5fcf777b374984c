"""Consumers that connect to us over TCP: from the URL to the message, in a pool and in the daemon."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, ForwardResult, Limits, Outcome, ProducerPool
from producer_pool.contract.options import coerce
from producer_pool.contract.transport import Transport
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import (
    ConfigurationError,
    ConnectError,
    InvalidEndpoint,
    InvalidOption,
    Rejected,
)
from producer_pool.toolkit.serving.client import ServingClient
from producer_pool_tcp import plain, secure, secure_serving, serving
from support.certificates import Authority
from support.connecting import Consumer
from support.consumers import reserved_port
from support.processes import daemon, run_command
from support.producers import send_lines
from support.streams import receive, until
from support.waiting import BOUND, eventually

TRANSPORTS: dict[str, Transport] = {
    scheme: transport
    for module in (plain, secure, serving, secure_serving)
    for transport in module.producer_pool_transports()
    for scheme in transport.schemes
}


def make(url: str) -> ServingClient:
    endpoint = Endpoint.parse(url)
    transport = TRANSPORTS[endpoint.scheme]
    assert transport.client is not None
    assert transport.options is not None
    client = transport.client(endpoint, coerce(transport.options, endpoint.options, where=endpoint.scheme))
    assert isinstance(client, ServingClient)
    return client


def address(pool: ProducerPool, name: str) -> str:
    """Return where a producer listens, once it does."""
    eventually(lambda: pool.health()[name].state.value == "up", f"{name} listens")
    return pool.health()[name].address


def joined(pool: ProducerPool, name: str, count: int) -> None:
    """Wait until so many consumers are connected."""
    eventually(lambda: pool.stats().producers[name].peers == count, f"{count} peers of {name}")


def check_books(pool: ProducerPool, name: str) -> None:
    stats = pool.stats().producers[name]
    settled = stats.delivered + stats.failed + stats.dropped + stats.cancelled
    assert stats.accepted == settled + stats.pending


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# -- URLs and options ------------------------------------------------------------------------------


@pytest.mark.parametrize("framing,wire", [("lines", b"one\ntwo\n"), ("length4", b"\0\0\0\3one\0\0\0\3two")])
async def test_from_the_url_to_the_message(framing: str, wire: bytes) -> None:
    """Consumers get what is sent, in the framing that the URL names; the address says the real port."""
    client = make(f"tcp+serve://127.0.0.1:0?framing={framing}")
    before = client.address
    async with client:
        endpoint = Endpoint.parse(client.address)
        peers = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(3)]
        await until(lambda: client.peers == 3)
        await client.send(b"one")
        await client.send(b"two")
        for peer in peers:
            peer.setblocking(False)
        seen = [await receive(peer, len(wire)) for peer in peers]
        for peer in peers:
            peer.close()

    assert seen == [wire] * 3
    assert before == "tcp+serve://127.0.0.1:0"
    assert endpoint.port != 0


async def test_client_alone_and_nobody_there() -> None:
    """The error says so, and the door stays open: who comes after that gets the next message."""
    client = make("tcp+serve://127.0.0.1:0")
    with pytest.raises(Rejected, match="nobody is connected"):
        await client.send(b"one")
    endpoint = Endpoint.parse(client.address)
    with socket.create_connection((endpoint.host, endpoint.port)) as peer:
        await until(lambda: client.peers == 1)
        await client.send(b"two")
        peer.setblocking(False)

        assert await receive(peer, 4) == b"two\n"
    await client.aclose()


def test_levels_of_the_platform() -> None:
    """As with tcp: Linux tells what was acknowledged."""
    levels = ["WRITTEN", "KERNEL"] if sys.platform == "linux" else ["WRITTEN"]

    for scheme in ("tcp+serve", "tcp+tls+serve"):
        assert sorted(ack.name for ack in TRANSPORTS[scheme].acks) == sorted(levels)
        assert TRANSPORTS[scheme].listener is None
    assert make("tcp+serve://127.0.0.1:0").acks == TRANSPORTS["tcp+serve"].acks


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "0"])
def test_remote_without_a_word(host: str) -> None:
    """It is refused before anything is tried, in the words of listeners, which say what to write."""
    with pytest.raises(ConfigurationError, match=r"can be reached from other machines.*allow-remote=yes"):
        make(f"tcp+serve://{host}:0")


async def test_remote_name_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name that is known only when it is looked up."""
    real = socket.getaddrinfo

    def lookup(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "elsewhere" and not options.get("flags", 0) & socket.AI_NUMERICHOST:
            host = "192.0.2.1"
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    client = make("tcp+serve://elsewhere:0")

    with pytest.raises(ConnectError, match=r"192\.0\.2\.1 can be reached.*allow-remote=yes"):
        await client.connect()


async def test_remote_with_a_word(authority: Authority) -> None:
    """Allowed, or protected by TLS, it listens."""
    for url in (
        "tcp+serve://0.0.0.0:0?allow-remote=yes",
        f"tcp+tls+serve://0.0.0.0:0?{authority.issue().query}",
    ):
        async with make(url) as client:
            assert not client.address.endswith(":0")


@pytest.mark.parametrize(
    "url,wrong",
    [
        ("tcp+serve://user:secret@127.0.0.1:1", "no users and passwords"),
        ("tcp+serve://127.0.0.1:1/path", "has no path"),
        ("tcp+serve://127.0.0.1", "names no port"),
        ("tcp+serve://:1", "names no host"),
    ],
)
def test_urls_that_say_too_much_or_too_little(url: str, wrong: str) -> None:
    """Each is an error that says so, and keeps the password to itself."""
    with pytest.raises(InvalidEndpoint, match=wrong) as caught:
        make(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url,wrong",
    [
        ("tcp+serve://127.0.0.1:1?max-connections=5", "no option max-connections"),
        ("tcp+serve://127.0.0.1:1?peer-overflow=drop", "peer-overflow"),
        ("tcp+serve://127.0.0.1:1?peer-buffer=0", "peer-buffer must be at least 1 byte"),
        ("tcp+serve://127.0.0.1:1?tls-cert=x", "no option tls-cert"),
        ("tcp+tls+serve://127.0.0.1:1", "needs tls-cert and tls-key"),
        ("tcp+tls+serve://127.0.0.1:1?allow-remote=yes", "no option allow-remote"),
    ],
)
def test_options_that_are_wrong(url: str, wrong: str) -> None:
    """Each is an error that names the option."""
    with pytest.raises(InvalidOption, match=wrong):
        make(url)


async def test_port_that_is_taken() -> None:
    """The error says what to do about it; nothing is left open."""
    with reserved_port() as held:
        port = held.getsockname()[1]
        client = make(f"tcp+serve://127.0.0.1:{port}")
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(ConnectError, match="address already in use; stop who has it"):
                await client.connect()
            assert client.settled() == (0, 0)
        await client.connect()
        await client.aclose()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def test_tls(authority: Authority) -> None:
    """With the certificate of the URL, to consumers that have one of their own, if that is asked for."""
    here = authority.issue()
    context = ssl.create_default_context(cafile=str(authority.file))
    async with make(f"tcp+tls+serve://127.0.0.1:0?{here.query}&tls-ca={authority.file}") as client:
        endpoint = Endpoint.parse(client.address)
        loop = asyncio.get_running_loop()

        def consume(certificate: bool) -> bytes:
            if certificate:
                context.load_cert_chain(here.cert, here.key)
            try:
                with (
                    socket.create_connection((endpoint.host, endpoint.port), BOUND) as plain,
                    context.wrap_socket(plain, server_hostname="localhost") as encrypted,
                ):
                    return encrypted.recv(100)
            except (ssl.SSLError, ConnectionError):
                return b"refused"

        assert await loop.run_in_executor(None, consume, False) in (b"refused", b"")
        assert client.peers == 0
        consuming = loop.run_in_executor(None, consume, True)
        await until(lambda: client.peers == 1)
        await client.send(b"one")

        assert await consuming == b"one\n"


# -- in a pool -------------------------------------------------------------------------------------


def test_pool_serves_before_the_first_message(stack: ExitStack) -> None:
    """Whatever its policy is: consumers find it, are counted, and get the first message."""
    pool = stack.enter_context(ProducerPool())
    pool.add_producer("them", "tcp+serve://127.0.0.1:0")
    consumers = [stack.enter_context(Consumer(address(pool, "them"))) for _ in range(2)]
    joined(pool, "them", 2)
    results = pool.forward_to_all("hello")

    assert results.ok
    assert [consumer.read(1) for consumer in consumers] == [[b"hello"]] * 2


def test_port_that_is_taken_for_a_while(stack: ExitStack) -> None:
    """Messages fail until it is free, and the producer finds that out by itself."""
    port = stack.enter_context(reserved_port()).getsockname()[1]
    taken = stack.enter_context(socket.create_server(("127.0.0.1", port)))
    url = f"tcp+serve://127.0.0.1:{port}?retry-backoff=20ms&retry-max-backoff=50ms"
    pool = stack.enter_context(ProducerPool())
    pool.add_producer("them", url)
    refused = pool.forward_to("them", "one")
    taken.close()
    consumer = stack.enter_context(Consumer(address(pool, "them")))
    joined(pool, "them", 1)

    assert isinstance(refused.error, ConnectError)
    assert pool.forward_to("them", "two").ok
    assert consumer.read(1) == [b"two"]


def test_books_are_exact_whatever_peers_do(stack: ExitStack) -> None:
    """Each message has one outcome; what one consumer that stays got is what was delivered, in order."""
    pool = stack.enter_context(ProducerPool(policy=DeliveryPolicy.relay()))
    url = "tcp+serve://127.0.0.1:0?peer-buffer=64KiB&peer-timeout=200ms&timeout=2s&ack=written"
    pool.add_producer("them", url)
    where = address(pool, "them")
    messages = [b"%06d " % number + b"x" * 2000 for number in range(3000)]
    nobody = [pool.submit(message) for message in messages[:100]]
    assert all(not receipt.results(wait=BOUND).ok for receipt in nobody)

    stays = stack.enter_context(Consumer(where))
    joined(pool, "them", 1)
    receipts = []
    frozen: list[Consumer] = []
    for number, message in enumerate(messages[100:]):
        if number % 300 == 0:
            frozen.append(stack.enter_context(Consumer(where, receive_buffer=4096)))
        if number % 300 == 150:
            frozen[-1].socket.close()
        receipts.append(pool.submit(message))
        if number % 10 == 0:
            check_books(pool, "them")
            stays.read(number - 50)
    results: Sequence[ForwardResult] = [receipt.results(wait=BOUND)["them"] for receipt in receipts]
    pool.drain(wait=BOUND)
    check_books(pool, "them")
    stats = pool.stats().producers["them"]

    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert stays.read(2900) == messages[100:]
    assert (stats.accepted, stats.delivered, stats.failed, stats.pending) == (3000, 2900, 100, 0)
    assert (stats.connects, stats.breaks) == (1, 0)


def test_slowest_consumer_slows_the_source(stack: ExitStack) -> None:
    """With a peer-buffer above the producer's own, and overflow=block, nobody misses anything."""
    pool = stack.enter_context(ProducerPool())
    patient = "timeout=1h&peer-timeout=1h"
    pool.add_producer(
        "them", f"tcp+serve://127.0.0.1:0?peer-buffer=16MiB&buffer=1MiB&overflow=block&{patient}"
    )
    where = address(pool, "them")
    # Below this, a kernel sends small pieces now and then.
    slow, fast = (stack.enter_context(Consumer(where, receive_buffer=65536)) for _ in range(2))
    joined(pool, "them", 2)
    readers = stack.enter_context(ThreadPoolExecutor(2))
    reading = readers.submit(fast.read, 2000)
    receipts = [pool.submit(b"%06d " % number + b"x" * 10_000) for number in range(500)]
    reading_slowly = readers.submit(slow.read, 2000)
    receipts += [pool.submit(b"%06d " % number + b"x" * 10_000) for number in range(500, 2000)]

    assert all(receipt.results(wait=BOUND).ok for receipt in receipts)
    expected = [b"%06d " % number + b"x" * 10_000 for number in range(2000)]
    assert reading.result(BOUND) == reading_slowly.result(BOUND) == expected
    assert pool.stats().producers["them"].peers == 2


def test_only_consumer_is_killed(stack: ExitStack) -> None:
    """What it had not got fails, and says that it may have arrived; nothing counts as delivered in vain."""
    pool = stack.enter_context(ProducerPool())
    pool.add_producer("them", "tcp+serve://127.0.0.1:0?peer-buffer=64MiB")
    consumer = stack.enter_context(Consumer(address(pool, "them"), receive_buffer=4096))
    joined(pool, "them", 1)
    receipts = [pool.submit(b"%06d " % number + b"x" * 10_000) for number in range(1000)]
    eventually(lambda: pool.stats().producers["them"].accepted == 1000, "all are sent, or wait for it")
    got = consumer.read(10)
    consumer.socket.close()
    results = [receipt.results(wait=BOUND)["them"] for receipt in receipts]
    failed = [number for number, result in enumerate(results) if not result.ok]

    assert len(got) >= 10
    assert failed == list(range(failed[0], 1000))
    assert failed[0] >= len(got)
    assert "may have arrived" in str(results[failed[0]].error)


@pytest.mark.usefixtures("unhurried")
async def test_pool_closes_with_peers_in_every_state() -> None:
    """In time, with every message accounted for."""
    async with AsyncProducerPool(limits=Limits(drain=0.1)) as pool:
        await pool.add_producer("them", "tcp+serve://127.0.0.1:0?peer-buffer=64MiB&ack=written")
        while (await pool.health())["them"].state.value != "up":
            await asyncio.sleep(0.001)
        where = (await pool.health())["them"].address
        consumers = [Consumer(where, receive_buffer=4096) for _ in range(3)]
        while (await pool.stats()).producers["them"].peers != 3:
            await asyncio.sleep(0.001)
        receipts = [await pool.submit(b"x" * 100_000) for _ in range(200)]
        began = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - began
    outcomes = {(await receipt.results(0))["them"].outcome for receipt in receipts}
    for consumer in consumers:
        consumer.read_all()
        consumer.socket.close()

    assert Outcome.PENDING not in outcomes
    assert Outcome.CANCELLED in outcomes
    assert took < BOUND / 2


# -- isolation, and its control --------------------------------------------------------------------


class Naive:
    """What one writes first: a list of connections, and each message is sent to one after the other."""

    def __init__(self, stack: ExitStack) -> None:
        self._listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address = f"tcp+serve://127.0.0.1:{self._listening.getsockname()[1]}"
        self._peers: list[socket.socket] = []
        self._stack = stack

    def accept(self) -> None:
        peer = self._stack.enter_context(self._listening.accept()[0])
        peer.settimeout(0.5)
        self._peers.append(peer)

    def send(self, message: bytes) -> None:
        for peer in self._peers:
            peer.sendall(message + b"\n")


def well_off(send: Callable[[bytes], object], well: Consumer) -> int:
    """Send 20 MB, and return how many messages reached the consumer that reads."""
    count = 0
    try:
        for number in range(2000):
            send(b"%06d " % number + b"x" * 10_000)
            count = len(well.read(number + 1))
    except TimeoutError:
        return count
    return count


def test_frozen_consumer_does_not_stop_the_others(stack: ExitStack) -> None:
    """The one that reads has each message before the next is sent."""
    pool = stack.enter_context(ProducerPool())
    pool.add_producer("them", "tcp+serve://127.0.0.1:0?peer-buffer=64MiB&peer-timeout=1h&timeout=1h")
    where = address(pool, "them")
    stack.enter_context(Consumer(where, receive_buffer=4096))
    well = stack.enter_context(Consumer(where))
    joined(pool, "them", 2)

    assert well_off(pool.submit, well) == 2000
    assert pool.stats().producers["them"].peers == 2


def test_frozen_consumer_stops_a_naive_server(stack: ExitStack) -> None:
    """The control: with the same consumers it gets stuck."""
    naive = Naive(stack)
    stack.enter_context(Consumer(naive.address, receive_buffer=4096))
    naive.accept()
    well = stack.enter_context(Consumer(naive.address))
    naive.accept()

    assert well_off(naive.send, well) < 2000


# -- in the daemon ---------------------------------------------------------------------------------


def test_daemon_serves(stack: ExitStack) -> None:
    """It says where, counts who is there, and fails what comes while nobody is."""
    running = stack.enter_context(daemon("--to", "them=tcp+serve://127.0.0.1:0"))
    send_lines(running.port, [b"missed"])
    missed = running.settled("them", 1)
    consumer = stack.enter_context(Consumer(missed["address"]))
    eventually(lambda: running.consumer("them")["peers"] == 1, "a peer")
    send_lines(running.port, [b"got"])
    got = running.settled("them", 2)

    assert (missed["failed"], missed["state"], missed["peers"]) == (1, "degraded", 0)
    assert "nobody is connected" in running.wait_for_line("nobody is connected")
    assert consumer.read(1) == [b"got"]
    assert (got["delivered"], got["failed"]) == (1, 1)
    assert running.terminate() == 0
    assert consumer.read_all() == [b"got"]


def test_daemon_refuses_to_serve_the_world() -> None:
    """It ends at once, and says what to write: nothing would be tried again that is not wanted."""
    done = run_command("run", "--listen", "tcp://127.0.0.1:0", "--to", "tcp+serve://0.0.0.0:0")

    assert done.returncode == 78
    assert b"allow-remote=yes" in done.stderr


def test_options_are_what_the_readme_says() -> None:
    """What the README says of options that only these schemes have."""
    text = (Path(__file__).parents[3] / "plugins/tcp/README.md").read_text()
    table = text.partition("For `tcp+serve://`")[2].partition("## Options of listeners")[0]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}

    assert listed == {
        "max-peers", "min-peers", "peer-buffer", "peer-overflow", "peer-timeout", "allow-remote",
    }  # fmt: skip
