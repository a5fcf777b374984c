"""The two ways to read and to write many frames, of which every rule has to hold."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from producer_pool_websocket import loops, runs
from support import faults


@pytest.fixture(scope="session")
def compiled() -> ModuleType:
    """Return the loops that were compiled; a test is skipped by name where nothing was."""
    try:
        import producer_pool_websocket_speedups
    except ImportError:
        faults.lacks("needs producer-pool-websocket-speedups, compiled; see gcc in requirements/apt.txt")
    return producer_pool_websocket_speedups


@pytest.fixture(scope="module", params=["in-python", "compiled"])
def each_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have frames read and written in Python, and in turn by what was compiled."""
    chosen = runs if request.param == "in-python" else request.getfixturevalue("compiled")
    with pytest.MonkeyPatch.context() as patch:
        for name in loops.__all__:
            patch.setattr(loops, name, getattr(chosen, name))
        yield
