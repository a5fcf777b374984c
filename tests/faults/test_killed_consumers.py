"""
Consumers that are killed in mid-stream, again and again.

A kernel acknowledges what the process has not read yet, and forgets it when the process is killed. So at
KERNEL, that much may be lost at each kill, and nothing else; on unix sockets, where KERNEL means that the
process has read it, nothing at all; and nothing at APP, where the process itself says what it has.
"""

import random
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.arrivals import read_to_the_ends
from support.consumers import ProcessConsumer
from support.contenders import CONTROLS, QUICK, counted, finish, relay
from support.faults import report, times
from support.ledger import Ledger, Verdict
from support.producers import Feed
from support.waiting import eventually, steady

SIZE = 256
FRAME = SIZE + 1

RECEIVE_BUFFER = 4096
HELD = 2 * RECEIVE_BUFFER
"""Bytes that the receive buffer of one connection holds at the most: the kernel doubles what is asked."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")

POLICY = f"{QUICK}&overflow=block&buffer=2MB"

RATES = {"fast": 0, "slow": 1_000_000}
"""Bytes that a reader takes in a second; 0: what it can."""

LIFE = {"fast": (2000, 6000), "slow": (200, 2000)}
"""Between how many messages one of its processes lives."""


@dataclass
class Ending:
    """How a story ended."""

    verdict: Verdict
    """What is wrong with the consumer's record."""
    counted: dict[str, Any]
    """What the daemon counted."""
    sent: int
    kills: int
    recovered_s: float
    """The longest time from a start of the consumer to its first message."""

    @property
    def lost(self) -> int:
        """Bytes of messages that never arrived."""
        return len(self.verdict.lost) * FRAME

    @property
    def figures(self) -> dict[str, object]:
        return {
            "kills": self.kills,
            "sent": self.sent,
            "lost": len(self.verdict.lost),
            "doubled": len(self.verdict.doubled),
            "recovered_s": self.recovered_s,
        }


def story(
    kind: str,
    consumer: ProcessConsumer,
    reader: str,
    kills: int,
    *,
    ack: str = "kernel",
    over: int = 0,
    full: bool = False,
) -> Ending:
    """
    Kill *consumer* in the middle of a stream so often, and then let everything arrive that will.

    With *over*, it stands still before that until more than so many bytes wait in the relay's buffer; when
    it is to be *full*, until the relay takes nothing any more.
    """
    ledger = Ledger()
    recovered = 0.0
    with relay(kind, f"{consumer.url}?{POLICY}&ack={ack}") as running:
        with Feed(running.port, ledger, size=SIZE, rate=0):
            for kill in range(kills):
                consumer.wait_for(len(consumer.messages) + random.randrange(*LIFE[reader]))
                if over or full:
                    consumer.freeze()
                if over:
                    eventually(lambda: consumer.untaken > over, "more is on its way than its kernel takes")
                if full:
                    steady(lambda: len(ledger.sent), 0.2, "nothing is taken any more")
                consumer.kill()
                seen = len(consumer.messages)
                began = time.monotonic()
                if kill == kills - 1:
                    consumer.start(rate=0)
                else:
                    consumer.start()
                consumer.wait_for(seen + 1)
                recovered = max(recovered, time.monotonic() - began)
        finish(running)
        record = read_to_the_ends(consumer)
        return Ending(ledger.judge(record), counted(running), len(ledger.sent), kills, recovered)


@pytest.mark.parametrize("reader", RATES)
def test_killed(reader: str) -> None:
    """What was not acknowledged is sent again, in order; lost is at most what its receive buffers held."""
    with ProcessConsumer(receive_buffer=RECEIVE_BUFFER, rate=RATES[reader]) as consumer:
        ending = story("product", consumer, reader, times(4, 50))
    report(f"consumer killed, {reader} reader, kernel", **ending.figures)

    assert not ending.verdict.disordered
    assert not ending.verdict.corrupt
    # Twice: a connection that comes in while the process is dying has a buffer, too.
    assert ending.lost <= ending.kills * 2 * HELD
    assert ending.counted["delivered"] == ending.counted["accepted"] == ending.sent
    assert len(ending.verdict.doubled) <= ending.counted["resent"]


@pytest.mark.parametrize("reader", RATES)
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_lose(control: str, reader: str) -> None:
    """A relay that takes what it wrote for delivered loses what was in its own buffer, too."""
    with ProcessConsumer(receive_buffer=RECEIVE_BUFFER, rate=RATES[reader]) as consumer:
        # A fast reader may have everything when it is killed, where the feed is late.
        ending = story(control, consumer, reader, times(3, 10), over=2 * HELD)
    report(f"consumer killed, {reader} reader, control: {control}", **ending.figures)

    assert ending.lost > ending.kills * 2 * HELD


@pytest.mark.parametrize("reader", RATES)
def test_killed_at_unix_socket(reader: str, tmp_path: Path) -> None:
    """Nothing is lost: what it had not read is sent again, in order."""
    with ProcessConsumer(path=tmp_path / "killed.sock", rate=RATES[reader]) as consumer:
        ending = story("product", consumer, reader, times(4, 20))
    report(f"unix consumer killed, {reader} reader, kernel", **ending.figures)

    assert ending.verdict.complete, ending.verdict
    assert ending.counted["delivered"] == ending.counted["accepted"] == ending.sent
    assert len(ending.verdict.doubled) <= ending.counted["resent"]


@pytest.mark.parametrize("reader", RATES)
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_lose_at_unix_socket(control: str, reader: str, tmp_path: Path) -> None:
    """What was in the buffer between them was written, and never read."""

    def told() -> Ending:
        with ProcessConsumer(path=tmp_path / "killed.sock", rate=RATES[reader]) as consumer:
            return story(control, consumer, reader, times(3, 20), full=True)

    tries = count(1)
    while not (ending := told()).verdict.lost and next(tries) < 5:
        pass  # It had everything each time that it was killed.
    report(f"unix consumer killed, {reader} reader, control: {control}", **ending.figures)

    assert ending.verdict.lost


@pytest.mark.parametrize("reader", RATES)
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_killed_while_it_acknowledges(scheme: str, reader: str, tmp_path: Path) -> None:
    """At APP nothing is lost: what it had not acknowledged itself is sent again, in order."""
    path = tmp_path / "killed.sock" if scheme == "unix" else None
    with ProcessConsumer(
        path=path, receive_buffer=RECEIVE_BUFFER, rate=RATES[reader], answers=True
    ) as consumer:
        ending = story("product", consumer, reader, times(3, 50), ack="app")
    report(f"{scheme} consumer killed, {reader} reader, app", **ending.figures)

    assert ending.verdict.complete, ending.verdict
    assert ending.counted["delivered"] == ending.counted["accepted"] == ending.sent
    assert len(ending.verdict.doubled) <= ending.counted["resent"]
