"""What is left behind is counted, with a moment for the other side to let go."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from producer_pool.testing.leftovers import COUNTED, descriptors, require_back
from producer_pool.testing.rule import RuleBroken
from support.trials import trying
from support.waiting import eventually


def test_descriptors() -> None:
    """One more is one more."""

    def counted() -> bool:
        before = descriptors()
        reader, writer = os.pipe()
        between = descriptors()
        os.close(reader)
        os.close(writer)
        return (between - before, descriptors() - before) == (2, 0)

    # What tests before this one left to other threads, or to the collector, may just be ending.
    eventually(counted, "two more, and then as many as before")


async def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a loop are not counted: how soon it has all that it keeps is up to the scheduler."""
    loops = await asyncio.to_thread(threading.current_thread)
    monkeypatch.setattr(threading, "enumerate", lambda: [loops, loops, threading.Thread()])

    assert COUNTED["threads"]() == 1


async def test_what_goes_in_time(tmp_path: Path) -> None:
    """It is waited for, and one that stays is no leak."""
    things = [1] * 10
    async with trying(tmp_path) as trial:
        asyncio.get_running_loop().call_later(0.02, things.clear)
        await require_back(trial, 0, lambda: len(things) + 1, "things", "it was over")

    assert not things


async def test_what_stays(tmp_path: Path) -> None:
    """It is named, with its number, and after what it stayed."""
    async with trying(tmp_path, patience=0.05) as trial:
        with pytest.raises(RuleBroken, match="2 things are left after it was over"):
            await require_back(trial, 3, lambda: 5, "things", "it was over")
