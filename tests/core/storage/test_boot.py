"""Time that no wall clock touches."""

from pathlib import Path

import pytest

from producer_pool.storage import boot
from producer_pool.storage.boot import boot_id, since_boot


def test_same_within_one_boot() -> None:
    """It fits into a column, and does not change while the machine runs."""
    assert boot_id() == boot_id()
    assert 0 < boot_id() < 2**62


def test_unknown_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system does not tell, nothing is taken for known."""
    monkeypatch.setattr(boot, "Path", lambda name: tmp_path / "none")

    assert boot_id() != boot_id()


def test_time_goes_forward() -> None:
    """It is in seconds, and rises."""
    first = since_boot()

    assert 0 < first <= since_boot()
