"""Fault stories: with their full numbers, they take longer than any other test may."""

from pathlib import Path

import pytest

from support.faults import FULL

HERE = Path(__file__).parent
LONGEST = 3600
"""Seconds that one story may take with its full numbers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FULL and item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LONGEST))
