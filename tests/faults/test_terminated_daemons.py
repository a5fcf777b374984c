"""
Daemons that are asked to end while much comes in, again and again, and beside plugins that hang.

They read what has arrived, deliver it, say what remained, and are gone in time.
"""

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.arrivals import read_to_the_ends
from support.consumers import ProcessConsumer
from support.faults import FULL, report, times
from support.ledger import Ledger
from support.naive_relay import naive_relay
from support.processes import daemon
from support.producers import Feed, send_lines
from support.waiting import eventually

CYCLES = times(4, 100)
DRAIN = 1.0
"""Seconds that a daemon has beside what hangs."""
ENOUGH = times(20.0, DRAIN)
"""Seconds that it has to deliver what it has: where other tests run, far more than that takes."""
AT_ONCE = 1.0 * (1 if FULL else 10)
"""Seconds within which it is gone after that: where other tests run, ten times what is promised."""

HANGING = """
import asyncio, sys, threading, time
from producer_pool.plugin import BlockingClient, Client, Transport, hookimpl

class Hanging(Client):
    protocol_name = "hanging"

    def __init__(self, endpoint, options):
        self.address = str(endpoint)

class Connect(Hanging):
    async def connect(self):
        await asyncio.Event().wait()

    async def send(self, message):
        raise AssertionError

class Send(Hanging):
    async def send(self, message):
        await asyncio.Event().wait()

class Close(Send):
    async def aclose(self):
        await asyncio.Event().wait()

class Stubborn(Hanging):
    async def send(self, message):
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

class Blocking(Hanging):
    async def send(self, message):
        print("blocks now", file=sys.stderr, flush=True)
        time.sleep(3600)

class Thread(Hanging):
    async def send(self, message):
        # Not a daemon: the interpreter waits for it at its end.
        threading.Thread(target=threading.Event().wait).start()
        await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

class Vendor:
    def send(self, message):
        threading.Event().wait()

@hookimpl
def producer_pool_transports():
    yield Transport(schemes=("hangs-in-connect",), client=Connect)
    yield Transport(schemes=("hangs-in-send",), client=Send)
    yield Transport(schemes=("hangs-in-aclose",), client=Close)
    yield Transport(schemes=("takes-no-cancellation",), client=Stubborn)
    yield Transport(schemes=("leaves-threads-behind",), client=Thread)
    yield Transport(schemes=("blocks-the-loop",), client=Blocking)
    yield Transport(schemes=("hangs-in-a-thread",), client=lambda endpoint, options: BlockingClient(Vendor()))
"""
HANGS = (
    "hangs-in-connect",
    "hangs-in-send",
    "hangs-in-aclose",
    "takes-no-cancellation",
    "hangs-in-a-thread",
    "leaves-threads-behind",
)


def test_terminated_under_load() -> None:
    """What its kernel had taken arrives at both, in order; it ends with 0, in time, and nothing remained."""
    lost = doubled = sent = 0
    longest = 0.0
    with ProcessConsumer() as one, ProcessConsumer() as two:
        for _ in range(CYCLES):
            before = len(one.messages)
            ledger = Ledger()
            with daemon("--to", f"one={one.url}", "--to", f"two={two.url}", f"--drain={ENOUGH}s") as running:
                with Feed(running.port, ledger, rate=0):
                    one.wait_for(before + random.randrange(500, 5000))
                began = time.monotonic()
                assert running.terminate() == 0, running.said
                longest = max(longest, time.monotonic() - began)
            count = len(ledger.sent)
            sent += count
            for consumer in (one, two):
                verdict = ledger.judge(consumer.wait_for(before + count)[before:])
                lost += len(verdict.lost)
                doubled += len(verdict.doubled)

                assert verdict.exact, verdict
            assert running.lines[-2:] == [
                f"{name}: {count:,} accepted, {count:,} delivered (kernel); nothing remained"
                for name in ("one", "two")
            ]
    report("SIGTERM under load", cycles=CYCLES, sent=sent, lost=lost, doubled=doubled, ended_s=longest)

    assert longest < DRAIN + AT_ONCE


def learns(feed: Feed) -> None:
    """Wait until the producer knows that nobody takes what it sends any more."""
    eventually(lambda: feed.broken, "the producer learns of it")


def test_terminated_while_a_producer_sends_on() -> None:
    """What it accepted is delivered, without a gap, and it ends in time: it does not wait for its end."""
    accepted = sent = 0
    longest = 0.0
    cycles = times(2, 20)
    with ProcessConsumer() as consumer:
        for _ in range(cycles):
            before = len(consumer.messages)
            ledger = Ledger()
            with (
                daemon("--to", f"one={consumer.url}", f"--drain={ENOUGH}s") as running,
                Feed(running.port, ledger, rate=2000) as feed,
            ):
                consumer.wait_for(before + random.randrange(100, 500))
                began = time.monotonic()
                code = running.terminate()
                longest = max(longest, time.monotonic() - began)
                learns(feed)
            count = running.last["consumers"]["one"]["accepted"]
            record = consumer.wait_for(before + count)[before:]

            assert code == 0, running.said
            assert ledger.judge(record, expected=ledger.sent[:count]).exact
            accepted += count
            sent += len(ledger.sent)
    report("SIGTERM while a producer sends on", cycles=cycles, sent=sent, accepted=accepted, ended_s=longest)

    assert longest < DRAIN + AT_ONCE


@pytest.mark.parametrize("scheme", HANGS)
def test_terminated_beside_a_plugin_that_hangs(scheme: str, tmp_path: Path) -> None:
    """The others have everything; it ends with 1, in time, and says what remained for the one that hangs."""
    ledger = Ledger()
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGING)
    with (
        ProcessConsumer() as well,
        daemon(
            *("--plugin", str(plugin), f"--drain={DRAIN}s"),
            *("--to", f"well={well.url}", "--to", f"hung={scheme}:"),
        ) as running,
    ):
        send_lines(running.port, ledger.write_many(1000, size=200))
        well.wait_for(1000)
        running.settled("well", 1000)
        began = time.monotonic()
        code = running.terminate()
        took = time.monotonic() - began
        verdict = ledger.judge(well.messages)
    report(f"SIGTERM beside a plugin: {scheme}", ended_s=took, exit_code=code)

    assert code == 1
    assert verdict.exact
    assert "well: 1,000 accepted, 1,000 delivered (kernel); nothing remained" in running.lines, running.said
    hung = next(line for line in running.lines if line.startswith("hung: 1,000 accepted, 0 delivered"))
    assert hung.endswith("; 1,000 remained")
    assert took < DRAIN + AT_ONCE


def test_terminated_beside_a_plugin_that_blocks_the_loop(tmp_path: Path) -> None:
    """Nobody can be served any more; it ends with 1 all the same, in time, and says what remained."""
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGING)
    with (
        ProcessConsumer() as well,
        daemon(
            *("--plugin", str(plugin), f"--drain={DRAIN}s"),
            *("--to", f"well={well.url}", "--to", "hung=blocks-the-loop:"),
        ) as running,
    ):
        send_lines(running.port, Ledger().write_many(10))
        running.wait_for_line("^blocks now$")
        began = time.monotonic()
        code = running.terminate()
        took = time.monotonic() - began
    report("SIGTERM beside a plugin: blocks-the-loop", ended_s=took, exit_code=code)

    assert code == 1
    assert running.lines[-1] == "hung: 10 accepted, 0 delivered (written); 10 remained"
    assert running.last["event"] == "end"
    assert took < DRAIN + AT_ONCE


def test_control_loses() -> None:
    """A relay that ends as any program does takes along what it had."""
    lost = sent = cycles = 0
    with ExitStack() as stack:
        consumer = stack.enter_context(ProcessConsumer())
        # It may be asked to end when it has nothing: then once more.
        while cycles < times(1, 20) or (not lost and cycles < 20):
            cycles += 1
            before = len(consumer.messages)
            ledger = Ledger()
            with naive_relay(consumer.url) as running:
                with Feed(running.port, ledger, rate=0):
                    consumer.wait_for(before + 500)
                running.process.terminate()
                running.process.wait()
            lost += len(ledger.judge(read_to_the_ends(consumer)[before:]).lost)
            sent += len(ledger.sent)
    report("SIGTERM under load, control: naive", cycles=cycles, sent=sent, lost=lost)

    assert lost
