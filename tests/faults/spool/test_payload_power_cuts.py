"""
The power is cut while files of payloads are begun anew.

What was in such a file before is settled, but after the cut the database may not know that any more. Here the
payloads reach the disk at once, and what the database knows when the system likes: that is the worst order.
"""

from pathlib import Path

import pytest

from producer_pool.storage.payloads import Payloads
from support.faults import needs_loop_device, report, times
from support.power_cuts import cuts

CYCLES = times(3, 50)


@pytest.fixture(autouse=True)
def loop_device() -> None:
    needs_loop_device()


@pytest.mark.parametrize("sync", [0, 0.05, "os"])
def test_files_begun_anew(tmp_path: Path, sync: object) -> None:
    """No file is begun anew whose rows could come back: none is told to be lost that had been delivered."""
    found = cuts(tmp_path, sync, CYCLES, "apart")
    lost = sum(one.lost for one in found)
    report(f"payloads: power cut, sync={sync}", cuts=len(found), stored=found[-1].stored, lost=lost)

    assert sync != 0 or lost == 0


def test_rash_one(tmp_path: Path) -> None:
    """Were one begun anew too soon, its generation would tell that its rows had been settled."""
    found = cuts(tmp_path, 0.05, CYCLES, "soon")
    report("payloads: power cut, begun anew too soon", cuts=len(found), stored=found[-1].stored)


def test_naive_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The control: one that is rash, and knows no generations, takes for lost what had been delivered."""
    monkeypatch.setattr(Payloads, "newer_files", lambda self: {})
    with pytest.raises(AssertionError):
        cuts(tmp_path, "os", times(20, 50), "rash")

    assert "damaged or gone from the spool" in caplog.text
