"""Memory that batches leave behind is used again."""

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


def faults(how: str) -> int:
    """Return how many pages a process faulted in for 900 batches that came and went."""
    command = [sys.executable, "-c", COMES_AND_GOES, how]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rule is one of glibc")
def test_batches_that_come_and_go() -> None:
    """Their pages are faulted in once and used again; without it, each batch costs a fault for every page."""
    assert faults("kept") * 10 < faults("given back")
