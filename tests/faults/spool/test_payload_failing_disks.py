"""Calls to the system fail that write payloads: the process goes on, and nothing that was stored is gone."""

import subprocess
from pathlib import Path

import pytest

from support.faults import needs_strace, report, times
from support.spool_stories import Said, environment, left_in, missing, writer

COUNT = times(250, 1000)

FAULTS = [
    ("EIO", "/^pwritev:error=EIO:when=20..21"),
    ("ENOSPC", "/^pwritev:error=ENOSPC:when=20..21"),
    ("EROFS", "/^pwritev:error=EROFS:when=20..21"),
    ("failed fsync", "fdatasync:error=EIO:when=10"),
    ("failed fsyncs", "fdatasync:error=EIO:when=10+15"),
    ("no room for a file", "fallocate:error=ENOSPC:when=2+"),
    ("no descriptor", "openat:error=EMFILE:when=2"),
]


@pytest.mark.parametrize("name,inject", FAULTS, ids=[name.replace(" ", "-") for name, _ in FAULTS])
def test_disk_that_fails(tmp_path: Path, name: str, inject: str) -> None:
    """See above."""
    needs_strace()
    folder = tmp_path / "spool"
    call = inject.partition(":")[0]
    trace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "log"),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={inject}",
    ]
    for number in range(8):
        trace += ["-P", str(folder / f"payload-{number}")]
    command = writer(folder, count=COUNT, kind="apart")
    ended = subprocess.run([*trace, *command], env=environment(), capture_output=True, timeout=50)
    said = Said.of(ended.stdout)
    failures = (tmp_path / "log").read_text().count("(INJECTED)")
    gone = missing(said, left_in(folder))
    report(
        f"payloads: {name}",
        injected=failures, stored=len(said.stored), refused=len(said.failed), lost=len(gone),
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert failures
    assert gone == set()
    assert len(said.stored) + len(said.failed) == COUNT
    if "fsync" in name:
        assert list(folder.glob("spool.db.damaged-*"))
    if "room" in name:
        assert not said.failed  # The database had some.
