"""What ``producer-pool send`` makes of a consumer that goes away, at a moment of our choice."""

from typing import Any

import pytest

from producer_pool.cli.sending import Pace, Sending, repeated
from producer_pool.cli.signals import Interrupts
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.errors import SendError
from producer_pool.model.stats import Health, PoolStats, ProducerStats, State


class Gone:
    """A pool whose consumer goes away when the look at what it has taken is just over."""

    def __init__(self, delivered: int) -> None:
        self.delivered = delivered

    def worker(self) -> "Gone":
        return self

    def run(self, work: object) -> bool:
        return True

    def drain(self, wait: float) -> bool:
        return False

    def health(self) -> dict[str, Health]:
        return {"consumer": Health("consumer", State.DOWN, 0.0, last_error=SendError("closed"))}

    def stats(self) -> PoolStats:
        return PoolStats({"consumer": ProducerStats(accepted=3, delivered=self.delivered)})


@pytest.mark.parametrize("delivered,code", [(3, 0), (2, 1)])
def test_consumer_that_goes_just_then(delivered: int, code: int) -> None:
    """If it has taken all, that is no fault; if not, it is one."""
    interrupts = Interrupts()
    sending = Sending("null:", ClientFactory(), interrupts, as_json=False)
    pool: Any = Gone(delivered)
    sending._send(pool, repeated("x", 3, Pace(None, interrupts)))

    assert sending._sum_up(pool.stats().producers["consumer"], pool.health()["consumer"], 0.1) == code
