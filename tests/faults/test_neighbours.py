"""
Consumers that are frozen, refuse, never read, raise, or answer slowly, beside one that is well.

First one of them, then all but the one that is well. That one keeps its throughput and its order, and waits
for nobody; and what waits for the others stays within the limits that they were given.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from support.consumers import ProcessConsumer
from support.contenders import QUICK
from support.faults import FULL, report, times
from support.ledger import Ledger
from support.naive_relay import naive_relay
from support.processes import Daemon, daemon
from support.producers import Feed, connected
from support.waiting import eventually, steady

OTHERS = 3
"""Consumers besides the one that is well."""
SIZE = 500
BURST = 6_000
"""Messages of which the throughput is measured."""
ROUNDS = times(3, 30)

KEPT = 0.95 if FULL else 0.2
"""The part of its throughput that the one that is well keeps: where other tests run, any good part of it."""

LIMIT = 3 * 1024 * 1024
"""Bytes that each producer may hold."""
FLOOD = 10 * LIMIT // SIZE
"""Messages of which all of them together can hold a part."""
MEMORY = 1.5
"""Of the sum of the limits: by so much the daemon may grow above what it takes when it is idle."""

KINDS = ("frozen", "refuses", "never reads", "raises", "slow")

RAISING = """
from pathlib import Path
from producer_pool.plugin import Client, Transport, hookimpl

class Moody(Client):
    protocol_name = "moody"

    def __init__(self, endpoint, options):
        self.address = str(endpoint)
        self.mood = Path(endpoint.path)

    async def send(self, message):
        if self.mood.exists():
            raise ZeroDivisionError("in a bad mood")

@hookimpl
def producer_pool_transports():
    yield Transport(schemes=("moody",), client=Moody)
"""


class Company:
    """A daemon with consumers of which all but one can be made *kind* of bad, and well again."""

    def __init__(self, stack: ExitStack, folder: Path, kind: str, limit: int = LIMIT) -> None:
        self.kind = kind
        self.ledger = Ledger()
        self.well = stack.enter_context(ProcessConsumer())
        self._consumers: list[ProcessConsumer] = []
        self._moods = [folder / f"mood{number}" for number in range(OTHERS)]
        options = f"{QUICK}&buffer={limit}"
        plugin: list[str] = []
        if kind == "raises":
            (folder / "moody.py").write_text(RAISING)
            plugin = ["--plugin", str(folder / "moody.py")]
            urls = [f"moody:{mood}" for mood in self._moods]
        else:
            for _ in range(OTHERS):
                self._consumers.append(
                    stack.enter_context(ProcessConsumer(receive_buffer=8192, answers=kind == "slow"))
                )
            urls = [consumer.url for consumer in self._consumers]
            options += "&ack=app" if kind == "slow" else ""
        targets = [part for number, url in enumerate(urls) for part in ("--to", f"o{number}={url}?{options}")]
        # The one that is well makes its source wait, so that nothing of its own is dropped.
        well = f"well={self.well.url}?{QUICK}&buffer={LIMIT}&overflow=block"
        self.daemon: Daemon = stack.enter_context(daemon(*plugin, "--to", well, *targets))
        self._sock: socket.socket = stack.enter_context(connected(self.daemon.port))

    def spoil(self, count: int) -> None:
        """Make so many of the others bad."""
        for number in range(count):
            if self.kind == "raises":
                self._moods[number].touch()
                continue
            consumer = self._consumers[number]
            if self.kind == "frozen":
                consumer.freeze()
            else:
                consumer.kill()
            if self.kind == "never reads":
                consumer.start(reads=False)
            elif self.kind == "slow":
                consumer.start(rate=200_000)

    def heal(self, count: int) -> None:
        """Make them well again, and wait until nothing is left of it."""
        for number in range(count):
            if self.kind == "raises":
                self._moods[number].unlink()
                continue
            consumer = self._consumers[number]
            if self.kind == "frozen":
                consumer.thaw()
            else:
                consumer.kill()
                consumer.start(reads=True, rate=0)
        eventually(self.has_settled, "all is settled")

    def has_settled(self) -> bool:
        consumers = self.daemon.status()["consumers"]
        return not any(counted["pending"] for counted in consumers.values())

    def burst(self, count: int = BURST) -> float:
        """Send many messages, and return how many a second arrive at the one that is well."""
        messages = self.ledger.write_many(count, size=SIZE)
        data = b"".join(message + b"\n" for message in messages)
        began = time.monotonic()
        self._sock.sendall(data)
        self.well.wait_for(len(self.ledger.sent))
        return count / (time.monotonic() - began)

    def memory(self, of: str) -> int:
        """Return what the daemon takes of memory, in bytes: VmRSS now, or VmHWM at the most."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(of))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", KINDS)
def test_well_consumer_keeps_its_throughput(kind: str, stack: ExitStack, tmp_path: Path) -> None:
    """It takes as much as when they all are well, and in order."""
    company = Company(stack, tmp_path, kind)
    rates: dict[int, list[float]] = {0: [], 1: [], OTHERS: []}
    for _ in range(ROUNDS):
        # In turns: what else the machine does then hurts all of them.
        for bad, measured in rates.items():
            company.spoil(bad)
            measured.append(company.burst())
            company.heal(bad)
    # Within a round, the machine is as fast for all of them; from one round to another it may not be.
    kept = {
        bad: median(beside / alone for beside, alone in zip(measured, rates[0], strict=True))
        for bad, measured in rates.items()
    }
    verdict = company.ledger.judge(company.well.messages)
    report(
        f"neighbours: {kind}, throughput",
        rounds=ROUNDS,
        all_well_per_s=round(median(rates[0])),
        kept_beside_one=kept[1],
        kept_beside_all=kept[OTHERS],
    )

    assert verdict.exact, verdict
    assert kept[1] >= KEPT
    assert kept[OTHERS] >= KEPT


@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_within_limits(kind: str, stack: ExitStack, tmp_path: Path) -> None:
    """However much comes that all but one do not take; that one has it all."""
    grown = growth(Company(stack, tmp_path, kind))
    report(f"neighbours: {kind}, memory", sent=FLOOD, of_limits=grown)

    assert grown <= MEMORY


def test_control_grows(stack: ExitStack, tmp_path: Path) -> None:
    """Without limits worth the name, the same flood takes more: so it is they that hold it."""
    grown = growth(Company(stack, tmp_path, "frozen", limit=100 * FLOOD * SIZE))
    report("neighbours: frozen, control: no limits", sent=FLOOD, of_limits=grown)

    assert grown > MEMORY


def growth(company: Company) -> float:
    """Flood a company of which one alone is well; return the growth of the daemon, in sums of the limits."""
    company.burst(100)
    eventually(company.has_settled, "all is settled")
    idle = company.memory("VmRSS")
    company.spoil(OTHERS)
    company.burst(FLOOD)
    verdict = company.ledger.judge(company.well.messages)

    assert verdict.exact, verdict
    return (company.memory("VmHWM") - idle) / ((OTHERS + 1) * LIMIT)


@pytest.mark.parametrize("kind", ["frozen", "never reads", "refuses"])
def test_control_waits(kind: str) -> None:
    """A relay that serves one after the other keeps the one that is well waiting for the one that is not."""
    ledger = Ledger()
    with ProcessConsumer(reads=kind != "never reads") as bad, ProcessConsumer() as well:
        if kind == "frozen":
            bad.freeze()
        elif kind == "refuses":
            bad.kill()
        with naive_relay(bad.url, well.url) as running:
            feed = Feed(running.port, ledger, size=SIZE, rate=0)

            def behind() -> tuple[int, int] | None:
                arrived = len(well.messages)
                sent = len(ledger.sent)
                return (sent, arrived) if sent > arrived else None

            # Until the buffers on the way are full, it gets something.
            found = steady(behind, 0.5, "nothing is taken any more, and nothing arrives")
            running.process.kill()
            feed.stop()
    assert found is not None
    sent, arrived = found
    report(f"neighbours: {kind}, control: naive", sent=sent, arrived=arrived)

    assert arrived < sent
