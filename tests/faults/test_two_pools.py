"""
Two pools in a row, of which the second one is killed in mid-stream, again and again.

A kernel acknowledges for a pool what that pool has not read, let alone passed on. So the first pool has to
ask the second one, and the second one to answer when its own consumer has a message.
"""

import random
import sys
from itertools import count

import pytest

from support.arrivals import read_to_the_ends
from support.consumers import ProcessConsumer
from support.contenders import QUICK
from support.faults import report, times
from support.killable import Ending, Killable, deliver_all
from support.ledger import Ledger
from support.processes import daemon
from support.producers import Feed

SIZE = 256
RATE = 4_000_000
"""Bytes that the last consumer takes in a second: so there is something in each pool when it is killed."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")

POLICY = f"{QUICK}&overflow=block&buffer=2MB"


def second_killed(ack: str, after: str, kills: int) -> Ending:
    """Kill the second pool in the middle of a stream so often, and then let everything arrive that will."""
    ledger = Ledger()
    with (
        ProcessConsumer(rate=RATE) as consumer,
        Killable("--to", f"last={consumer.url}?{POLICY}", options=after) as second,
        daemon("--to", f"second=tcp://127.0.0.1:{second.port}?ack={ack}&{POLICY}") as first,
    ):
        with Feed(first.port, ledger, size=SIZE, rate=0):
            for _ in range(kills):
                consumer.wait_for(len(consumer.messages) + random.randrange(2000, 6000))
                second.kill()
            consumer.wait_for(len(consumer.messages) + 2000)
        # At this rate, more may be on its way than goes out in the time that a daemon has at its end.
        deliver_all(first, "second")
        deliver_all(second.running, "last")
        assert first.terminate() == 0, first.said
        assert second.running.terminate() == 0, second.running.said
        record = read_to_the_ends(consumer)
        return Ending(ledger.judge(record), len(ledger.sent), second.kills, second.back_s)


def test_second_pool_is_killed() -> None:
    """Nothing is lost, and the order is kept: what it had not delivered was not acknowledged."""
    ending = second_killed("app", "?ack-after=delivered", times(3, 50))
    report("second of two pools killed, app after delivered", **ending.figures)

    assert ending.verdict.complete, ending.verdict


def test_control_loses() -> None:
    """With trust in the kernel in between, what the second pool had is lost, and what it had not read."""
    tries = count(1)
    while not (ending := second_killed("kernel", "", times(2, 10))).verdict.lost and next(tries) < 5:
        pass  # It had nothing each time that it was killed.
    report("second of two pools killed, control: kernel", **ending.figures)

    assert ending.verdict.lost
