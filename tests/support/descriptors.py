"""A process that has no more file descriptors, for tests."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["OUT_OF_FILES", "out_of_files"]

OUT_OF_FILES = "too many open files; raise `ulimit -n`"
"""What errors say about it."""


@contextlib.contextmanager
def out_of_files() -> Iterator[None]:
    """Have the system refuse new descriptors. Those that there are stay."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
