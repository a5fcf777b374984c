"""The express lane: one message to all of its consumers, on the spot, for whoever waits for the results."""
# Rule: what cannot be settled at once goes on as if it had come the long way, in the same order and with the
# same outcomes. So the lane knows nothing of queues, bounds, retries or time.

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from producer_pool.delivery.convoy import Convoy, Odd
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

_STEADY: Final = 8
"""
So many messages after each other, to the same producers, have these join a convoy: to join and to leave it
takes longer than to send to them.
"""


class ExpressLane(Generic[R]):
    """
    Hands a message to one producer after the other, and keeps nothing of it while each settles it at once.

    Where one message follows another to producers that could be in a convoy, it has them join one, and
    hands over there. For who has the turn of the pool's loop, when nothing lies in the log *submits*; and for
    as long as no producer is added.
    """

    def __init__(self, engine: Engine, submits: SubmitLog[R]) -> None:
        self._engine = engine
        self._log = submits
        self._targets: Sequence[str] = ()
        self._results = Results({})
        """Those of a message that all of _targets got: most are alike, and share them."""
        self._convoy: Convoy | None = None
        """The one in which all of _targets were when it was last looked."""
        self._steady = 0
        """Messages that all of _targets settled at once, outside of a convoy."""

    def forward(self, targets: Sequence[str], message: bytes) -> Results | R | None:
        """
        Forward *message*: return its results, or its receipt if some are not known yet.

        None: the lane is closed, and nothing has happened.
        """
        convoy = self._convoy
        if convoy is not None:
            engine = self._engine
            if targets is self._targets and targets == engine.ids:
                odd = convoy.express(message, len(targets))
                if odd is not None:
                    if engine.observers.watching:
                        convoy.settle()
                    return self._follow(convoy, odd, message) if odd else self._results
            self._convoy = None
        return self._one_by_one(targets, message)

    def _follow(self, convoy: Convoy, odd: Sequence[Odd], message: bytes) -> R:
        """Have the *odd* ones go on with a message that the others have; return its receipt."""
        engine = self._engine
        try:
            batch = Batch.owning([message])
            page = OpenPage(self._log, self._targets)
            left = {member.producer.id for member, _ in odd}
            engine.begin(page, batch, [name for name in self._targets if name not in left])
            nothing = convoy.hand_on(odd, page, batch, engine.now())
        except BaseException:
            convoy.end_connections(member for member, _ in odd)  # Nothing may follow half a message.
            raise
        engine.offer(page, batch, nothing)
        return self._log.receipt.made(page, 0)

    def _one_by_one(self, targets: Sequence[str], message: bytes) -> Results | R | None:
        """As forward(), to producers that are on their own."""
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
                engine.begin(page, batch, targets[:done])
                if producer is not None and settled is not None:
                    producer.flies(page, batch, now)  # It has it, too.
                    done += 1
                engine.offer(page, batch, targets[done:])
                return self._log.receipt.made(page, 0)
        if targets is not self._targets:
            self._targets, self._results = targets, _delivered(targets, producers)
            self._steady = 0
        self._steady += 1
        if self._steady == _STEADY:
            self._steady = 0
            self._convoy = engine.gather() if targets == engine.ids else None
        return self._results


def _delivered(targets: Sequence[str], producers: Mapping[str, Producer]) -> Results:
    """Return the results of a message that all of *targets* got at once."""
    chosen = [producers[producer_id] for producer_id in targets]
    optional = [producer.id for producer in chosen if producer.policy.role is not Role.REQUIRED]
    return Results({producer.id: producer.outbox.accounts.first_try for producer in chosen}, optional)
