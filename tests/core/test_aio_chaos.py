"""Any number of days with clients that do anything: every message has one outcome at each, and a true one."""

import pytest

from producer_pool.testing import in_virtual_time
from support.days import Days
from support.seeds import block_of, kept, run_seeds

pytestmark = pytest.mark.usefixtures("no_log")

SEEDS = 240
BLOCKS = 8
"""Seeds are run in so many tests, for as many processors."""


@pytest.mark.parametrize("block", range(BLOCKS))
def test_days(block: int) -> None:
    """Conservation at every step; at the end one outcome each, told and counted alike, and order."""
    run_seeds("days", run, block_of(block, BLOCKS, SEEDS))


def test_days_that_once_failed() -> None:
    """They are run each time."""
    run_seeds("days", run, kept("days"))


@in_virtual_time
async def run(seed: int) -> None:
    days = Days(seed)
    stats = await days.live()
    await days.judge(stats)
    days.judge_order()
