"""
Messages that break the connection each time their consumer sees one, among good ones.

The consumer answers each message that it has taken: so the client knows at which one the connection broke.
"""

import time
from collections.abc import Iterator

import pytest

from producer_pool import Limits, Outcome, ProducerPool, Receipt
from support.arrivals import read_to_the_ends
from support.consumers import ProcessConsumer, RecordingConsumer
from support.contenders import CONTROLS, QUICK
from support.faults import report, times
from support.ledger import Ledger
from support.naive_relay import NaiveSender
from support.waiting import BOUND, eventually

POISONS = times(2, 20)
AMONG = 300
"""Good messages before each, and behind the last."""
SIZE = 400
"""Bytes of a message."""
BEHIND = 200
"""
Messages that are written behind a poison before its consumer sees it, where nobody looks: more than it takes
out of its kernel at once, which is in its record.
"""
ATTEMPTS = 3
POLICY = f"{QUICK}&ack=app&deadline=1h"


@pytest.fixture
def touchy() -> Iterator[ProcessConsumer]:
    with ProcessConsumer(poison="POISON", answers=True) as touchy:
        yield touchy


def messages(ledger: Ledger) -> tuple[list[bytes], list[bytes]]:
    """Return all messages in their order, and those among them that are poison."""
    poisons = []
    for _ in range(POISONS):
        ledger.write_many(AMONG, size=SIZE)
        poisons.append(ledger.write(filling=b"POISON"))
    ledger.write_many(AMONG, size=SIZE)
    return ledger.sent, poisons


def test_attempts_are_limited(touchy: ProcessConsumer) -> None:
    """Each poison fails after so many attempts, and nothing else: those behind it have only waited."""
    ledger = Ledger()
    sent, poisons = messages(ledger)
    with RecordingConsumer() as well, ProducerPool() as pool:
        pool.add_producer("well", well.url)
        pool.add_producer("touchy", f"{touchy.url}?{POLICY}&retry-attempts={ATTEMPTS}")
        began = time.monotonic()
        receipts = {message: pool.submit(message) for message in sent}
        results = {message: receipt.results(wait=BOUND) for message, receipt in receipts.items()}
        took = time.monotonic() - began
        record = touchy.messages
        # The read that ends with a poison may end inside of it.
        reached = [*record, *(stream.tail for stream in touchy.streams)]
        breaks = pool.stats().producers["touchy"].breaks
    verdict = ledger.judge(record)
    report(
        f"poison, retry-attempts={ATTEMPTS}",
        poisons=POISONS,
        good=len(sent) - POISONS,
        failed=sum(not result["touchy"].ok for result in results.values()),
        lost=len(verdict.lost),
        doubled=len(verdict.doubled),
        breaks=breaks,
        took_s=took,
    )

    assert [message for message in sent if not results[message]["touchy"].ok] == poisons
    for poison in poisons:
        result = results[poison]["touchy"]

        assert result.outcome is Outcome.FAILED
        assert "reset" in str(result.error)
        begins = poison.partition(b"POISON")[0] + b"POISON"
        assert ATTEMPTS <= sum(one.startswith(begins) for one in reached) <= result.attempts
    # One that breaks behind a good message that was not answered yet uses up an attempt of that.
    assert breaks <= POISONS * (ATTEMPTS + 1)
    assert verdict.complete, verdict
    assert ledger.judge(well.messages).exact


def test_attempts_are_not_limited(touchy: ProcessConsumer) -> None:
    """The state says in words what happens; nothing fails, nobody else waits, and all arrives in the end."""
    ledger = Ledger()
    sent, poisons = messages(ledger)
    with RecordingConsumer() as well, ProducerPool(limits=Limits(drain=0.1)) as pool:
        pool.add_producer("well", well.url)
        pool.add_producer("touchy", f"{touchy.url}?{POLICY}&retry-attempts=unlimited")
        receipts = [pool.submit(message) for message in sent]
        well.wait_for(len(sent))
        reason = eventually(
            lambda: next(filter(told, [pool.health()["touchy"].reason]), ""), "it is told in words"
        )
        outcomes = [receipt.results(wait=0)["touchy"].outcome for receipt in receipts]
        touchy.kill()
        touchy.start(poison="")
        results = outcomes_of(receipts)
        verdict = ledger.judge(touchy.messages)
    report("poison, any number of attempts", poisons=POISONS, lost=len(verdict.lost))

    assert "see retry-attempts=" in reason
    assert outcomes == [Outcome.DELIVERED] * AMONG + [Outcome.PENDING] * (len(sent) - AMONG)
    assert ledger.judge(well.messages).exact
    assert results == {Outcome.DELIVERED}
    assert verdict.complete, verdict
    assert set(poisons) <= set(touchy.messages)


def told(reason: str) -> bool:
    return "connections in a row broke at the same message" in reason


def outcomes_of(receipts: list[Receipt]) -> set[Outcome]:
    """Return what became of messages, once all is settled."""
    return {receipt.results(wait=BOUND)["touchy"].outcome for receipt in receipts}


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_lose(control: str, touchy: ProcessConsumer) -> None:
    """What was written behind a poison is taken for delivered, and the broken connection swallows it."""
    ledger = Ledger()
    sent, poisons = messages(ledger)
    sender = NaiveSender(touchy.url, resend=control == "resend")
    for number, message in enumerate(sent):
        if message in poisons:
            touchy.freeze()  # It does not break before something is written behind it.
        sender.send(message)
        if number >= BEHIND and sent[number - BEHIND] in poisons:
            touchy.thaw()
    sender.close()
    verdict = ledger.judge(read_to_the_ends(touchy), expected=sender.claimed)
    report(f"poison, control: {control}", poisons=POISONS, lost=len(verdict.lost))

    assert set(verdict.lost) - set(poisons)
