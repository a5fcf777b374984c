"""Compiles the bench's C programs on demand, once per content, into a directory that git ignores."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".bench-cache"
FLAGS = ("-O2", "-march=native", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-function")


def compiler() -> str | None:
    """The C compiler to use: $CC or the first of cc, gcc, clang. None without one, or if $CC is empty."""
    named = os.environ.get("CC")
    candidates = ("cc", "gcc", "clang") if named is None else (named,)
    return next(filter(None, map(shutil.which, candidates)), None)


def made_cache() -> Path:
    """Return the directory that git ignores, which is made if need be."""
    CACHE.mkdir(exist_ok=True)
    return CACHE


def _processor() -> str:
    """What the processor can do, which -march=native goes by: a checkout may move to another machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def binary(name: str) -> Path | None:
    """Path of the compiled program `name`.c in this folder; None where there is no compiler or it fails."""
    cc = compiler()
    if cc is None:
        return None
    source = HERE / f"{name}.c"
    headers = {*HERE.glob("*.h"), *source.parent.glob("*.h")}
    content = b"".join(path.read_bytes() for path in (source, *sorted(headers)))
    digest = hashlib.sha256(content + " ".join((cc, *FLAGS, _processor())).encode()).hexdigest()[:16]
    target = CACHE / f"{source.stem}-{digest}"
    if target.exists():
        return target
    made_cache()
    # Renamed when complete, so that two runs that compile at once cannot see half a program.
    unfinished = CACHE / f"{target.name}.{os.getpid()}"
    command = [cc, *FLAGS, "-o", str(unfinished), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if built.returncode:
        print(f"bench: {cc} cannot compile {source.name}: {built.stderr.strip()}", file=sys.stderr)
        return None
    unfinished.replace(target)
    return target
