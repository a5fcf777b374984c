"""Fault stories: they take longer than any other test may, with their full numbers by far."""

from pathlib import Path

import pytest

from support.faults import times

HERE = Path(__file__).parent
LONGEST = times(240, 3600)
"""Seconds that one story may take. Each wait in it has a bound of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LONGEST))
