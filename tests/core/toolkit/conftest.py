"""Certificates, made once for all tests of a folder."""

from __future__ import annotations

import pytest

from support.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA that the tests' certificates come from."""
    return Authority(tmp_path_factory.mktemp("ca"))
