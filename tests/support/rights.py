"""Programs that have no more rights than a file gives, also where the tests run as root."""

import functools
import os
import subprocess

from support.faults import lacks
from support.waiting import BOUND

__all__ = ["without_rights"]

# Root may read and write all, unless it does without these two.
_POWERLESS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@functools.cache
def _prefix() -> list[str]:
    if os.geteuid():
        return []
    try:
        subprocess.run([*_POWERLESS, "true"], check=True, capture_output=True, timeout=BOUND)
    except (OSError, subprocess.CalledProcessError) as error:
        lacks(f"as root, this needs setpriv, and the right to have fewer: {error}")
    return _POWERLESS


def without_rights(call: list[str]) -> list[str]:
    """Return the command line that runs *call* with the rights that files give; skip where it cannot be."""
    return [*_prefix(), *call]
