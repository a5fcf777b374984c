"""Consumers at unix sockets that are killed while they are sent something."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from support.consumers import ProcessConsumer, RecordingConsumer
from support.ledger import Ledger, Verdict
from support.processes import Daemon, daemon, run_command

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ"),
    # Dozens of processes are started, perhaps beside others.
    pytest.mark.timeout(180),
]

QUICK = "retry-backoff=5ms&retry-max-backoff=20ms"
"""For URLs: a consumer that comes back is found soon."""
KILLS = 20
SIZE = 200


def arrive(path: Path, ledger: Ledger, count: int) -> None:
    """Send so many messages to the daemon."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"".join([message + b"\n" for message in ledger.write_many(count, size=SIZE)]))


def kill_again_and_again(folder: Path, ack: str) -> tuple[Verdict, dict[str, int], Verdict]:
    """
    Kill a consumer in the middle of much, 20 times, half of them when it has stopped reading.

    Return what is wrong with its record, what the daemon counted, and what is wrong with that of another
    consumer, which lives.
    """
    ledger = Ledger()
    ours = folder / "daemon.sock"
    with (
        RecordingConsumer() as well,
        ProcessConsumer(path=folder / "killed.sock") as killed,
        daemon(
            *("--listen", f"unix://{ours}"),
            *("--to", f"well={well.url}", "--to", f"killed={killed.url}?{QUICK}&ack={ack}"),
            listens=False,
        ) as running,
    ):
        for turn in range(KILLS):
            before = len(killed.messages)
            if turn % 2:
                killed.freeze()
            arrive(ours, ledger, 2000)
            if not turn % 2:
                killed.wait_for(before + 200)
            else:
                # The first of them are in the buffer of the one that does not read.
                running.settled("well", len(ledger.sent))
            killed.kill()
            killed.start()
        arrive(ours, ledger, 100)
        counted = settled(running, ledger)
        if ack == "kernel":
            killed.wait_for(len(ledger.sent))
        return ledger.judge(killed.messages), counted, ledger.judge(well.wait_for(len(ledger.sent)))


def settled(running: Daemon, ledger: Ledger) -> dict[str, int]:
    counted: dict[str, int] = running.settled("killed", len(ledger.sent))
    return counted


def test_consumer_is_killed_again_and_again(tmp_path: Path) -> None:
    """At KERNEL nothing is lost: what it had not read is sent again, in order, and nothing else is."""
    verdict, counted, well = kill_again_and_again(tmp_path, "kernel")

    assert well.exact
    assert verdict.complete, verdict
    assert counted["delivered"] == KILLS * 2000 + 100
    assert counted["failed"] == counted["dropped"] == 0
    assert len(verdict.doubled) <= counted["resent"]
    assert counted["resent"] > KILLS


def test_consumer_is_killed_at_a_lower_level(tmp_path: Path) -> None:
    """The control: at WRITTEN, what was in its buffer is counted as delivered, and lost."""
    verdict, counted, well = kill_again_and_again(tmp_path, "written")

    assert well.exact
    assert len(verdict.lost) > KILLS
    assert counted["delivered"] == KILLS * 2000 + 100


def test_daemon_is_killed(tmp_path: Path) -> None:
    """The next one takes its place; while it lives, nobody does, and whoever tries says so and ends."""
    ledger = Ledger()
    ours = tmp_path / "daemon.sock"
    with RecordingConsumer() as consumer:
        arguments = ("--listen", f"unix://{ours}", "--to", consumer.url)
        with daemon(*arguments, listens=False) as first:
            late = run_command("run", *arguments)
            assert late.returncode == 1
            assert b"somebody listens there already; stop who has it" in late.stderr
            first.process.kill()
            first.wait()
        assert os.listdir(tmp_path) == ["daemon.sock"]
        with daemon(*arguments, listens=False) as second:
            arrive(ours, ledger, 10)

            assert ledger.judge(consumer.wait_for(10)).exact
            assert second.terminate() == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("count", [1, 30])
def test_consumer_closes_after_each_time(tmp_path: Path, count: int) -> None:
    """One that is killed after it has read what there is has lost nothing, and gets nothing twice."""
    ledger = Ledger()
    ours = tmp_path / "daemon.sock"
    with (
        ProcessConsumer(path=tmp_path / "killed.sock") as killed,
        daemon(
            "--listen", f"unix://{ours}", "--to", f"killed={killed.url}?{QUICK}", listens=False
        ) as running,
    ):
        for _ in range(10):
            arrive(ours, ledger, count)
            killed.wait_for(len(ledger.sent))
            killed.kill()
            killed.start()
        counted = settled(running, ledger)

        assert ledger.judge(killed.messages).exact
        assert counted["delivered"] == 10 * count
        assert counted["resent"] == 0
