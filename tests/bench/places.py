"""Where a numbered unix socket lies. loadgen.c knows it, too."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["unix_socket"]


def unix_socket(port: int) -> Path:
    """Return the path of the unix socket that stands for *port*."""
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"producer-pool-bench-{port}"
