"""Sockets with their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.socketfiles import Bound


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Callable[..., Bound]]:
    """Return what makes sockets for one path, which are closed at the end."""
    made: list[Bound] = []

    def make(**options: Any) -> Bound:
        made.append(Bound(tmp_path / "x.sock", **options))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()
