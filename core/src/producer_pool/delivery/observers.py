"""Telling observers: soon after it happened, in its order, and never in the middle of it."""
# Rule: an observer is code of others, which may call back in. So it is called when nothing else is going on.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from producer_pool.contract.ports import Observer
from producer_pool.delivery.containment import let_interrupts_pass
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import Health

__all__ = ["Observers"]

log = logging.getLogger(__name__)


class _Settled:
    """Messages of one producer that came to one outcome."""

    __slots__ = ("count", "outcome", "producer_id")

    def __init__(self, producer_id: str, outcome: Outcome) -> None:
        self.producer_id = producer_id
        self.outcome = outcome
        self.count = 0


class Observers:
    """Those who want to be told. What is settled in one turn of the loop is told in one number."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.errors = 0
        """Exceptions that observers raised."""
        self._observers = list(observers)
        self._news: list[Health | _Settled] = []
        self._counting: dict[tuple[str, Outcome], _Settled] = {}
        """What is in _news, behind the last change of state, and may still grow."""
        self._loop: asyncio.AbstractEventLoop
        self._limit = LogLimit()

    @property
    def watching(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._observers)

    def extend(self, observers: Iterable[Observer]) -> None:
        """Tell these too, from now on."""
        self._observers.extend(observers)

    def state_changed(self, health: Health, loop: asyncio.AbstractEventLoop) -> None:
        """Have them told of a new state."""
        if self._observers:
            self._counting.clear()
            self._add(health, loop)

    def settled(
        self, producer_id: str, outcome: Outcome, count: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Have them told of settled messages."""
        if self._observers:
            settled = self._counting.get((producer_id, outcome))
            if settled is None:
                settled = self._counting[producer_id, outcome] = _Settled(producer_id, outcome)
                self._add(settled, loop)
            settled.count += count

    def _add(self, news: Health | _Settled, loop: asyncio.AbstractEventLoop) -> None:
        self._news.append(news)
        if len(self._news) == 1:
            self._loop = loop
            loop.call_soon(self.tell)

    def tell(self) -> None:
        """Tell now what there is to tell: at the end, when no turn of the loop may follow."""
        news, self._news = self._news, []
        self._counting.clear()
        for item in news:
            for observer in tuple(self._observers):
                try:
                    if isinstance(item, Health):
                        observer.state_changed(item)
                    else:
                        observer.settled(item.producer_id, item.outcome, item.count)
                except BaseException as error:
                    let_interrupts_pass(error)
                    self._failed(observer, error)

    def _failed(self, observer: Observer, error: BaseException) -> None:
        self.errors += 1
        if self._limit.allow(id(observer), self._loop.time()) is not None:
            log.error("observer %s failed, which stops nothing", type(observer).__name__, exc_info=error)
