"""A wall clock that jumps, for a process that is started here: Python's, or that of the C library."""
# Rule: nothing here knows the product.

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["HOUR", "LIBRARIES", "YEARS", "JumpingClock", "LibraryClock", "PythonClock"]

HOUR: Final = 3600
YEARS: Final = 10 * 365 * 24 * 3600

LIBRARIES: Final = "/usr/lib/*/faketime/libfaketime.so.1"
"""Where Debian has it, for glob()."""

_PATCH: Final = """
import os, time
_time, _time_ns = time.time, time.time_ns

def _jumped():
    with open(os.environ["JUMPING_CLOCK"]) as file:
        return int(file.read() or 0)

time.time = lambda: _time() + _jumped()
time.time_ns = lambda: _time_ns() + _jumped() * 10**9
"""


class JumpingClock(ABC):
    """What a process has to be started with, and its clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "jumped"
        self.jump(0)

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Variables for the process."""

    def jump(self, seconds: int) -> None:
        """Have its clock be so far from the real one from now on."""
        # In one step, so that nobody reads half a number.
        new = self._folder / "new"
        new.write_text(self._text(seconds))
        new.rename(self._file)

    def _text(self, seconds: int) -> str:
        return str(seconds)


class PythonClock(JumpingClock):
    """Patches ``time.time()`` as the interpreter starts."""

    @property
    def environment(self) -> Mapping[str, str]:
        (self._folder / "sitecustomize.py").write_text(_PATCH)
        path = os.pathsep.join(filter(None, [str(self._folder), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "JUMPING_CLOCK": str(self._file)}


class LibraryClock(JumpingClock):
    """Has libfaketime answer for the C library, to the whole process; the monotonic clock is the real one."""

    def __init__(self, folder: Path, library: str) -> None:
        super().__init__(folder)
        self._library = library

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _text(self, seconds: int) -> str:
        return f"{seconds:+d}"
