"""Where what consumers say is read into: nobody keeps it."""

from __future__ import annotations

import threading
from typing import Final, cast

__all__ = ["SCRATCH", "scratch"]

SCRATCH: Final = 64 * 1024

_threads: Final = threading.local()


def scratch() -> memoryview:
    """Return this thread's buffer for what consumers say: one for all clients of a loop."""
    try:
        return cast("memoryview", _threads.scratch)
    except AttributeError:
        _threads.scratch = memoryview(bytearray(SCRATCH))
        return cast("memoryview", _threads.scratch)
