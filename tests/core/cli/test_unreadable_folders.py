"""``producer-pool`` spool and dead-letters: where there is no right to a folder, and what is said of it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_pool.storage.dead_letters import FILE
from support.processes import clean_environment, command
from support.rights import without_rights
from support.waiting import BOUND


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command without more rights than a file gives."""
    call = without_rights(command(*map(str, arguments)))
    return subprocess.run(call, env=clean_environment(), capture_output=True, text=True, timeout=BOUND)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that nobody may look into."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "spool.db").touch()
    (folder / FILE).touch()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize(
    "before,after",
    [
        (["spool", "status"], []),
        (["spool", "verify"], []),
        (["spool", "export"], []),
        (["spool", "salvage"], ["rescued"]),
        (["spool", "forget"], ["audit", "--yes"]),
        (["dead-letters", "list"], []),
        (["dead-letters", "show"], ["1"]),
        (["dead-letters", "drop"], ["1"]),
        (["dead-letters", "replay"], ["1"]),
    ],
    ids=lambda words: "-".join(words),
)
def test_closed_folder(folder: Path, tmp_path: Path, before: list[str], after: list[str]) -> None:
    """One line says which, why, and what to do; the command line was right."""
    done = run(*before, folder, *[str(tmp_path / word) if word == "rescued" else word for word in after])

    assert done.returncode == 1
    assert "Permission denied; see its rights, or do this as its owner" in done.stderr
    assert str(folder) in done.stderr
    assert "Usage" not in done.stderr


def test_closed_file(folder: Path) -> None:
    """So it is with a file of a folder that can be looked into."""
    folder.chmod(0o700)
    for name in ("spool.db", FILE):
        (folder / name).chmod(0)
    for words in (["spool", "export", folder / "spool.db"], ["dead-letters", "list", folder]):
        done = run(*words)

        assert done.returncode == 1
        assert "Permission denied; see its rights, or do this as its owner" in done.stderr
