"""
Small messages that come one after the other, to three consumers of which one is killed, frozen, or closes.

They go to all of them in one go, past their outboxes, unlike what comes in large batches, of which the other
stories tell. The two that are well notice nothing; what is known of the third is true.
"""

import random
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import pytest

from producer_pool import AsyncProducerPool, Batch, DeliveryPolicy, bind_transport_async
from producer_pool.model.framing import LINES
from support.arrivals import read_to_the_ends
from support.certificates import Authority
from support.consumers import ProcessConsumer, Record, RecordingConsumer
from support.contenders import QUICK
from support.convoys import BLIND, FLAWS, WatchedConvoys
from support.faults import FULL, report, times
from support.killable import deliver_all
from support.ledger import Ledger, Verdict
from support.processes import Daemon, daemon
from support.producers import Feed, connected
from support.streams import until
from support.waiting import BOUND, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")

SIZE = 256
RATE = 8_000
"""Messages a second, each sent by itself."""

SMALL = 64
FRAME = SMALL + 1
PACE = 4_000
"""The same where all have to go in convoys: also what comes while the daemon waits for its turn is small."""

RECEIVE_BUFFER = 4096
HELD = 2 * RECEIVE_BUFFER
"""Bytes that the receive buffer of one connection holds at the most."""

LIMIT = 4 * 1024 * 1024
"""Bytes that each producer may hold."""
MEMORY = 1.5

CLOSES = times(40, 1000)
SAIL = 1 / 40
"""Deliveries in convoys for each message sent, at the least; three is all. A late machine has fewer."""
KEPT = 0.95 if FULL else 0.2
"""The part of their throughput that those keep that are well."""


@contextmanager
def sailing(convoys: WatchedConvoys, third: Record, options: str) -> Iterator[tuple[Daemon, list[Record]]]:
    """Run a daemon with two consumers that are well, and *third*, which has *options*."""
    with ProcessConsumer() as one, ProcessConsumer() as two:
        well = [part for each in (one, two) for part in ("--to", f"{each.port}={each.url}?{QUICK}")]
        with daemon(*convoys.arguments, *well, "--to", f"third={third.url}?{QUICK}{options}") as running:
            yield running, [one, two]


def end(running: Daemon) -> dict[str, int]:
    """Have it deliver what it has and end, and return what it counted for the third consumer."""
    assert running.terminate() == 0, running.said
    counted: dict[str, int] = running.last["consumers"]["third"]
    return counted


# -- killed --------------------------------------------------------------------------------------------


def kill(flaw: str, kills: int, folder: Path) -> dict[str, int]:
    """Freeze the third consumer for a moment, so that something is in flight, and kill it; so often."""
    convoys = WatchedConvoys(folder, flaw)
    ledger = Ledger()
    with (
        ProcessConsumer(receive_buffer=RECEIVE_BUFFER) as third,
        sailing(convoys, third, "") as (running, well),
    ):
        with Feed(running.port, ledger, size=SMALL, rate=PACE, chunk=1):
            for _ in range(kills):
                third.wait_for(len(third.messages) + random.randrange(200, 1000))
                eventually(lambda: convoys.members == 3, "all three are in a convoy")
                third.freeze()
                let_some_be_sent(ledger)
                third.kill()
                seen = len(third.messages)
                third.start()
                third.wait_for(seen + 1)
        counted = end(running)
        verdict = ledger.judge(read_to_the_ends(third))

        assert all(ledger.judge(each.messages).exact for each in well)
        assert not verdict.corrupt
        assert not verdict.disordered
    return {
        "kills": kills,
        "sent": len(ledger.sent),
        "in_convoys": convoys.sent,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "resent": counted["resent"],
        "accepted": counted["accepted"],
        "delivered": counted["delivered"],
    }


def let_some_be_sent(ledger: Ledger) -> None:
    """Wait until something is in flight to who reads no more, and perhaps until that is called late."""
    enough = len(ledger.sent) + PACE * random.uniform(0.1, 0.4)
    eventually(lambda: len(ledger.sent) > enough, "something is in flight")


def test_killed(tmp_path: Path) -> None:
    """What was in flight is sent again, in order; lost is at most what its receive buffers held."""
    figures = kill("", times(3, 50), tmp_path)
    report("small batches, one of three killed, kernel", **figures)

    assert figures["in_convoys"] > figures["sent"] * SAIL
    assert not loses(figures)
    assert figures["accepted"] == figures["delivered"] == figures["sent"]
    assert figures["doubled"] <= figures["resent"]


@pytest.mark.parametrize("flaw", sorted(FLAWS.keys() - {BLIND}))
def test_wrong_convoys_lose(flaw: str, tmp_path: Path) -> None:
    """Controls: a convoy that is wrong loses more, or does not know what it took."""
    tries = count(1)
    while not loses(figures := kill(flaw, times(3, 20), tmp_path)) and next(tries) < 5:
        pass  # A busy machine took it out of the convoys before.
    report(f"small batches, one of three killed, control: {flaw}", **figures)

    assert loses(figures)


def loses(figures: dict[str, int]) -> bool:
    """Whether more is lost than receive buffers held."""
    return figures["lost"] * FRAME > figures["kills"] * 2 * HELD


# -- closed in good order ------------------------------------------------------------------------------


class Sender:
    """Sends one message, and then another."""

    def __init__(self, sock: socket.socket, ledger: Ledger, well: Sequence[Record]) -> None:
        self._sock = sock
        self._ledger = ledger
        self._well = well

    def send(self) -> None:
        self._sock.sendall(self._ledger.write(size=SIZE) + b"\n")

    def send_until_all_sail(self, convoys: WatchedConvoys) -> None:
        """Send some, until one of them went to all three in one go."""

        def sails() -> bool:
            before = convoys.sent
            self.send()
            for each in self._well:
                each.wait_for(len(self._ledger.sent))
            # After a moment in which the machine did something else, one may go the long way.
            return convoys.sent == before + 3

        eventually(sails, "all three are in a convoy")


def close(flaw: str, options: str, folder: Path) -> tuple[dict[str, int], Verdict]:
    """Have a connection be closed when a message has come and was not read yet; so often."""
    convoys = WatchedConvoys(folder, flaw)
    ledger = Ledger()
    with (
        RecordingConsumer() as third,
        sailing(convoys, third, options) as (running, well),
        connected(running.port) as sock,
    ):
        sender = Sender(sock, ledger, well)
        for _ in range(CLOSES):
            sender.send_until_all_sail(convoys)
            eventually(lambda: third.messages[-1:] == ledger.sent[-1:], "it has all, or what is lost")
            # What is ready when it goes on is looked at in the order in which it came.
            stop(running)
            sender.send()
            third.end_connections()
            running.process.send_signal(signal.SIGCONT)
            for each in well:
                each.wait_for(len(ledger.sent))
        sock.close()
        counted = end(running)
        verdict = ledger.judge(read_to_the_ends(third))

        assert all(ledger.judge(each.messages).exact for each in well)
        figures = {
            "closes": CLOSES,
            "sent": len(ledger.sent),
            "in_convoys": convoys.sent,
            "arrived": len(third.messages),
            "lost": len(verdict.lost),
            "doubled": len(verdict.doubled),
            **{name: counted[name] for name in ("accepted", "delivered", "failed")},
        }
    return figures, verdict


def stop(running: Daemon) -> None:
    running.process.send_signal(signal.SIGSTOP)
    state = Path(f"/proc/{running.process.pid}/stat")
    eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the daemon stops")


@pytest.mark.parametrize("ack", ["written", "kernel"])
def test_closed(ack: str, tmp_path: Path) -> None:
    """Nothing is sent over what is closed: all arrives over the next connection, once and in order."""
    figures, verdict = close("", f"&ack={ack}", tmp_path)
    report(f"small batches, one of three closes, {ack}", **figures)

    assert verdict.exact, verdict
    assert figures["accepted"] == figures["delivered"] == figures["sent"]
    assert figures["in_convoys"] > CLOSES


@pytest.mark.parametrize("ack", ["written", "kernel"])
def test_closed_to_who_tries_once(ack: str, tmp_path: Path) -> None:
    """With retry-attempts=1, what is delivered has arrived, and what is not has not."""
    figures, verdict = close("", f"&retry-attempts=1&ack={ack}", tmp_path)
    report(f"small batches, one of three closes, {ack}, retry-attempts=1", **figures)

    assert not verdict.doubled
    assert not verdict.disordered
    assert figures["arrived"] == figures["delivered"]
    assert figures["accepted"] == figures["delivered"] + figures["failed"] == figures["sent"]
    assert figures["in_convoys"] > CLOSES


@pytest.mark.parametrize("options", ["", "&retry-attempts=1"])
def test_convoy_that_does_not_look(options: str, tmp_path: Path) -> None:
    """Control: what it wrote after the end counts as delivered, and nobody has it."""
    figures, verdict = close(BLIND, f"&ack=written{options}", tmp_path)
    report(f"small batches, one of three closes, control: does not look{options}", **figures)

    assert verdict.lost
    assert figures["arrived"] < figures["delivered"]


# -- frozen ----------------------------------------------------------------------------------------------


def burst(port: int, ledger: Ledger, count: int, well: Sequence[Record]) -> float:
    """Send so many messages at their pace, and return how many a second arrive at both that are well."""
    began = time.monotonic()
    with Feed(port, ledger, size=SIZE, rate=RATE, chunk=1) as feed:
        goal = len(ledger.sent) + count
        for each in well:
            each.wait_for(goal)
        took = time.monotonic() - began
        feed.stop()
    for each in well:
        each.wait_for(len(ledger.sent))
    return count / took


def test_frozen(tmp_path: Path) -> None:
    """Those that are well keep their pace, and what waits for the one that is not is bounded."""
    convoys = WatchedConvoys(tmp_path)
    ledger = Ledger()
    rates: dict[bool, list[float]] = {False: [], True: []}
    with (
        ProcessConsumer(receive_buffer=2 * RECEIVE_BUFFER) as third,
        sailing(convoys, third, f"&buffer={LIMIT}") as (running, well),
    ):
        for _ in range(times(2, 20)):
            rates[False].append(burst(running.port, ledger, RATE // 4, well))
            third.freeze()
            rates[True].append(burst(running.port, ledger, RATE // 4, well))
            third.thaw()
            third.wait_for(len(ledger.sent))
        idle = memory(running, "VmRSS")
        third.freeze()
        for _ in range(times(3, 30)):
            burst(running.port, ledger, RATE, well)
        grown = (memory(running, "VmHWM") - idle) / LIMIT
        dropped = running.consumer("third")["dropped"]
        third.thaw()
        deliver_all(running, "third")
        counted = end(running)

        assert all(ledger.judge(each.messages).exact for each in well)
    # Within a round, the machine is as fast for both of them; from one round to another it may not be.
    kept = median(beside / alone for beside, alone in zip(rates[True], rates[False], strict=True))
    report(
        "small batches, one of three frozen",
        sent=len(ledger.sent),
        in_convoys=convoys.sent,
        kept=kept,
        of_limit=grown,
        dropped=dropped,
    )

    assert convoys.sent > len(ledger.sent) * SAIL
    assert kept >= KEPT
    assert grown <= MEMORY
    assert dropped > 0
    assert counted["accepted"] == len(ledger.sent) == counted["delivered"] + counted["dropped"]


def memory(running: Daemon, of: str) -> int:
    """Return what it takes of memory, in bytes: VmRSS now, or VmHWM at the most."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(of))


# -- the end -----------------------------------------------------------------------------------------------


def test_terminated(tmp_path: Path) -> None:
    """A daemon that is asked to end in the middle of it delivers all that it took."""
    sent = sailed = 0
    for cycle in range(times(3, 100)):
        folder = tmp_path / str(cycle)
        folder.mkdir()
        convoys = WatchedConvoys(folder)
        ledger = Ledger()
        with ProcessConsumer() as third, sailing(convoys, third, "") as (running, well):
            with Feed(running.port, ledger, size=SIZE, rate=RATE, chunk=1):
                third.wait_for(random.randrange(100, 1000))
            counted = end(running)
            sent += len(ledger.sent)
            sailed += convoys.sent

            assert counted["accepted"] == counted["delivered"] == len(ledger.sent)
            assert all(ledger.judge(each.wait_for(len(ledger.sent))).exact for each in (*well, third))
    report("small batches, SIGTERM under load", cycles=cycle + 1, sent=sent, in_convoys=sailed)

    assert sailed > sent * SAIL


# -- who is in one -----------------------------------------------------------------------------------------


PLAIN = {"tcp", "tcp, written", "unix, written", "unix, kernel"}


async def test_who_sails(tmp_path: Path) -> None:
    """Those for whom nothing is added to what is sent: no encryption, and no answers."""
    authority = Authority(tmp_path)
    listen = {
        "tcp": ("tcp://127.0.0.1:0", ""),
        "tcp, written": ("tcp://127.0.0.1:0", "?ack=written"),
        "unix, written": (f"unix://{tmp_path}/written.sock", "?ack=written"),
        "unix, kernel": (f"unix://{tmp_path}/kernel.sock", "?ack=kernel"),
        "app": ("tcp://127.0.0.1:0?ack-after=received", "?ack=app"),
        "tls": (f"tcp+tls://127.0.0.1:0?{authority.issue().query}", f"?tls-ca={authority.file}"),
        "ws": ("ws://127.0.0.1:0", ""),
        "spread": ("udp://127.0.0.1:0", ""),
    }
    came: dict[str, list[bytes]] = {name: [] for name in listen}
    async with AsyncExitStack() as stack:
        inner = await stack.enter_async_context(AsyncProducerPool())
        await inner.add_producer("null", "null:")
        pool = await stack.enter_async_context(AsyncProducerPool(policy=DeliveryPolicy.relay()))
        for name, (url, options) in listen.items():

            async def note(message: bytes, name: str = name) -> None:
                came[name].append(message)

            server = await stack.enter_async_context(await bind_transport_async(url, inner, on_message=note))
            await pool.add_producer(name, str(server.endpoint.raw).partition("?")[0] + options)
        await pool.check(wait=BOUND)
        sent: list[bytes] = []
        sails: set[str] = set()

        def fed() -> bool:
            sent.append(b"%d" % len(sent))
            pool.intake.feed(Batch.from_wire(sent[-1] + b"\n", LINES))
            sails.update(one.id for convoy in pool.engine._convoys.values() for one in convoy._members)
            return len(sent) >= 50 and len(sails) >= len(PLAIN)

        await until(fed, "they sail")
        await until(lambda: all(len(each) == len(sent) for each in came.values()), "all have all")

    assert sails == PLAIN
    assert came == dict.fromkeys(listen, sent)
