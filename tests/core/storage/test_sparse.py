"""Files of payloads that are hardly needed any more, or whose rows are not theirs any more."""

from pathlib import Path

import pytest

from producer_pool.model.policies import Spool
from producer_pool.storage.database import Database
from producer_pool.storage.folder import Folder
from producer_pool.storage.keeper import Keeper
from producer_pool.storage.record import checked
from producer_pool.storage.sparse import drop_overwritten, give_up_sparse
from support.apart import FILE, put_apart, row, sizes
from support.keeping import put
from support.spools import Desk

MiB = 1024 * 1024


def store(database: Database, *numbers: int, targets: str | None = None) -> None:
    rows = database.put_payloads([row(number, 5000, targets) for number in numbers])
    database.begin()
    database.insert(rows)
    database.commit()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return one with eight rows in each of three files, of which one, four and eight are left."""
    put_apart(monkeypatch)
    database = Database(tmp_path / "spool.db")
    database.payloads.keep(FILE)
    for first in range(1, 25, 8):
        database.payloads.seal()
        store(database, *range(first, first + 8))
    database.payloads.seal()
    database.begin()
    database.delete([(-1, 3), (4, 12)])
    database.commit()
    return database


def test_sparse_file_is_given_up(database: Database, tmp_path: Path) -> None:
    """What was left in it is in the database now; the others stay."""
    before = [checked(columns) for columns in database.rows(0)]

    assert give_up_sparse(database)
    assert not give_up_sparse(database)
    database.give_back()

    assert list(sizes(tmp_path)) == [1, 2]
    assert [one and one.number for one in before] == [4, *range(13, 25)]
    after = [checked(columns) for columns in database.rows(0)]
    assert [one and one._replace(place=None) for one in after] == [
        one and one._replace(place=None) for one in before
    ]
    assert after[0] is not None
    assert after[0].place is None
    database.close()


def test_what_is_lost_stays_lost(database: Database, tmp_path: Path) -> None:
    """A file that is gone is given up like any other, and does not come up again and again."""
    (tmp_path / "payload-0").unlink()

    assert give_up_sparse(database)
    assert not give_up_sparse(database)
    assert next(checked(columns) for columns in database.rows(0)) is None
    database.close()


def test_overwritten(database: Database, tmp_path: Path) -> None:
    """Rows whose file was begun anew since are none any more; it is told which these were."""
    assert drop_overwritten(database) == []
    database.checkpoint()
    earlier = (tmp_path / "spool.db").read_bytes(), (tmp_path / "spool.db-wal").read_bytes()
    database.begin()
    database.delete([(-1, 4)])
    database.commit()
    store(database, 25)
    assert list(sizes(tmp_path)) == [0, 1, 2]
    database.abandon()
    (tmp_path / "spool.db").write_bytes(earlier[0])
    (tmp_path / "spool.db-wal").write_bytes(earlier[1])

    again = Database(tmp_path / "spool.db", new=False)
    again.begin()
    spans = drop_overwritten(again)
    again.commit()

    assert spans == [(3, 4)]
    assert [columns[0] for columns in again.rows(0)] == list(range(13, 25))
    again.abandon()


async def test_earlier_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was settled since a database was copied is not told to be lost; what was stored since is there."""
    put_apart(monkeypatch)
    folder = tmp_path / "spool"
    async with Desk(folder) as desk:
        desk.join("a")
        for _ in range(20):
            await desk.stored(bytes(20_000))
        earlier = {name: (folder / name).read_bytes() for name in ("spool.db", "spool.db-wal")}
        desk.store.move("a", 20)
        desk.store._hand_over_moves()
        for _ in range(20):
            await desk.stored(bytes(20_000))
    for name, data in earlier.items():
        (folder / name).write_bytes(data)
    async with Desk(folder) as desk:
        (backlog,) = desk.join("a")
        batches, _ = await desk.read("a", backlog.after)

        # Beside the database it is known that it was done with the first 20.
        assert [one.number for one in batches] == list(range(21, 41))
        assert backlog.messages == 20
        assert desk.lost == []
    assert "batches in it had been settled" in caplog.text


@pytest.mark.timeout(180)  # It writes 160 MB, and syncs 4000 times.
def test_slow_one_does_not_pin_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool that is full of files which are hardly needed makes room, and refuses nothing."""
    put_apart(monkeypatch, file=MiB, least=16 * 1024)
    keeper = Keeper(Folder(tmp_path), Spool(tmp_path, size=64 * MiB))
    for name in ("slow", "fast"):
        keeper.join(name, 0)
    for number in range(1, 4001):
        # One in fifty is for the slow one, too.
        assert put(keeper, number, 40_000, ("fast", "slow") if number % 50 == 0 else ("fast",))
        keeper.move("fast", number)
    keeper.move_on()
    live = 80 * 40_000

    assert keeper.backlog("slow").messages == 80
    assert sum(sizes(tmp_path).values()) + (tmp_path / "spool.db").stat().st_size < 64 * MiB + 16 * MiB
    assert keeper.excess == 0
    found = keeper.read("slow", 0, 1 << 30)
    assert found is not None
    assert sum(one.batch.nbytes for one in found[0]) >= live
    assert not found[2].messages
    keeper.close()
