"""Disks of a few MiB, that tests fill."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.faults import needs_mounts

__all__ = ["MiB", "fill", "small_disk"]

MiB = 1024 * 1024


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of *size* bytes."""
    needs_mounts()
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", folder], check=True, timeout=20
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=20)


def fill(disk: Path) -> Path:
    """Take all that is left of it."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        for piece in (MiB, 4096, 1):
            try:
                while file.write(bytes(piece)):
                    pass
            except OSError:
                pass
    return path
