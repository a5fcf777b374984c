"""The time since this machine was started, which no change of a wall clock touches."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["boot_id", "since_boot"]


def boot_id() -> int:
    """
    Return a number that is another one after each start of the machine.

    Where the system does not tell, it is another one each time: then nothing is known about earlier times.
    """
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return int(text.replace("-", "")[:12], 16)
    except (OSError, ValueError):
        return int.from_bytes(os.urandom(6), "big")


def since_boot() -> float:
    """Return the seconds since the start of the machine, those asleep included where the system tells."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
