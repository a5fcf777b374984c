"""Memory that batches leave behind is used again."""

import os
import platform
import subprocess
import sys

import pytest

COMES_AND_GOES = """
import resource, sys
from collections import deque
from producer_pool.cli.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
flying = deque()
for number in range(1000):
    if number == 100:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    flying.append(b"x" * 200_000)
    # Now and then all are confirmed, as by an acknowledgement of all that was sent.
    if len(flying) == 16:
        flying.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rule is one of glibc")

# As in docs/how-to/threads.md.
MAPPED = {"MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024)}
TRIMMED = {"MALLOC_TRIM_THRESHOLD_": str(8 * 1024 * 1024)}


def faults(how: str, **variables: str) -> int:
    """Return how many pages a process faulted in for 900 batches that came and went."""
    command = [sys.executable, "-c", COMES_AND_GOES, how]
    # Whoever runs this may have such variables, too.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environ.update(variables)
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60, env=environ).stdout)


@glibc
def test_batches_that_come_and_go() -> None:
    """Their pages are faulted in once and used again; without it, each batch costs a fault for every page."""
    assert faults("kept") * 10 < faults("given back")


@glibc
@pytest.mark.parametrize("alone", [MAPPED, TRIMMED])
def test_the_same_by_environment(alone: dict[str, str]) -> None:
    """A program that embeds a pool gets the same with two variables, and not with one of them."""
    assert faults("given back", **MAPPED, **TRIMMED) * 10 < faults("given back", **alone)
