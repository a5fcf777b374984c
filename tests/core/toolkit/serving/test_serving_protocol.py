"""Protocols on top of serving: peers that introduce themselves, that answer, and whose code has defects."""

from __future__ import annotations

import asyncio
import itertools
import socket
from contextlib import suppress
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.serving.client import ServingClient
from producer_pool.toolkit.serving.options import ServingOptions
from producer_pool.toolkit.serving.peer import Peer
from support.greeting import GreetingClient, GreetingPeer, greeting
from support.listening import lines_of
from support.serving import Served, serving
from support.streams import is_reset, receive, receive_all, send, until

KiB = 1024
BIG = 64 * 1024 * KiB
SMALL = 4 * KiB


async def join(served: Served, receive_buffer: int | None = None) -> socket.socket:
    """Connect a peer that greets, and has been welcomed."""
    peer = served.dial(receive_buffer)
    await send(peer, b"hello\n")
    assert await receive(peer, 8) == b"welcome\n"
    return peer


async def line(sock: socket.socket) -> bytes:
    """Read one line."""
    found = b""
    while not found.endswith(b"\n"):
        found += await receive(sock, 1)
    return found


# -- the beginning ---------------------------------------------------------------------------------


async def test_peer_that_has_not_introduced_itself() -> None:
    """It gets nothing, and does not count as connected; what it gets begins after its greeting."""
    async with Served(greeting()) as served:
        peer = served.dial()
        await until(lambda: served.client.stats.accepted == 1)
        await served.send(b"missed")
        await until(lambda: served.signals.refused)
        before = served.client.peers
        await send(peer, b"hel")
        await send(peer, b"lo\n")
        await until(lambda: served.client.peers == 1)
        await served.send(b"got")

        assert before == 0
        assert [await line(peer) for _ in range(2)] == [b"welcome\n", b"got\n"]


@pytest.mark.usefixtures("unhurried")
async def test_peer_that_never_introduces_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is cut off after handshake-timeout, and its place is free again."""
    client = greeting(ServingOptions(max_peers=1))
    client.handshake_timeout = 0.1
    async with Served(client) as served:
        silent = served.dial()
        assert await receive_all(silent) == b""
        peer = await join(served)

        assert served.client.stats.evicted == 1
        assert [text for text in lines_of(caplog) if "no handshake within 100ms (handshake-timeout=)" in text]
        assert served.client.peers == 1
        peer.close()


async def test_silent_peers_keep_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    """When all places are taken, who is longest at its introduction gives way; who is served never does."""
    async with Served(greeting(ServingOptions(max_peers=3))) as served:
        first = await join(served)
        silent = [served.dial() for _ in range(2)]
        await until(lambda: served.client.stats.accepted == 3)
        second = await join(served)
        assert await receive_all(silent[0]) == b""
        third = await join(served)
        assert await receive_all(silent[1]) == b""
        with suppress(ConnectionResetError):
            assert await is_reset(served.dial())
        await until(lambda: served.client.stats.refused == 1)

        assert served.client.peers == 3
        assert [text for text in lines_of(caplog) if "its place is wanted" in text]
        for peer in (first, second, third):
            peer.close()


async def test_many_who_introduce_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few in each turn of the loop, as each may take its time; and what is sent waits for none of them."""
    heard = 0
    received = GreetingPeer.received

    def count(peer: GreetingPeer, data: memoryview) -> None:
        nonlocal heard
        heard += not peer.ready
        received(peer, data)

    async with Served(greeting()) as served:
        member = await join(served)
        monkeypatch.setattr(GreetingPeer, "received", count)
        peers = [served.dial() for _ in range(40)]
        await until(lambda: served.client.stats.accepted == 41)
        for peer in peers:
            peer.send(b"hello\n")
        await served.send(b"one")
        at_once = heard
        turns = [0]
        while heard < 40:
            await asyncio.sleep(0)
            turns.append(heard)

        assert at_once == 0
        assert await line(member) == b"one\n"
        assert max(after - before for before, after in itertools.pairwise(turns)) == 8


@pytest.mark.usefixtures("unhurried")
async def test_peer_with_bad_manners() -> None:
    """It is told, and its connection ends in good order: it can read why."""
    async with Served(greeting()) as served:
        peer = served.dial()
        await send(peer, b"GET / HTTP/1.1\n" + b"x" * 100_000)

        assert await receive_all(peer) == b"no\n"
        peer.close()
        await until(lambda: not served.client._audience._peers)
        assert (served.client.stats.joined, served.client.stats.evicted) == (0, 1)


# -- answers ---------------------------------------------------------------------------------------


async def test_message_is_confirmed_by_an_answer() -> None:
    """Written before, confirmed by all peers that are there after it; the client tells that it has moved."""
    async with Served(greeting(), Ack.PEER) as served:
        first, second = await join(served), await join(served)
        await served.send(b"one")
        assert [await line(first) for _ in range(2)] == [b"one\n", b"?1\n"]
        assert [await line(second) for _ in range(2)] == [b"one\n", b"?1\n"]
        seen = [served.client.settled()]
        for peer in (first, second):
            told = served.signals.writes
            await send(peer, b"!1\n")
            await until(lambda told=told: served.signals.writes > told)  # type: ignore[misc]
            seen.append(served.client.settled())

        assert seen == [(1, 0), (1, 0), (1, 1)]


async def test_what_is_written_stays_written() -> None:
    """Also when the last one leaves that could have confirmed it, until that is reported."""
    async with Served(greeting(), Ack.PEER) as served:
        await join(served)
        await served.send(b"one", b"two")
        before = served.client.settled()
        served.client.lost((0, 2))

        assert served.client.settled() == before == (2, 0)


async def test_one_question_for_many_messages() -> None:
    """While one is open, none is asked; the next one confirms all that was sent meanwhile."""
    async with Served(greeting(), Ack.PEER) as served:
        peer = await join(served)
        for _ in range(3):
            await served.send(b"m")
        seen = [await line(peer) for _ in range(4)]
        await send(peer, b"!1\n")
        assert await line(peer) == b"?2\n"
        half = served.confirmed
        await send(peer, b"!2\n")
        await until(lambda: served.confirmed == 3)

        assert seen == [b"m\n", b"?1\n", b"m\n", b"m\n"]
        assert half == 1


async def test_question_after_a_backlog() -> None:
    """A peer that was slow is asked when it has everything, and not before."""
    client = greeting(ServingOptions(peer_buffer=BIG))
    client.timeout = 3600.0  # It has that long to take it, and answers only then.
    async with Served(client, Ack.PEER) as served:
        peer = await join(served, SMALL)
        await served.send(b"x" * 19_999_999)
        stream = await receive(peer, 20_000_000)
        question = await line(peer)
        await send(peer, b"!1\n")
        await until(lambda: served.confirmed == 1)

        assert stream == b"x" * 19_999_999 + b"\n"
        assert question == b"?1\n"


@pytest.mark.usefixtures("unhurried")
async def test_peer_that_does_not_answer() -> None:
    """It is cut off after peer-timeout, though it reads; nobody has to wait for longer."""
    async with Served(greeting(ServingOptions(peer_timeout=0.2)), Ack.PEER) as served:
        silent, answers = await join(served), await join(served)
        await served.send(b"one")
        assert [await line(answers) for _ in range(2)] == [b"one\n", b"?1\n"]
        await send(answers, b"!1\n")
        await until(lambda: served.confirmed == 1)

        assert served.client.peers == 1
        assert await receive_all(silent) == b"one\n?1\nbye\n"


async def test_only_peer_leaves_without_an_answer() -> None:
    """Nobody has confirmed it: it is refused."""
    async with Served(greeting(), Ack.PEER) as served:
        peer = await join(served)
        await served.send(b"one")
        await receive(peer, 4)
        peer.close()
        await until(lambda: served.confirmed == 1)

        assert [number for number, _ in served.signals.refused] == [0]


async def test_word_between_messages() -> None:
    """It waits for the message that is under way, and goes before those that wait; none is broken."""
    async with Served(greeting(ServingOptions(peer_buffer=BIG))) as served:
        peer = await join(served, SMALL)
        for number in range(1000):
            await served.send(b"%d " % number + b"x" * 10 * KiB)
        await send(peer, b"echo\n" * 3)
        await until(lambda: served.client._audience.members[0]._unsaid.count(b"\n") == 3)
        reading = asyncio.ensure_future(receive_all(peer))
        await until(lambda: served.written == 1000)
        position = served.client._audience.members[0].position
        await served.client.aclose()
        stream = await reading
        lines = stream.split(b"\n")
        echoes = [number for number, text in enumerate(lines) if text == b"echo " + b"e" * 1000]
        others = [text for text in lines[:-1] if text[:1].isdigit()]

        assert echoes == [echoes[0], echoes[0] + 1, echoes[0] + 2]
        assert 0 < echoes[0] < 990
        assert position == len(b"welcome\n") + len(stream) - len(b"bye\n")
        assert others == [b"%d " % number + b"x" * 10 * KiB for number in range(1000)]


async def test_peer_that_asks_and_does_not_read(caplog: pytest.LogCaptureFixture) -> None:
    """What is said to it is bounded."""
    async with Served(greeting(ServingOptions(peer_buffer=BIG))) as served:
        peer = await join(served, SMALL)
        await served.send(b"x" * 20_000 * KiB)
        await send(peer, b"echo\n" * 100)
        await until(lambda: served.client.peers == 0)

        assert [text for text in lines_of(caplog) if "does not read what it asks for" in text]
        assert await is_reset(peer)


# -- the end ---------------------------------------------------------------------------------------


async def test_farewell_of_the_client() -> None:
    """Peers that are served are told; the others are not spoken to."""
    async with Served(greeting()) as served:
        peer, stranger = await join(served), served.dial()
        await until(lambda: served.client.stats.accepted == 2)
        closing = asyncio.ensure_future(served.client.aclose())

        assert await receive_all(peer) == b"bye\n"
        assert await receive_all(stranger) == b""
        peer.close()
        await closing


@pytest.mark.usefixtures("unhurried")
async def test_farewell_of_a_peer(caplog: pytest.LogCaptureFixture) -> None:
    """It is answered. What it still says is read, so that it can read the answer, and means nothing."""
    async with Served(greeting()) as served:
        peer = await join(served)
        await send(peer, b"bye\nand more\n")

        assert await receive_all(peer) == b"bye\nbye\n"
        assert served.client.peers == 0
        for _ in range(3):
            await send(peer, b"raise\n")
            await asyncio.sleep(0.01)
        peer.close()
        await until(lambda: not served.client._audience._peers)
        assert served.client.stats.evicted == 0
        assert lines_of(caplog) == []


@pytest.mark.usefixtures("unhurried")
async def test_peer_that_does_not_end() -> None:
    """It said farewell, was answered, and stays: after half a second its connection is closed."""
    async with Served(greeting(ServingOptions(peer_timeout=0.2))) as served:
        peer = await join(served)
        await send(peer, b"bye\n")

        assert await receive_all(peer) == b"bye\nbye\n"
        assert served.client._audience._peers
        await until(lambda: not served.client._audience._peers)


class Prologue(Peer):
    """Is told much, and served only when it has said anything."""

    def opened(self) -> None:
        self.say(b"p" * 20_000_000)

    def received(self, data: memoryview) -> None:
        self.join()


class PrologueClient(ServingClient):
    """Serves such peers."""

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        return Prologue(self, sock, origin) if self.stats.accepted == 2 else Peer(self, sock, origin)


async def test_peer_that_does_not_read_its_welcome() -> None:
    """As long as it is not served, it holds no message back; afterwards its messages come behind that."""
    client = serving(ServingOptions(peer_buffer=BIG), kind=PrologueClient)
    client.timeout = 3600.0  # It has that long to read its welcome.
    async with Served(client) as served:
        other = await served.join()
        peer = served.dial(SMALL)
        await until(lambda: served.client._audience._behind)
        await served.send(b"one")
        written = served.written
        await send(peer, b"hello")
        await until(lambda: served.client.peers == 2)
        await served.send(b"two")
        held_back = served.written
        stream = await receive(peer, 20_000_004)
        await until(lambda: served.written == 2)

        assert (written, held_back) == (1, 1)
        assert stream == b"p" * 20_000_000 + b"two\n"
        assert await receive(other, 8) == b"one\ntwo\n"


class Fickle(Peer):
    """Has enough after the first message."""

    notes = True

    def sent(self) -> None:
        self.leave("enough")


class FickleClient(ServingClient):
    """Serves such peers."""

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        return Fickle(self, sock, origin)


@pytest.mark.parametrize("sizes", [[100_000, 100_000, 10], [100_000]], ids=["batches", "pieces"])
async def test_only_peer_leaves_while_more_is_started(sizes: list[int]) -> None:
    """What is started in the same breath is refused as well, though somebody was there when that began."""
    async with Served(serving(ServingOptions(peer_buffer=64 * KiB), kind=FickleClient)) as served:
        peer = await served.join()
        batches = [Batch.of([b"x" * (size // 10)] * 10) for size in sizes]
        assert served.start(batches) == len(batches)
        await until(lambda: served.written == 10 * len(batches))
        got = (await receive_all(peer)).count(b"\n")

        assert 0 < got < 10 * len(batches)
        assert [number for number, _ in served.signals.refused] == list(range(got, 10 * len(batches)))


# -- defects ---------------------------------------------------------------------------------------


class Defective(GreetingPeer):
    """Raises in one of its methods, if it is the first peer."""

    method = ""
    count = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        type(self).count += 1
        if self.count == 1 and self.method:
            setattr(self, self.method, self._raise)

    def _raise(self, *arguments: object) -> Any:
        raise ZeroDivisionError("a defect")


@pytest.mark.parametrize("method", ["opened", "received", "sent", "acknowledged", "farewell"])
async def test_defect_in_a_protocol(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """It costs its peer the connection; the other one gets everything, and the client closes."""

    class Faulty(Defective):
        count = 0

    Faulty.method = method

    class Client(GreetingClient):
        def peer(self, sock: socket.socket, origin: str) -> Peer:
            return Faulty(self, sock, origin)

    async with Served(serving(kind=Client), Ack.PEER) as served:
        bad = served.dial()
        await until(lambda: served.client.stats.accepted == 1)
        good = await join(served)
        if method != "opened":
            await send(bad, b"hello\n")
        if method not in ("opened", "received"):
            await until(lambda: served.client.peers == 2)
        await served.send(b"one")
        assert [await line(good) for _ in range(2)] == [b"one\n", b"?1\n"]
        await send(good, b"!1\n")
        if method == "farewell":
            await send(bad, b"!1\n")
        await until(lambda: served.confirmed == 1)
        await until(lambda: served.client.peers == (2 if method == "farewell" else 1))
        closing = asyncio.ensure_future(served.client.aclose())
        assert await receive_all(good) == b"bye\n"
        good.close()
        await closing

        assert [
            record for record in caplog.records if record.exc_info and "ZeroDivisionError" in record.message
        ]
        assert served.signals.refused == []


async def test_peer_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """The connection is refused, and others are not."""

    class Client(GreetingClient):
        tries = 0

        def peer(self, sock: socket.socket, origin: str) -> Peer:
            self.tries += 1
            if self.tries == 1:
                raise ZeroDivisionError("a defect")
            return super().peer(sock, origin)

    async with Served(serving(kind=Client)) as served:
        refused = served.dial()

        assert await is_reset(refused)
        await join(served)
        assert "ZeroDivisionError" in caplog.text
