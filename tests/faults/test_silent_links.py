"""
Links that swallow every packet, both ways: for two seconds, and for good.

No end of a connection is told. What was written lies in the sender's kernel, which tries again until its user
timeout is over, and then throws it away.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool import DeliveryPolicy, Limits, Outcome, ProducerPool
from support.arrivals import read_out
from support.consumers import ProcessConsumer, RecordingConsumer
from support.contenders import CONTROLS, QUICK, counted, finish, relay
from support.faults import FULL, needs_namespaces, report, times
from support.ledger import Ledger
from support.links import Link
from support.naive_relay import NaiveSender
from support.processes import Daemon
from support.producers import Feed
from support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: network namespaces")

SILENCE = 2.0
"""Seconds for which a link is silent before it is back."""

USER_TIMEOUT = 0.8

COUNT = 100
"""Messages that a kernel takes, though nobody acknowledges any."""

ESTABLISHED = "01"

DETECTED = (USER_TIMEOUT + 1) * (1 if FULL else 10)
"""Seconds until it has to be known: where other tests run, ten times what is promised."""


@pytest.fixture
def link() -> Iterator[Link]:
    needs_namespaces()
    with Link() as link:
        yield link


@pytest.fixture
def consumer(link: Link) -> Iterator[ProcessConsumer]:
    with ProcessConsumer(link=link) as consumer:
        yield consumer


def silence_and_wait(link: Link, running: Daemon) -> float:
    """Silence the link, and return how many seconds it took the daemon to say that its consumer is gone."""

    def said() -> int:
        return sum("c0: down: " in line for line in running.lines)

    before, began = said(), time.monotonic()
    link.silence()
    eventually(lambda: said() > before, "it is found out")
    return time.monotonic() - began


def connections_to(consumer: ProcessConsumer) -> int:
    """Return how many connections from here to *consumer* this kernel has not given up."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == ESTABLISHED and int(row[2].rpartition(":")[2], 16) == consumer.port for row in rows)


CHUNKS = {"large batches": (Feed.CHUNK, 20_000.0), "single messages": (1, 5_000.0)}
"""How many messages come at once, and in a second: singles go to the consumer past its outbox."""


def story(
    kind: str, link: Link, consumer: ProcessConsumer, silences: int, chunks: str = "large batches"
) -> dict[str, float]:
    """Have the link silent for a while in the middle of a stream so often; return what became of it."""
    chunk, rate = CHUNKS[chunks]
    ledger = Ledger()
    detected = recovered = 0.0
    url = f"{consumer.url}?{QUICK}&user-timeout={USER_TIMEOUT}s"
    with relay(kind, url, user_timeout=USER_TIMEOUT) as running:
        with Feed(running.port, ledger, chunk=chunk, rate=rate) as feed:
            for _ in range(silences):
                consumer.wait_for(len(consumer.messages) + 2000)
                began = time.monotonic()
                if isinstance(running, Daemon):
                    detected = max(detected, silence_and_wait(link, running))
                else:
                    link.silence()
                    eventually(lambda: not connections_to(consumer), "its kernel gives the connection up")
                time.sleep(max(0.0, began + SILENCE - time.monotonic()))
                link.heal()
                seen, began = len(consumer.messages), time.monotonic()
                consumer.wait_for(seen + 1)
                recovered = max(recovered, time.monotonic() - began)
            feed.stop()
        finish(running)
        verdict = ledger.judge(read_out(consumer))
        return {
            "silences": silences,
            "sent": len(ledger.sent),
            "lost": len(verdict.lost),
            "doubled": len(verdict.doubled),
            "disordered": len(verdict.disordered),
            "corrupt": len(verdict.corrupt),
            "resent": counted(running).get("resent", 0),
            "detected_s": detected,
            "recovered_s": recovered,
        }


@pytest.mark.parametrize("chunks", CHUNKS)
def test_silent_for_a_while(chunks: str, link: Link, consumer: ProcessConsumer) -> None:
    """It is found out in time; what was not acknowledged is sent again once the link is back."""
    figures = story("product", link, consumer, times(1, 10), chunks)
    report(f"link silent for {SILENCE:g} s, {chunks}, kernel", **figures)

    assert 0 < figures["detected_s"] < DETECTED
    assert figures["lost"] == figures["disordered"] == figures["corrupt"] == 0


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_lose(control: str, link: Link, consumer: ProcessConsumer) -> None:
    """With the same user timeout, a relay that believes its writes loses all that its kernel throws away."""
    figures = story(control, link, consumer, 1)
    report(f"link silent for {SILENCE:g} s, control: {control}", **figures)

    assert figures["lost"]


def test_silent_for_good(link: Link, consumer: ProcessConsumer) -> None:
    """It is found out in time; nothing is reported delivered that did not arrive, and nobody else waits."""
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=0.1)) as pool,
    ):
        pool.add_producer("well", well.url)
        pool.add_producer("silent", f"{consumer.url}?{QUICK}&user-timeout={USER_TIMEOUT}s")
        pool.forward_to_all(ledger.write(size=200))
        consumer.wait_for(1)
        link.silence()
        began = time.monotonic()
        receipts = [pool.submit(message) for message in ledger.write_many(COUNT, size=200)]
        eventually(lambda: pool.stats().producers["silent"].breaks, "it is found out")
        detected = time.monotonic() - began
        eventually(lambda: pool.stats().producers["well"].delivered == COUNT + 1, "the other one has all")
        record = well.wait_for(COUNT + 1)
        results = [receipt.results(wait=0) for receipt in receipts]
        counted = pool.stats().producers["silent"]
    report("link silent for good, kernel", detected_s=detected, delivered=counted.delivered, sent=COUNT + 1)

    assert detected < DETECTED
    assert {result["silent"].outcome for result in results} == {Outcome.PENDING}
    assert counted.delivered == len(consumer.messages) == 1
    assert all(result["well"].ok for result in results)
    assert ledger.judge(record).exact


def test_control_believes_a_silent_link(link: Link, consumer: ProcessConsumer) -> None:
    """What the kernel took counts as delivered there, though nobody is at the other end."""
    ledger = Ledger()
    sender = NaiveSender(consumer.url, user_timeout=USER_TIMEOUT)
    sender.send(ledger.write(size=200))
    consumer.wait_for(1)
    link.silence()
    for message in ledger.write_many(COUNT, size=200):
        sender.send(message)
    sender.close()
    verdict = ledger.judge(consumer.messages, expected=sender.claimed)
    report("link silent for good, control: naive", claimed=len(sender.claimed), lost=len(verdict.lost))

    assert len(verdict.lost) == COUNT
