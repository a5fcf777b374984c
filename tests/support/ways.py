"""Ways of a message that is waited for, to compare what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.expresslane import ExpressLane
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import Handle
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Results

__all__ = ["Express", "Way"]


class Way:
    """How messages get to the producers of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.log: SubmitLog[Handle] = SubmitLog(lambda: None, Handle)

    def forward(self, targets: Sequence[str], message: bytes) -> Callable[[], Results]:
        """Forward *message*, and return what tells its results now."""
        page = OpenPage(self.log, targets)
        self.engine.take(page, Batch.owning([message]))
        return lambda: page.results(0)


class Express(Way):
    """Through the lane, if it is open: a new one whenever others are there, as a pool makes it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.lane = ExpressLane(engine, self.log)
        self.at_once = 0
        self._there = self._producers()

    def _producers(self) -> list[Producer]:
        return list((self.engine.open_for(0) or {}).values())

    def forward(self, targets: Sequence[str], message: bytes) -> Callable[[], Results]:
        there = self._producers()
        if there != self._there:
            self._there = there
            self.lane = ExpressLane(self.engine, self.log)
        answer = self.lane.forward(targets, message)
        if isinstance(answer, Results):
            self.at_once += 1
            return lambda: answer
        return super().forward(targets, message) if answer is None else lambda: answer._page.results(0)
