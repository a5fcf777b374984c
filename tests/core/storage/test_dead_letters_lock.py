"""One replay at a time in a folder of dead letters."""

import os
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.storage.dead_letters_lock import replaying


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second one is told who is at work; after that, the next one may come."""
    taken = f"another replay is at work there, process {os.getpid()}; wait for its end"
    with replaying(tmp_path), pytest.raises(StorageError, match=taken):
        replaying(tmp_path).__enter__()
    with replaying(tmp_path):
        pass
    assert (tmp_path / "replay.lock").stat().st_mode & 0o777 == 0o600
