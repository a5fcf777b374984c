"""One peer: what happens when it reads slowly, or not at all, and how its connection ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LENGTH4
from producer_pool.model.outcomes import Ack
from producer_pool.testing.patience import settling
from producer_pool.toolkit.serving.client import ServingClient
from producer_pool.toolkit.serving.options import PeerOverflow, ServingOptions
from support.listening import lines_of
from support.sending import LEVELS
from support.serving import Served, serving
from support.streams import is_reset, receive, receive_all, reset, send, until

levels = pytest.mark.parametrize("ack", LEVELS, ids=lambda level: level.label)

KiB = 1024
BIG = 64 * 1024 * KiB
"""A bound that no test reaches."""
SMALL = 4 * KiB
"""A receive buffer: so little is on its way when a peer does not read."""


def message(number: int, size: int = 10 * KiB) -> bytes:
    return b"%d " % number + b"x" * size


async def fill(served: Served, numbers: range) -> None:
    """Send messages, a batch for each; who reads in this loop has time to."""
    for number in numbers:
        await served.send(message(number))
        await asyncio.sleep(0)


def numbers(stream: bytes) -> list[int]:
    """Return which messages are in a stream, which has to be one of whole lines."""
    lines = [line.partition(b" ") for line in stream.split(b"\n")]
    assert lines.pop() == (b"", b"", b"")
    assert len({len(fill) for _, _, fill in lines}) <= 1
    return [int(number) for number, _, _ in lines]


def patient(options: ServingOptions, **more: Any) -> ServingClient:
    """Return a client that cuts nobody off for being slow, however long a test takes."""
    client = serving(options, **more)
    client.timeout = 3600.0
    return client


# -- slow peers ------------------------------------------------------------------------------------


@levels
async def test_slow_peer_gets_all(ack: Ack) -> None:
    """Within its bound nothing is lost; the level is reached when it has read."""
    async with Served(patient(ServingOptions(peer_buffer=BIG)), ack) as served:
        fast, slow = await served.join(), await served.join(SMALL)
        reading = asyncio.ensure_future(receive(fast, 1000 * len(message(0)) * 2))
        await fill(served, range(1000))
        before = served.client.settled()
        size = sum(len(message(number)) + 1 for number in range(1000))
        stream = await receive(slow, size)
        await until(lambda: served.client.settled() == (1000, 1000))
        reading.cancel()

        assert before.written < 1000
        assert numbers(stream) == list(range(1000))
        assert not served.client._audience._behind
        assert not [peer for peer in served.client._audience.members if peer._ledger.waits]


async def test_slow_peer_does_not_delay_the_others(served: Served) -> None:
    """They get each message at once, while one of them takes nothing."""
    await served.join(SMALL)
    others = [await served.join() for _ in range(3)]
    for number in range(60):
        await served.send(message(number))
        for other in others:
            assert numbers(await receive(other, len(message(number)) + 1)) == [number]


async def test_full_buffer_disconnects(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that does not keep up is cut off, by a reset if that is inside a message; the others go on."""
    options = ServingOptions(peer_buffer=64 * KiB)
    async with Served(patient(options)) as served:
        slow, other = await served.join(SMALL), await served.join()
        reading = asyncio.ensure_future(receive_all(other))
        number = 0
        while served.client.peers == 2:
            await served.send(message(number, 1000 * KiB))
            await asyncio.sleep(0)
            number += 1
        await served.send(message(number, 1000 * KiB))
        await until(lambda: served.written == number + 1)
        await served.client.aclose()

        assert await is_reset(slow)
        assert numbers(await reading) == list(range(number + 1))
        assert served.client.stats.evicted == 1
        assert served.client.stats.missed > 0
        full = "its buffer of 64KiB is full (peer-buffer=, peer-overflow=)"
        assert [line for line in lines_of(caplog) if full in line]


@levels
async def test_newest_are_dropped(ack: Ack) -> None:
    """What finds no room is left out, whole; what waits stays, and the order too."""
    options = ServingOptions(peer_buffer=100 * KiB, peer_overflow=PeerOverflow.DROP_NEWEST)
    async with Served(patient(options), ack) as served:
        slow, other = await served.join(SMALL), await served.join()
        reading = asyncio.ensure_future(receive_all(other))
        await fill(served, range(1000))
        reading_slowly = asyncio.ensure_future(receive_all(slow))
        await until(lambda: served.client.settled() == (1000, 1000))
        await fill(served, range(1000, 1002))
        await until(lambda: served.confirmed == 1002)
        await served.client.aclose()
        got = numbers(await reading_slowly)

        assert numbers(await reading) == list(range(1002))
        assert got == [*range(len(got) - 2), 1000, 1001]
        assert served.client.stats.missed == 1002 - len(got) > 0
        assert served.signals.refused == []


@levels
async def test_oldest_are_dropped(ack: Ack) -> None:
    """What waited longest gives way, but for what is under way; the newest arrive."""
    options = ServingOptions(peer_buffer=100 * KiB, peer_overflow=PeerOverflow.DROP_OLDEST)
    async with Served(patient(options), ack) as served:
        slow, other = await served.join(SMALL), await served.join()
        reading = asyncio.ensure_future(receive_all(other))
        await fill(served, range(1000))
        reading_slowly = asyncio.ensure_future(receive_all(slow))
        await until(lambda: served.client.settled() == (1000, 1000))
        await served.client.aclose()
        got = numbers(await reading_slowly)

        assert numbers(await reading) == list(range(1000))
        assert got == sorted(set(got))
        assert got[-5:] == list(range(995, 1000))
        assert served.client.stats.missed == 1000 - len(got) > 0
        assert served.signals.refused == []


@pytest.mark.parametrize("overflow", [PeerOverflow.DROP_NEWEST, PeerOverflow.DROP_OLDEST])
@levels
async def test_the_only_peer_is_too_slow(ack: Ack, overflow: PeerOverflow) -> None:
    """What it drops reaches nobody, so it is refused; each message is either there or that."""
    options = ServingOptions(peer_buffer=100 * KiB, peer_overflow=overflow)
    async with Served(patient(options), ack) as served:
        slow = await served.join(SMALL)
        await fill(served, range(1000))
        reading = asyncio.ensure_future(receive_all(slow))
        await until(lambda: served.client.settled() == (1000, 1000))
        await served.client.aclose()
        got = numbers(await reading)
        refused = [number for number, _ in served.signals.refused]

        assert refused
        assert sorted(got + refused) == list(range(1000))
        assert "too slow" in served.signals.refused[0][1]


async def test_message_that_never_fits() -> None:
    """Nothing that waits is dropped for it, for that would be in vain: it is left out itself."""
    options = ServingOptions(peer_buffer=64 * KiB, peer_overflow=PeerOverflow.DROP_OLDEST)
    async with Served(patient(options)) as served:
        slow = await served.join(SMALL)
        await fill(served, range(1000))
        refused = len(served.signals.refused)
        await served.send(message(1000, 100 * KiB))
        await until(lambda: len(served.signals.refused) > refused)
        reading = asyncio.ensure_future(receive_all(slow))
        await until(lambda: served.written == 1001)
        await served.client.aclose()

        assert [number for number, _ in served.signals.refused[refused:]] == [1000]
        assert numbers(await reading)[-3:] == [997, 998, 999]


async def test_batch_larger_than_the_bound() -> None:
    """It goes out in pieces, so that a peer keeps no more than its bound, and ends with whole messages."""
    options = ServingOptions(peer_buffer=64 * KiB, peer_overflow=PeerOverflow.DROP_NEWEST)
    async with Served(patient(options)) as served:
        slow = await served.join(SMALL)
        await served.send(*[message(number, 1000) for number in range(20_000)])
        (peer,) = served.client._audience.members
        kept = peer._unsent() + peer._backlog.cost
        reading = asyncio.ensure_future(receive_all(slow))
        await until(lambda: served.written == 20_000)
        await served.client.aclose()
        got = numbers(await reading)
        refused = [number for number, _ in served.signals.refused]

        assert 0 < kept <= 64 * KiB
        assert refused
        assert got == sorted(got)
        assert sorted(got + refused) == list(range(20_000))


async def test_tiny_messages_cost_their_bytes(served: Served) -> None:
    """Not what they would take one by one: a peer that is a little behind is not cut off for them."""
    await served.join(SMALL)
    while not served.client._audience._behind:
        await served.send(b"x" * 100 * KiB)
    await served.send(*[b"0123456789"] * 40_000)

    assert served.client.peers == 1
    (peer,) = served.client._audience.members
    assert 40_000 * 11 <= peer._backlog.cost < 40_000 * 12


async def test_empty_messages_go_in_pieces_too() -> None:
    """Their frames are bytes as well."""
    async with Served(patient(ServingOptions(peer_buffer=BIG), framing=LENGTH4)) as served:
        peer = await served.join()
        reading = asyncio.ensure_future(receive(peer, 4 * 300_000))
        await served.send(*[b""] * 300_000)

        assert await reading == bytes(4 * 300_000)
        assert served.written == 300_000


async def test_pieces_keep_the_offset() -> None:
    """Messages that were settled before are in none of the pieces."""
    async with Served(patient(ServingOptions(peer_buffer=BIG), framing=LENGTH4)) as served:
        peer = await served.join()
        batch = Batch.of([b"%6d" % number * 100 for number in range(2000)])
        reading = asyncio.ensure_future(receive(peer, 604 * 1990))
        served.start([batch], 10)

        assert await reading == batch.wire(LENGTH4, 10)
        assert served.written == 1990


async def test_one_message_larger_than_the_bound() -> None:
    """A peer that nothing waits for takes it: else nobody could ever get it."""
    async with Served(patient(ServingOptions(peer_buffer=1))) as served:
        peer = await served.join()
        await served.send(message(0, 1000 * KiB))

        assert await receive(peer, 1000 * KiB + 3) == message(0, 1000 * KiB) + b"\n"


# -- peers that take nothing -----------------------------------------------------------------------


@levels
async def test_dead_peer(ack: Ack, caplog: pytest.LogCaptureFixture) -> None:
    """It holds messages back for its own time, and not for the client's; then it is cut off."""
    options = ServingOptions(peer_buffer=BIG, peer_timeout=0.2)
    async with Served(serving(options), ack) as served:
        dead, other = await served.join(SMALL), await served.join()
        reading = asyncio.ensure_future(receive_all(other))
        await fill(served, range(1000))
        await until(lambda: served.client.settled() == (1000, 1000))

        assert served.client.peers == 1
        with suppress(ConnectionResetError):  # unless it is between two messages
            await receive_all(dead)
        await served.client.aclose()
        assert numbers(await reading) == list(range(1000))
        assert served.client.stats.evicted == 1
        assert [line for line in lines_of(caplog) if "nothing moved for 200ms (peer-timeout=)" in line]


async def test_time_of_a_peer_is_less_than_that_of_its_client() -> None:
    """However long peer-timeout is: else the producer would take the whole client for dead."""
    client = serving(ServingOptions(peer_buffer=BIG, peer_timeout=3600.0))
    client.timeout = 0.4
    async with Served(client) as served:
        await served.join(SMALL)
        began = asyncio.get_running_loop().time()
        await served.send(message(0, 20_000 * KiB))
        await until(lambda: served.client.peers == 0)

        assert asyncio.get_running_loop().time() - began >= 0.15


@pytest.mark.usefixtures("unhurried")
@levels
async def test_slow_peer_inside_of_a_batch_is_not_dead(ack: Ack) -> None:
    """As long as messages move, a peer is not cut off, and the count moves, too."""
    options = ServingOptions(peer_buffer=BIG, peer_timeout=1.0)
    async with Served(serving(options), ack) as served:
        slow = await served.join(SMALL)
        await served.send(*[message(number, 1000) for number in range(20_000)])
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5
        seen = {served.confirmed}
        while loop.time() < end:
            await receive(slow, 100_000)
            await asyncio.sleep(0.05)
            seen.add(served.confirmed)

        assert served.client.peers == 1
        assert served.confirmed < 20_000
        assert len(seen) > 2
        assert served.signals.writes


async def test_quiet_peer_is_not_dead() -> None:
    """Who has everything may be silent for as long as it likes."""
    async with Served(serving(ServingOptions(peer_timeout=0.05))) as served:
        peer = await served.join()
        await served.send(b"one")
        await receive(peer, 4)
        await asyncio.sleep(0.3)
        await served.send(b"two")

        assert await receive(peer, 4) == b"two\n"


@pytest.mark.usefixtures("unhurried")
@levels
async def test_nobody_is_dead_while_the_program_stands_still(
    ack: Ack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stops this program may stop its peers: they get their time when it goes on."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    stood_still = 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + stood_still)
    async with Served(serving(ServingOptions(peer_buffer=BIG, peer_timeout=0.5)), ack) as served:
        peer = await served.join(SMALL)
        await served.send(*[b"x" * 999] * 20_000)
        for _ in range(2):
            stood_still += 0.6
            await asyncio.sleep(0.01)
        assert len(await receive(peer, 20_000_000)) == 20_000_000
        await until(lambda: served.confirmed == 20_000)

        assert served.client.peers == 1


# -- ends ------------------------------------------------------------------------------------------


@levels
async def test_only_peer_leaves_inside_of_a_message(ack: Ack) -> None:
    """What it had not got is refused, for nobody has it; what it had is delivered."""
    async with Served(patient(ServingOptions(peer_buffer=BIG)), ack) as served:
        peer = await served.join(SMALL)
        await served.send(message(0))
        await receive(peer, len(message(0)) + 1)
        await until(lambda: served.confirmed == 1)
        await fill(served, range(1, 1001))
        peer.close()
        await until(lambda: served.client.settled() == (1001, 1001))
        refused = [number for number, _ in served.signals.refused]

        assert refused
        assert refused == list(range(refused[0], 1001))
        assert "went away" in served.signals.refused[0][1]
        assert served.client.stats.missed == len(refused)


@levels
@pytest.mark.parametrize("overflow", [PeerOverflow.DROP_NEWEST, PeerOverflow.DROP_OLDEST])
async def test_slow_peer_leaves(ack: Ack, overflow: PeerOverflow) -> None:
    """What it dropped, and what it leaves behind, is counted as missed; each message once."""
    options = ServingOptions(peer_buffer=100 * KiB, peer_overflow=overflow)
    async with Served(patient(options), ack) as served:
        slow = await served.join(SMALL)
        await fill(served, range(1000))
        dropped = served.client.stats.missed
        slow.close()
        await until(lambda: served.client.settled() == (1000, 1000))

        assert 0 < dropped < served.client.stats.missed
        assert served.client.stats.missed == len(served.signals.refused)


@levels
async def test_one_of_two_leaves_inside_of_a_message(ack: Ack) -> None:
    """The other one gets all, so nothing is refused."""
    async with Served(patient(ServingOptions(peer_buffer=BIG)), ack) as served:
        leaves, stays = await served.join(SMALL), await served.join()
        reading = asyncio.ensure_future(receive_all(stays))
        await fill(served, range(1000))
        leaves.close()
        await until(lambda: served.client.settled() == (1000, 1000))
        await served.client.aclose()

        assert numbers(await reading) == list(range(1000))
        assert served.signals.refused == []
        assert served.client.stats.missed > 0


async def test_peer_that_is_reset(served: Served) -> None:
    """It is gone as one that closed."""
    peer = await served.join()
    reset(peer)
    await served.send(b"one")
    await until(lambda: served.signals.refused)

    assert served.client.peers == 0


async def test_closing_between_messages(served: Served) -> None:
    """All that was written arrives, and then a clean end; also at one that talks."""
    quiet, talks = await served.join(), await served.join()
    await asyncio.get_running_loop().sock_sendall(talks, b"hello")
    await until(lambda: any(peer.heard for peer in served.client._audience.members))
    await served.send(b"one")
    closing = asyncio.ensure_future(served.client.aclose())

    assert await receive_all(quiet) == b"one\n"
    assert await receive_all(talks) == b"one\n"
    talks.close()
    await closing


@levels
async def test_closing_inside_of_a_batch(ack: Ack) -> None:
    """The last answer counts the messages of it that got through."""
    async with Served(patient(ServingOptions(peer_buffer=BIG)), ack) as served:
        await served.join(SMALL)
        await served.send(*[message(number, 1000) for number in range(20_000)])
        (peer,) = served.client._audience.members
        # Longer than a kernel waits before it tries again to send the little that there may be room for.
        reached = await settling(peer.reach, 0.3)
        await served.client.aclose()

        assert 0 < reached < 20_000
        assert served.confirmed == reached


async def test_closing_inside_of_a_message() -> None:
    """A peer that has half of one sees a reset."""
    async with Served(patient(ServingOptions(peer_buffer=BIG))) as served:
        peer = await served.join(SMALL)
        await served.send(message(0, 20_000 * KiB))
        await served.client.aclose()

        assert await is_reset(peer)
        assert served.written == 0


async def test_closing_does_not_wait_for_long(served: Served) -> None:
    """One that talks and does not end is left after half a second."""
    talks = await served.join()
    await asyncio.get_running_loop().sock_sendall(talks, b"hello")
    await until(lambda: any(peer.heard for peer in served.client._audience.members))
    await served.client.aclose()

    assert await receive_all(talks) == b""


@pytest.mark.parametrize("given_up", [False, True], ids=["goes on", "is given up"])
async def test_connecting_while_it_closes(served: Served, given_up: bool) -> None:
    """That waits for the end of what there was; then peers come, and are served, as ever."""
    talks = await served.join()
    await send(talks, b"hello")
    await until(lambda: any(peer.heard for peer in served.client._audience.members))
    closing = asyncio.ensure_future(served.client.aclose())
    await asyncio.sleep(0)
    if given_up:
        closing.cancel()
    await served.client.connect()
    await asyncio.wait([closing])

    assert closing.cancelled() is given_up
    assert await receive_all(talks) == b""
    peer = await served.join()
    await served.send(b"one")
    assert await receive(peer, 4) == b"one\n"
    await served.client.aclose()
    assert await receive_all(peer) == b""
