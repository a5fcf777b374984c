"""The serving client: who gets what, when a message counts as delivered, and what if nobody is there."""

from __future__ import annotations

import asyncio

import pytest

from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, Rejected
from producer_pool.model.framing import LENGTH4
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.toolkit.serving.options import ServingOptions
from support.descriptors import OUT_OF_FILES, out_of_files
from support.sending import LEVELS
from support.serving import Served, serving
from support.streams import receive, until

BIG = 64 * 1024 * 1024

levels = pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)

# -- who gets what ---------------------------------------------------------------------------------


@levels
async def test_every_peer_gets_every_message(ack: Ack) -> None:
    """In order, framed, and counted when all of them have it."""
    async with Served(serving(), ack) as served:
        peers = [await served.join() for _ in range(3)]
        await served.send(b"one", b"two")
        await served.send(b"three")

        assert [await receive(peer, 14) for peer in peers] == [b"one\ntwo\nthree\n"] * 3
        await until(lambda: served.client.settled() == (3, 3))
        assert served.client.peers == 3
        assert served.client.stats.missed == 0


@levels
async def test_peer_that_comes_late(ack: Ack) -> None:
    """It gets what is sent from then on, from a message's beginning."""
    async with Served(serving(), ack) as served:
        first = await served.join()
        await served.send(b"one")
        second = await served.join()
        await served.send(b"two")
        await until(lambda: served.confirmed == 2)

        assert await receive(first, 8) == b"one\ntwo\n"
        assert await receive(second, 4) == b"two\n"


@levels
async def test_peer_that_leaves(ack: Ack) -> None:
    """The others go on, and what is sent after it left is not held back by it."""
    async with Served(serving(), ack) as served:
        stays, leaves = await served.join(), await served.join()
        await served.send(b"one")
        await receive(leaves, 4)
        leaves.close()
        await served.send(b"two")

        assert served.client.peers == 1
        await until(lambda: served.confirmed == 2)
        assert await receive(stays, 8) == b"one\ntwo\n"


async def test_peer_that_comes_back(served: Served) -> None:
    """It is a new peer, and misses what was sent meanwhile."""
    stays, leaves = await served.join(), await served.join()
    leaves.close()
    await served.send(b"missed")
    back = await served.join()
    await served.send(b"got")

    assert await receive(back, 4) == b"got\n"
    assert await receive(stays, 11) == b"missed\ngot\n"
    assert served.client.stats.joined == 3


async def test_peer_that_has_just_connected(served: Served) -> None:
    """Who has connected before a message is started gets it, whether the loop has noticed or not."""
    peer = served.dial()

    assert served.start([Batch.of([b"one"])]) == 1
    assert await receive(peer, 4) == b"one\n"


async def test_same_bytes_for_all_peers(served: Served) -> None:
    """Several small batches are one send for each peer, made once; offsets are skipped."""
    peers = [await served.join() for _ in range(2)]

    assert served.start([Batch.of([b"old", b"one"]), Batch.of([b"two"]), Batch.of([])], 1) == 3
    assert [await receive(peer, 8) for peer in peers] == [b"one\ntwo\n"] * 2
    assert served.client.settled() == (2, 2)


async def test_framing_of_the_client() -> None:
    """All peers get the framing that the client has."""
    async with Served(serving(framing=LENGTH4)) as served:
        peer = await served.join()
        await served.send(b"a\nb")

        assert await receive(peer, 7) == b"\0\0\0\3a\nb"


async def test_what_peers_say_is_ignored(served: Served) -> None:
    """It is read, so that they are not stopped, and thrown away."""
    peer = await served.join()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(peer, b"x" * 5_000_000)
    await served.send(b"one")

    assert await receive(peer, 4) == b"one\n"


# -- when nobody is there --------------------------------------------------------------------------


async def test_nobody_is_connected(served: Served) -> None:
    """Each message is rejected, in order, not inside start(), and settled only after that."""
    assert served.start([Batch.of([b"zero", b"one"]), Batch.of([b"two"])]) == 2
    before = served.client.settled(), list(served.signals.refused)
    await until(lambda: served.written == 3)

    assert before == ((0, 0), [])
    assert [number for number, _ in served.signals.refused] == [0, 1, 2]
    assert "nobody is connected" in served.signals.refused[0][1]
    assert "min-peers=1" in served.signals.refused[0][1]


@levels
async def test_too_few_are_connected(ack: Ack) -> None:
    """Below min-peers those who are there get nothing; from then on they get all."""
    async with Served(serving(ServingOptions(min_peers=2)), ack) as served:
        first = await served.join()
        await served.send(b"missed")
        await until(lambda: served.written == 1)
        second = await served.join()
        await served.send(b"got")

        assert [text for _, text in served.signals.refused if "only 1 is connected" in text]
        assert await receive(first, 4) == await receive(second, 4) == b"got\n"
        await until(lambda: served.client.settled() == (2, 2))
        assert served.client.peers == 2


@levels
async def test_too_few_are_left(ack: Ack) -> None:
    """What is refused for that reason is refused once, and is no loss of the one who then leaves, too."""
    options = ServingOptions(min_peers=2, peer_buffer=BIG)
    async with Served(serving(options), ack) as served:
        leaves, slow = await served.join(), await served.join(4096)
        await served.send(*[b"x" * 999] * 20_000)
        leaves.close()
        await until(lambda: served.client.peers == 1)
        await served.send(b"too few")
        await until(lambda: served.signals.refused)
        slow.close()
        await until(lambda: served.client.settled() == (20_001, 20_001))
        refused = [number for number, _ in served.signals.refused]

        assert refused == [20_000, *range(refused[1], 20_000)]
        assert "only 1 is connected" in served.signals.refused[0][1]


async def test_many_are_refused_in_a_turn(served: Served) -> None:
    """They are reported together: a source that runs on while nobody is there costs little."""
    for number in range(100):
        assert served.start([Batch.of([b"%d" % number])]) == 1
    await until(lambda: served.written == 100)

    assert [number for number, _ in served.signals.refused] == list(range(100))
    assert served.signals.reports == 1


@levels
async def test_nobody_has_to_be_connected(ack: Ack) -> None:
    """With min-peers=0 a message for nobody is delivered."""
    async with Served(serving(ServingOptions(min_peers=0)), ack) as served:
        await served.send(b"one", b"two")

        assert served.client.settled() == (2, 2)
        assert served.signals.refused == []


async def test_producer_without_peers() -> None:
    """The message fails at once, and is not tried again; the next one, with a peer, is delivered."""
    client = serving()
    async with Producer("audit", client, DeliveryPolicy.relay()) as producer:
        lost = await producer.forward("one")
        served = Served(client)
        peer = await served.join()
        got = await producer.forward("two")
        peer.close()

    assert lost.outcome is Outcome.FAILED
    assert isinstance(lost.error, Rejected)
    assert lost.attempts == 1
    assert got.ok


async def test_no_descriptors_to_listen_with() -> None:
    """It cannot connect for now, and says what to do about that."""
    client = serving()
    with out_of_files(), pytest.raises(ConnectError, match=OUT_OF_FILES):
        await client.connect()
    async with Served(client) as served:
        await served.join()
