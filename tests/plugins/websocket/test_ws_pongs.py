"""Pongs: what they acknowledge, and when a ping goes out."""

from __future__ import annotations

import pytest

from producer_pool_websocket.pongs import Pongs


def test_pong_stands_for_all_before_it() -> None:
    """Only the last of several pings need be answered, and an answer counts what stood before its ping."""
    pongs = Pongs()
    pongs.ask(100, 0.0)
    second = pongs.ask(200, 1.0)
    third = pongs.ask(300, 2.0)
    assert pongs.acknowledged(1000) == 0
    assert pongs.since == 0.0

    assert pongs.answered(second)
    assert pongs.acknowledged(1000) == 200
    assert pongs.since == 2.0
    assert pongs.answered(third)
    assert pongs.since is None


def test_pongs_that_answer_nothing() -> None:
    """Unasked ones, old ones, and ones of the future acknowledge nothing."""
    pongs = Pongs()
    first = pongs.ask(100, 0.0)
    later = Pongs().ask(1 << 40, 0.0)
    pongs.answered(first)

    for payload in (b"", b"hello", first, later, b"x" * 8):
        assert not pongs.answered(payload)
    assert pongs.acknowledged(1000) == 100


def test_one_ping_on_its_way() -> None:
    """And a further one after each 64 KiB, so that progress is seen before the first comes back."""
    pongs = Pongs()
    assert pongs.due(10, 5.0) == 0.0
    first = pongs.ask(10, 5.0)

    assert pongs.due(11, 6.0) is None
    assert pongs.due(10 + 65535, 6.0) is None
    assert pongs.due(10 + 65536, 5.0) == 0.0
    pongs.answered(first)
    assert pongs.due(11, 6.0) == 0.0


def test_pings_are_apart() -> None:
    """However soon they are answered, they are no more than one a millisecond: many messages share one."""
    pongs = Pongs()
    pongs.answered(pongs.ask(10, 5.0))

    assert pongs.due(11, 5.0004) == pytest.approx(0.0006)
    assert pongs.due(11, 5.0011) == 0.0
