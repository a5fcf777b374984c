"""
Consumers, or balancers before them, that close a connection in good order between two messages.

The end of the stream has come when the next message is about to be written. The kernel takes that message
nevertheless, without an error, and it arrives nowhere.
"""

import time
from collections.abc import Sequence

import pytest

from producer_pool import Batch, DeliveryPolicy, ProducerPool
from producer_pool.builtin.null import NullClient
from support.arrivals import read_to_the_ends
from support.consumers import RecordingConsumer
from support.contenders import CONTROLS, QUICK
from support.faults import report, times
from support.ledger import Ledger
from support.naive_relay import NaiveSender
from support.waiting import BOUND, eventually


class Closer(NullClient):
    """Closes the connections of *consumer* when it is sent something: those who are served first."""

    def __init__(self, consumer: RecordingConsumer) -> None:
        super().__init__()
        self._consumer = consumer

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self._consumer.end_connections()
        return super().start(batches, offset)


def arrives_or_not(closing: RecordingConsumer, before: int) -> None:
    """Wait for more messages than *before*, unless they went into a connection that is closed."""
    eventually(lambda: len(closing.messages) > before or not closing.connections, "a message arrives")


@pytest.mark.parametrize("moment", ["long before", "just before"])
@pytest.mark.parametrize("ack", ["written", "kernel", "app"])
def test_closes_between_messages(ack: str, moment: str) -> None:
    """Each message goes over the next connection: what is reported delivered arrives, once and in order."""
    ledger = Ledger()
    closes = times(50, 1000)
    longest = 0.0
    answers = ack == "app"
    with RecordingConsumer(answers=answers) as closing, ProducerPool(policy=DeliveryPolicy.relay()) as pool:
        if moment == "just before":
            # It is the first producer, so nothing comes between the close and the message.
            pool.add_producer("closer", Closer(closing))
        pool.add_producer("closing", f"{closing.url}?{QUICK}&ack={ack}")
        for turn in range(1, closes + 1):
            began = time.monotonic()
            result = pool.forward_to_all(ledger.write(size=200), wait=BOUND)["closing"]
            longest = max(longest, time.monotonic() - began)

            assert result.ok, result
            closing.wait_for(turn)
            if moment == "long before":
                closing.end_connections()
        verdict = ledger.judge(closing.messages)
        counted = pool.stats().producers["closing"]
        connections = len(closing.streams)
    report(
        f"consumer closes {moment} a message, {ack}",
        closes=closes,
        lost=len(verdict.lost),
        doubled=len(verdict.doubled),
        longest_s=longest,
    )

    assert verdict.exact, verdict
    assert counted.delivered == closes
    assert connections >= closes


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_lose(control: str) -> None:
    """A sender that does not look before it writes takes for delivered what nobody will read."""
    ledger = Ledger()
    closes = times(20, 1000)
    with RecordingConsumer() as closing:
        sender = NaiveSender(closing.url, resend=control == "resend")
        for _ in range(closes):
            before = len(closing.messages)
            sender.send(ledger.write(size=200))
            arrives_or_not(closing, before)
            closing.end_connections()
        sender.close()
        verdict = ledger.judge(read_to_the_ends(closing), expected=sender.claimed)
    report(f"consumer closes before a message, control: {control}", closes=closes, lost=len(verdict.lost))

    assert verdict.lost
