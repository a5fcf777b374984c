"""What the system tells of a process, and of itself; None where it does not."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["be_punctual", "confine", "cpu_time", "described", "divided", "peak_memory", "usable_cores"]

_MANY: Final = 4
"""Cores from which on the relay has two: a spool has a thread of its own."""
_SLACK: Final = "1000"
"""Nanoseconds."""


def cpu_time(pid: int) -> float | None:
    """Return the CPU seconds of a process, all its threads together."""
    try:
        # Linux makes the number of a process's clock from its id: clock_getcpuclockid(3).
        return time.clock_gettime(~pid << 3 | 2)
    except (OSError, OverflowError):
        return None


def peak_memory(pid: int) -> int | None:
    """Return the bytes of memory that a process had at its peak, without what the kernel holds for it."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def usable_cores() -> list[int]:
    """Return the cores on which this process may run; an empty list: the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def divided(usable: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the cores for the relay, and those for the load; none: there are too few to divide."""
    if len(usable) < 2:
        return (), ()
    relay = 2 if len(usable) >= _MANY else 1
    return usable[:relay], usable[relay:]


def confine(pid: int, cores: Sequence[int]) -> None:
    """Have a process, or with 0 this one, run on these cores only, and what it starts; none: as it does."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def be_punctual() -> None:
    """Have the system wake this process when its sleep is over, if it can; else it takes 50 us more."""
    # proc(5), /proc/pid/timerslack_ns
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text(_SLACK)


def described() -> str:
    """Return what machine this is, in a few words."""
    cores = len(usable_cores()) or os.cpu_count() or 1
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{system}, {cores} {'core' if cores == 1 else 'cores'}, Python {platform.python_version()}"
