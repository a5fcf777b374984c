"""On what is measured: the head of a report."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["describe"]


def describe(versions: dict[str, str]) -> dict[str, str]:
    """What, and its version or size; *versions* are those of the contestants."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return {
        "CPU": f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **versions,
    }
