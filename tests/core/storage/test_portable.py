"""Room in advance, on systems that have a call for it and on others."""

import os
from pathlib import Path

import pytest

from producer_pool.storage.portable import allocate, sync_data


@pytest.mark.parametrize("known", [True, False])
def test_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """The disk has given the room, and not only promised it."""
    if not known:
        monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "file").open("w+b") as file:
        allocate(file.fileno(), 3_000_001)
        sync_data(file.fileno())

        found = os.fstat(file.fileno())
        assert found.st_size == 3_000_001
        assert found.st_blocks * 512 >= 3_000_001
