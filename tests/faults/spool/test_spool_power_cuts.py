"""The power is cut while messages are stored: what had not been synced is gone, and what had been is not."""

from pathlib import Path

import pytest

from support.faults import needs_loop_device, report, times
from support.power_cuts import cuts

CYCLES = times(3, 100)
INTERVAL = 0.05


@pytest.fixture(autouse=True)
def loop_device() -> None:
    needs_loop_device()


def test_always(tmp_path: Path) -> None:
    """With sync=always, what is said to be stored is stored."""
    found = cuts(tmp_path, 0, cycles=CYCLES)
    report(
        "power cut, sync=always",
        cuts=len(found),
        stored=found[-1].stored,
        lost=sum(one.lost for one in found),
    )

    assert [one.lost for one in found] == [0] * CYCLES


def test_interval(tmp_path: Path) -> None:
    """With an interval, only what was stored within it can be lost."""
    found = cuts(tmp_path, INTERVAL, cycles=CYCLES)
    oldest = max(one.oldest for one in found)
    report(
        f"power cut, sync=interval:{INTERVAL * 1000:g}ms",
        cuts=len(found),
        stored=found[-1].stored,
        lost=sum(one.lost for one in found),
        most=max(one.lost for one in found),
        oldest_s=oldest,
    )

    # The sync that is under way when the interval is over takes its time, too.
    assert oldest <= INTERVAL * times(20, 10)


@pytest.mark.parametrize("sync,kind", [("os", "spool"), (0, "unsynced")])
def test_naive_one(tmp_path: Path, sync: object, kind: str) -> None:
    """The control: one that leaves it to the system when to write loses messages; it opens all the same."""
    found = cuts(tmp_path, sync, CYCLES, kind)
    lost = sum(one.lost for one in found)
    report(f"power cut: {kind}, sync={sync}", cuts=len(found), stored=found[-1].stored, lost=lost)

    assert lost > 0
