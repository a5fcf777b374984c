"""A place to install distributions into, for each test a new one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.distributions import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder in front of sys.path, to install distributions into."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    site = Site(folder)
    yield site
    site.forget_modules()
