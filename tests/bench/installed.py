"""Commands in an environment with many other distributions: what finding the plugins among them costs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.process import BenchError, environment

__all__ = ["crowd", "timed"]


@contextmanager
def crowd(count: int) -> Iterator[Path]:
    """Return a folder with so many distributions, of which every third has entry points, and none is ours."""
    with tempfile.TemporaryDirectory(prefix="crowd-") as name:
        folder = Path(name)
        for number in range(count):
            (folder / f"crowd_{number}.py").touch()
            info = folder / f"crowd_{number}-1.0.dist-info"
            info.mkdir()
            headers = f"Metadata-Version: 2.1\nName: crowd-{number}\nVersion: 1.0\n\n"
            (info / "METADATA").write_text(headers + "A long description.\n" * 200)
            (info / "RECORD").touch()
            if number % 3 == 0:
                (info / "entry_points.txt").write_text(f"[console_scripts]\ncrowd = crowd_{number}:main\n")
        yield folder


def timed(arguments: tuple[str, ...], added: Mapping[str, str]) -> dict[str, float]:
    """Run ``producer-pool`` to its end, and return what it took, in milliseconds."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "producer_pool", *arguments],
        env={**environment(), **added},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(arguments)} ended with {process.returncode}")
    return {
        "wall_ms": (time.perf_counter() - began) * 1e3,
        "cpu_ms": (used.ru_utime + used.ru_stime) * 1e3,
    }
