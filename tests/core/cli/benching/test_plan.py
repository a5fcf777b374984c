"""What a bench is asked to do, and what it makes of that."""

from typing import Any

import pytest

from producer_pool.cli.benching.plan import Load, Plan
from producer_pool.cli.benching.ways import Way
from producer_pool.discovery.registry import Registry
from producer_pool.model.errors import ConfigurationError


def plan(*ways: str, **changes: Any) -> Plan:
    """Return a plan for *ways*."""
    given: dict[str, Any] = {
        "size": 128, "parties": (1, 4), "batch": None, "rates": (None, 1000.0), "seconds": 10.0,
    }  # fmt: skip
    found = [Way.of(way, Registry(), {}, {}) for way in ways]
    return Plan.made(found, None, **{**given, **changes})


def test_defaults() -> None:
    """Flat out, 64 KiB are written at once; by a schedule, one message."""
    assert plan("tcp").loads == (Load(508, None), Load(1, 1000.0))
    assert plan("tcp", size=200_000).loads[0].unit == 1
    assert [load.name for load in plan("tcp").loads] == ["flat out", "at 1,000/s"]


def test_datagrams_find_room() -> None:
    """Of datagrams fewer are written at once than may be under way, whatever their size."""
    for size in (1, 128, 1400, 9000, 60_000):
        for producers in (1, 7, 64):
            one = plan("udp", size=size + 9, parties=(producers, 4))
            assert 1 <= one.loads[0].unit <= one.window


def test_one_that_has_no_order_bounds_both() -> None:
    """Compared with datagrams, a stream has no more under way."""
    assert plan("tcp", "udp").window == plan("udp").window < plan("tcp").window
    assert not plan("tcp", "udp").ordered


@pytest.mark.parametrize(
    "ways,changes,text",
    [
        (["udp"], {"size": 100_000}, "udp carries messages of 65,507 bytes at the most"),
        (["udp"], {"batch": 1000}, "--batch takes that many at the most"),
        (["tcp"], {"size": 2}, "has no room for its number"),
        (["tcp"], {"size": 16 * 1024 * 1024, "parties": (5, 1)}, "take fewer producers, or smaller messages"),
    ],
)
def test_what_cannot_be_measured(ways: list[str], changes: dict[str, Any], text: str) -> None:
    """The error says what could."""
    with pytest.raises(ConfigurationError, match=text):
        plan(*ways, **changes)
