"""The process of a bench that sends, on a machine that stands still now and then."""

import time
from typing import Any

import pytest

from producer_pool.cli.benching.generating import _Generating


class OneLine:
    """A line with room for one write, and what is missing of it at each look; the last one is for ever."""

    has_room = True

    def __init__(self, *looks: int) -> None:
        self.sent = 0
        self.looks = list(looks)

    def begin(self, unit: int) -> None:
        self.unit = unit

    async def room(self, end: int) -> bool:
        return False

    async def write(self, due: int) -> None:
        self.sent += self.unit
        self.has_room = False

    @property
    def missing(self) -> int:
        if len(self.looks) > 1:
            time.sleep(0.1)  # Everybody stands still.
            return self.looks.pop(0)
        return self.looks[0]


def generating(line: Any) -> _Generating:
    unused: Any = None
    return _Generating(unused, [line], None)


@pytest.mark.parametrize("rate", [None, 1.0])
async def test_time_that_others_took(rate: float | None) -> None:
    """A run that had no time sends something: of nothing, nobody could say whether it arrives."""
    said = await generating(OneLine(0)).measure(1, 0.0, rate)

    assert said["sent"] == [1]


async def test_standstill_is_no_loss() -> None:
    """What is on its way while nothing moves at all is waited for; what does not come is given up."""
    late, lost = OneLine(1, 1, 1, 0), OneLine(1)
    await generating(late)._arrive(0.05)
    await generating(lost)._arrive(0.05)

    assert late.looks == [0]
