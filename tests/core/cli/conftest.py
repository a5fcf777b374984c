"""Commands run in this process leave its environment and its logging as they were."""

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing configures a pool, and the root logger gets its handlers back."""
    for name in os.environ:
        if name.startswith("PRODUCER_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
