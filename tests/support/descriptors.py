"""File descriptors of this process, for tests: which there are, and what if there are no more."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

__all__ = ["OUT_OF_FILES", "descriptors", "out_of_files"]

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


def descriptors() -> set[tuple[str, str]]:
    """
    Return what is open now, each with what it is.

    To be compared by ``<=``: what earlier tests left to the garbage collection may be closed at any time.
    """
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of this look itself
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found
