"""Files of payloads in a folder: which there are, and whose."""

import os
from pathlib import Path

import pytest

from producer_pool.storage.payload_files import PayloadFiles, payload_names
from producer_pool.storage.segments import head_of
from support.apart import row

OURS, OTHERS = b"o" * 16, b"x" * 16


@pytest.fixture
def files(tmp_path: Path) -> PayloadFiles:
    """Return files of a spool: 0 and 2 are its own, 1 is of another, and 3 is nothing."""
    for segment, identity in ((0, OURS), (1, OTHERS), (2, OURS)):
        path = tmp_path / f"payload-{segment}"
        path.write_bytes(head_of(row(segment + 1), identity, segment, 1) + row(segment + 1).payload)
    (tmp_path / "payload-3").write_bytes(b"anything")
    return PayloadFiles(tmp_path / "spool.db")


def test_names(files: PayloadFiles, tmp_path: Path) -> None:
    """What is called otherwise is none."""
    for name in ("payload-", "payload-x", "payload-1.other-1", "payload-٣", "a-payload-1", "payload--1"):
        (tmp_path / name).touch()

    assert files.numbers() == [0, 1, 2, 3]
    assert sorted(payload_names(tmp_path / "nowhere")) == []


def test_others_are_set_aside(files: PayloadFiles, tmp_path: Path) -> None:
    """They stay as they are, under another name; one that was set aside before is not touched."""
    before = (tmp_path / "payload-1").read_bytes()
    (tmp_path / "payload-1.other-1").write_bytes(b"before")
    assert files.identity() is None

    files.set_others_aside(OURS)

    assert files.numbers() == [0, 2, 3]
    assert (tmp_path / "payload-1.other-1").read_bytes() == b"before"
    assert (tmp_path / "payload-1.other-2").read_bytes() == before
    assert files.identity() == OURS


def test_of_a_database_that_was_set_aside(files: PayloadFiles, tmp_path: Path) -> None:
    """Its files may have been, too; else another database goes on with them."""
    (tmp_path / "payload-0").rename(tmp_path / "spool.db.damaged-1.payload-0")
    aside = PayloadFiles(tmp_path / "spool.db.damaged-1")

    assert aside.path(0).name == "spool.db.damaged-1.payload-0"
    assert aside.path(2).name == "payload-2"
    assert aside.numbers() == [0, 1, 2, 3]
    assert files.numbers() == [1, 2, 3]


@pytest.mark.parametrize("what", ["nothing", "folder", "link", "pipe"])
def test_what_is_no_file(files: PayloadFiles, tmp_path: Path, what: str) -> None:
    """It is as if it were not there, and nobody waits for it."""
    path = tmp_path / "payload-0"
    path.rename(tmp_path / "whole")
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(tmp_path / "whole")
    elif what == "pipe":
        os.mkfifo(path)

    with pytest.raises(FileNotFoundError):
        files.open(0)
    assert list(files.records(0, OURS)) == []
