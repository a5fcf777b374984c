"""Those whom connections through a fault proxy go to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.proxies import Target


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with Target(request.param) as target:
        yield target


@pytest.fixture
def tcp_target() -> Iterator[Target]:
    with Target("tcp") as target:
        yield target
