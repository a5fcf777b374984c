"""The express lane: one message to all of its consumers, on the spot, for whoever waits for the results."""
# Rule: what cannot be settled at once goes on as if it had come the long way, in the same order and with the
# same outcomes. So the lane knows nothing of queues, bounds, retries or time.

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import Handle
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.model.batch import Batch
from producer_pool.model.outcomes import Results
from producer_pool.model.policies import Role

__all__ = ["ExpressLane"]

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Handle)


class ExpressLane(Generic[R]):
    """
    Hands a message to one producer after the other, and keeps nothing of it while each settles it at once.

    For who has the turn of the pool's loop, when nothing lies in the log *submits*.
    """

    def __init__(self, engine: Engine, submits: SubmitLog[R]) -> None:
        self._engine = engine
        self._log = submits
        self._targets: Sequence[str] = ()
        self._results = Results({})
        """Those of a message that all of _targets got: most are alike, and share them."""

    def forward(self, targets: Sequence[str], message: bytes) -> Results | R | None:
        """
        Forward *message*: return its results, or its receipt if some are not known yet.

        None: the lane is closed, and nothing has happened.
        """
        engine = self._engine
        batch = Batch.owning([message])
        producers = engine.open_for(batch.cost)
        if producers is None:
            return None
        now = engine.now()
        for done, producer_id in enumerate(targets):
            producer = producers.get(producer_id)
            try:
                settled = producer.express(batch, now) if producer is not None else None
            except Exception:
                settled = None  # The long way has to do with it.
            if not settled:
                page = OpenPage(self._log, targets)
                engine.take_rest(page, batch, done, flies=settled is not None, now=now)
                return self._log.receipt.made(page, 0)
        if targets is not self._targets:
            self._targets, self._results = targets, _delivered(targets, producers)
        return self._results


def _delivered(targets: Sequence[str], producers: Mapping[str, Producer]) -> Results:
    """Return the results of a message that all of *targets* got at once."""
    chosen = [producers[producer_id] for producer_id in targets]
    optional = [producer.id for producer in chosen if producer.policy.role is not Role.REQUIRED]
    return Results({producer.id: producer.outbox.accounts.first_try for producer in chosen}, optional)
