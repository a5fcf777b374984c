"""How much room a spool needs for its next batches, and what it does where there is less."""

from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.stored import stored_size
from producer_pool.storage import upkeep as module
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.record import Pending, row_of
from producer_pool.storage.room import room_for
from support.apart import put_apart, sizes
from support.keeping import Clock, numbers, put

MiB = 1024 * 1024


def pending(number: int, size: int) -> Pending:
    batch = Batch.of([bytes(size)])
    return Pending(number, batch.form, 1, stored_size(batch), None, "", 0.0)


@pytest.mark.parametrize("size", [100, 20_000, 33_000, 200_000, 3 * MiB])
def test_it_suffices(tmp_path: Path, size: int) -> None:
    """What is written, and moved afterwards, is never more than was said, whatever there was before."""
    database = Database(tmp_path / "spool.db")

    def taken() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("spool.db*"))

    for round in range(6):
        before = taken()
        logged = database.log_nbytes()
        batches = [pending(round * 8 + one, size) for one in range(1, 5)]
        needed = room_for(database, batches, logged)
        database.begin()
        database.insert([row_of([one], 0, 0, 1, 0.0) for one in batches])
        if round % 2:
            database.delete([(-1, (round - 1) * 8)])
        database.commit()
        if round != 2:
            database.checkpoint()
        assert taken() - before <= needed
    database.close()


def test_what_is_free_within_the_files_counts(tmp_path: Path) -> None:
    """Where rows were removed, and the log was moved, others need next to nothing."""
    database = Database(tmp_path / "spool.db")
    batches = [pending(1, 3 * MiB)]
    at_first = room_for(database, batches, 0)
    database.begin()
    database.insert([row_of(batches, 0, 0, 1, 0.0)])
    database.commit()
    database.checkpoint()
    database.begin()
    database.delete([(-1, 1)])
    database.commit()
    database.checkpoint()

    assert at_first > 6 * MiB
    assert room_for(database, batches, 0) <= at_first - 6 * MiB
    database.close()


def test_without_reserve(keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would leave no room to write down what is settled is refused; with room, it goes on at once."""
    put_apart(monkeypatch)
    room = [4 * MiB]
    monkeypatch.setattr(Folder, "room", lambda folder: room[0])
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "keep_reserve", lambda folder, nbytes: False)
        keeper._upkeep._keep_reserve()
        assert put(keeper, 1, 20_000)
        assert sizes(keeper.folder.path) == {}  # For no file of payloads, which takes much at once.
        assert not put(keeper, 2, 3 * MiB)
        assert "is full" in (keeper.trouble or "")
        keeper.move("a", 1)
        keeper.move_on()
        clock.now += module.RETRY
        assert put(keeper, 3, 20_000)
        room[0] = MiB
        assert not put(keeper, 4)
        clock.now += module.RETRY
        assert not put(keeper, 5)
        room[0] = 100 * MiB
    clock.now += module.RETRY

    assert put(keeper, 6, 3 * MiB)
    assert keeper.folder.reserve.exists()
    assert numbers(keeper, 1) == [3, 6]


def test_large_batch_with_a_reserve(keeper: Keeper, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is larger than the reserve is not taken where only that is left."""
    monkeypatch.setattr(Folder, "room", lambda folder: 2 * MiB)

    assert put(keeper, 1, 3 * MiB)
    assert not put(keeper, 2, 30 * MiB)
    assert "is full" in (keeper.trouble or "")
