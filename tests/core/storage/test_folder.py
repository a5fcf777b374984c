"""The folder of a spool: one process at a time, and no file is lost when databases change places."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.storage.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "spool")
    folder.make()
    return folder


def test_one_at_a_time(folder: Folder) -> None:
    """A second one is told who is in; when that ends, nothing is left to tidy up."""
    program = (
        "import sys; from producer_pool.storage.folder import Folder\n"
        f"folder = Folder({str(folder.path)!r}); folder.lock(); print('in', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:
        assert process.stdout.readline() == b"in\n"

        assert folder.in_use
        with pytest.raises(StorageError, match=f"in use by process {process.pid}; stop that first"):
            folder.lock()
        process.kill()
    folder.lock()
    assert folder.holder() == os.getpid()
    folder.unlock()
    assert not Folder(folder.path).in_use


@pytest.mark.parametrize("name", ["lock", "spool.db", "spool.db-wal", "state", "reserve", "spool.new"])
def test_links_are_not_followed(folder: Folder, tmp_path: Path, name: str) -> None:
    """Somebody who may write into the folder cannot have another file overwritten."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder.path / name).symlink_to(victim)

    with pytest.raises(StorageError, match=name):
        folder.lock()
    assert victim.read_bytes() == b"precious"


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    """The error says what to do."""
    (tmp_path / "spool").write_bytes(b"")

    with pytest.raises(StorageError, match="is no folder; name one"):
        Folder(tmp_path / "spool").make()


def contents(folder: Folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.path.iterdir() if path.name.startswith("spool")}


def test_installing(folder: Folder) -> None:
    """The new one is in its place, and what was there has a name of its own."""
    folder.database.write_text("old")
    folder.wal.write_text("log of old")
    folder.clear_new().write_text("new")

    aside = folder.install()

    assert aside == folder.path / "spool.db.damaged-1"
    assert contents(folder) == {
        "spool.db": "new",
        "spool.db.damaged-1": "old",
        "spool.db.damaged-1-wal": "log of old",
    }
    assert folder.set_aside_before() == [aside]


def test_installing_is_interrupted(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is killed, the next one goes on, and each file is there once, under its right name."""
    renames = 0
    rename = Path.rename

    def counted(path: Path, target: Path) -> Path:
        nonlocal renames
        renames -= 1
        if renames < 0:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)
    for allowed in range(1, 5):
        for path in folder.path.iterdir():
            path.unlink()
        folder.database.write_text("old")
        folder.wal.write_text("log of old")
        folder.clear_new().write_text("new")
        renames = allowed
        try:
            folder.install()
        except KeyboardInterrupt:
            renames = 99
            folder.finish_installing()

        found = contents(folder)
        assert found.pop("spool.db") == "new", allowed
        assert sorted(found.values()) == ["log of old", "old"], allowed


def test_names_of_what_was_set_aside(folder: Folder) -> None:
    """No earlier one is overwritten, also when only its log is there, and the newest comes last."""
    (folder.path / "spool.db.damaged-9-wal").touch()
    (folder.path / "spool.db.damaged-mine").touch()
    folder.database.touch()

    assert folder.set_aside() == folder.path / "spool.db.damaged-10"


def test_not_too_many_are_set_aside(folder: Folder) -> None:
    """A disk that damages everything does not become full with that: the oldest go."""
    for _ in range(20):
        folder.database.touch()
        folder.wal.touch()
        folder.set_aside()

    names = [path.name for path in folder.set_aside_before()]
    assert names == [f"spool.db.damaged-{number}" for number in range(13, 21)]
    assert len(list(folder.path.glob("*-wal"))) == 8


def test_reserve(folder: Folder) -> None:
    """It takes the room that it is for, and lets go of it."""
    assert folder.keep_reserve(1 << 20)
    assert folder.reserve.stat().st_blocks * 512 >= 1 << 20

    folder.use_reserve()
    folder.use_reserve()
    assert not folder.reserve.exists()
