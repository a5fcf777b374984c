"""What the tests of the keeper share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage import keeper as keeping
from producer_pool.storage import upkeep as module
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from support.keeping import Clock, Disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for one in (keeping, module):
        monkeypatch.setattr(one, "time", clock)
    return clock


@pytest.fixture
def keeper(tmp_path: Path, clock: Clock) -> Iterator[Keeper]:
    folder = Folder(tmp_path)
    keeper = Keeper(folder, Spool(tmp_path, sync=0.5))
    keeper.join("a", 0)
    yield keeper
    keeper.close()
