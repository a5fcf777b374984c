"""
A spool fills its disk by itself, with nobody to make room but those who settle what is in it.

What is settled makes room then, within seconds, and however often that is so.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage import keeper as keeping
from producer_pool.storage import payloads
from producer_pool.storage import upkeep as module
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.upkeep import Upkeep
from support.faults import report, times
from support.keeping import Clock, put
from support.small_disks import MiB, small_disk

DISK = 64 * MiB
ROUNDS = times(4, 10)
SECONDS = 5.0
"""Until there has to be room, by a clock that the test moves: the disk is as fast as it likes."""


class Stuck(AssertionError):
    """What was settled made no room."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for one in (keeping, module, payloads):
        monkeypatch.setattr(one, "time", clock)
    return clock


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK) as disk:
        yield disk


def fill_and_settle(disk: Path, clock: Clock, size: int, sync: float, part: float) -> tuple[int, float]:
    """
    Store batches of *size* until the disk is full, and have that *part* of them settled, again and again.

    Return how many were stored, and the most seconds that passed until there was room for another one.

    Raises:
        Stuck: there was none.
    """
    folder = Folder(disk / "spool")
    folder.make()
    keeper = Keeper(folder, Spool(folder.path, sync=sync))
    keeper.join("a", 0)
    stored: list[int] = []
    given, slowest = 0, 0.0
    try:
        for _ in range(ROUNDS):
            while put(keeper, given := given + 1, size):
                stored.append(given)
                keeper.tick(clock.now)
            assert "full" in (keeper.trouble or "")
            waiting = [one for one in stored if keeper.positions["a"].wants(one)]
            keeper.move("a", waiting[int((len(waiting) - 1) * part)])
            full = clock.now
            keeper.move_on()
            while not put(keeper, given := given + 1, size):
                if clock.now > full + SECONDS:
                    raise Stuck(f"after {len(stored)} batches: {keeper.trouble}")
                clock.now += 0.25
                keeper.move_on()
                keeper.tick(clock.now)
            stored.append(given)
            slowest = max(slowest, clock.now - full)
        left = keeper.read("a", keeper.positions["a"].number, 1 << 30)
        assert left is not None
        assert [one.number for one in left[0]] == [
            one for one in stored if one > keeper.positions["a"].number
        ]
    finally:
        keeper.close()
    return len(stored), slowest


@pytest.mark.parametrize("part", [1.0, 0.5], ids=["all", "half"])
@pytest.mark.parametrize("sync", [0.0, 0.05, float("inf")], ids=["always", "interval", "os"])
@pytest.mark.parametrize("size", [2 * MiB, 200_000], ids=["large", "small"])
def test_settling_makes_room(disk: Path, clock: Clock, size: int, sync: float, part: float) -> None:
    """See above; large batches are in files of their own, or in the database if there is no room for one."""
    stored, slowest = fill_and_settle(disk, clock, size, sync, part)
    report(
        f"spool: fills its disk, {size} bytes, sync={sync}, {part:.0%} settled",
        rounds=ROUNDS, stored=stored, healed_s=slowest,
    )  # fmt: skip

    assert slowest <= SECONDS


def test_greedy_one(disk: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where batches take the last byte, nobody can write down that one was settled."""
    monkeypatch.setattr(Folder, "keep_reserve", lambda folder, nbytes: False)
    monkeypatch.setattr(Upkeep, "has_room", lambda upkeep, batches: True)

    with pytest.raises(Stuck):
        fill_and_settle(disk, clock, 200_000, 0.0, 1.0)
