"""What every kind of pool does before anything waits, and what it opens when it begins to work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from producer_pool.contract.ports import Client
from producer_pool.contract.wiring import Wiring
from producer_pool.delivery.engine import Engine
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import Handle
from producer_pool.delivery.roster import Roster
from producer_pool.delivery.submitlog import OpenPage, SubmitLog
from producer_pool.model.batch import Batch, payload
from producer_pool.model.errors import UsageError
from producer_pool.model.policies import DeliveryPolicy, Spool, checked_policy

if TYPE_CHECKING:
    from producer_pool.dead_letter_office import DeadLetterOffice
    from producer_pool.delivery.store import Store
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["Entrance", "opened"]

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Handle)


class Entrance(Generic[R]):
    """
    What every kind of pool does before anything waits: ids, URLs, text to bytes, a place in the log.

    Safe to call from any thread.
    """

    def __init__(
        self, log: SubmitLog[R], policy: DeliveryPolicy | None, factory: ClientFactory | None
    ) -> None:
        self.log = log
        self.roster = Roster()
        self.policy = checked_policy(policy) or DeliveryPolicy.direct()
        self._factory = factory
        self._office: DeadLetterOffice | None = None
        self._opening = threading.Lock()
        self._warned = False
        self._announced = False
        self._processing = False

    @property
    def factory(self) -> ClientFactory:
        """What makes clients from URLs; made when the first URL comes."""
        if self._factory is None:
            from producer_pool.discovery.factory import ClientFactory

            self._factory = ClientFactory()
        return self._factory

    def announce(self, engine: Engine, pool: object) -> None:
        """Tell the plugins of *pool* that it runs, once there are plugins: they come with the first URL."""
        if not self._announced and self._factory is not None:
            self._announced = True
            engine.observe(self._wiring.observers(pool))
            self._wiring.started(pool)

    def take_leave(self, pool: object, drain: float) -> None:
        """Tell the plugins that were told of *pool* that it stops."""
        if self._announced:
            self._wiring.stopping(pool, drain)

    @property
    def _wiring(self) -> Wiring:
        """What plugins add to the pool; nothing as long as no URL asked for plugins."""
        return self._factory.wiring() if self._factory is not None else _NO_WIRING

    def producer(
        self, producer_id: str, to: str | Client, policy: DeliveryPolicy | None, timeout: float | None
    ) -> Producer:
        """Make the producer that add_producer() adds."""
        policy = checked_policy(policy) or self.policy
        if not isinstance(to, str):
            if timeout is not None:
                raise UsageError(
                    "timeout= goes with a URL; set the timeout of an injected client on the client"
                )
            stages = self._wiring.stages(producer_id, None)
            return self._with_letters(Producer(producer_id, to, policy, stages=stages))
        plan = self.factory.plan(to, policy, timeout=timeout)
        stages = self._wiring.stages(producer_id, plan.endpoint)
        return self._with_letters(Producer(producer_id, plan.client, plan.policy, stages=stages))

    def _with_letters(self, producer: Producer) -> Producer:
        """Have what *producer* gives up kept, where its policy asks for that."""
        if producer.policy.dead_letters is not None:
            from producer_pool.dead_letter_office import DeadLetterOffice

            with self._opening:  # Two threads may add a producer each at once.
                if self._office is None:
                    self._office = DeadLetterOffice(lambda: self.factory)
            producer.outbox.accounts.letters = self._office.letters_of(producer.id, producer.policy)
        return producer

    async def close_letters(self) -> None:
        """Finish what dead letters are on their way, within a second. Once all producers are closed."""
        if self._office is not None:
            await self._office.aclose()

    def append(self, targets: Sequence[str], message: bytes | str, *, wake: bool = True) -> R:
        """Put one message in the log. Without targets there is nothing to do, but to say so once."""
        if type(message) is not bytes:
            message = payload(message)
        if targets:
            return self.log.append(targets, message, wake=wake)
        self.log.check_open()
        if not self._warned:
            self._warned = True
            log.warning("a message was submitted to a pool without producers: it went nowhere")
        page = OpenPage(self.log, targets)
        if self.log.stores:
            page.decide_stored(True)  # Nothing of it is missing anywhere.
        return self.log.receipt.made(page, 0)

    def targets(self, to: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the producers that *to* names: one id, several, or None for all."""
        if to is None:
            return self.roster.all
        return self.roster.one(to) if isinstance(to, str) else self.roster.many(to)

    def several(self, messages: Iterable[bytes | str]) -> Iterable[bytes | str]:
        """
        Return *messages* if they are several: of one text, each letter would be a message.

        Raises:
            UsageError: they are one.
        """
        if isinstance(messages, str | bytes | bytearray | memoryview):
            raise UsageError(
                f"expected several messages, got one {type(messages).__name__}; use submit() for one"
            )
        return messages

    def process(self, engine: Engine, *, pages_only: bool = False) -> None:
        """Hand all that lies in the log to the engine. On the loop, or with *pages_only* in its place."""
        if self._processing:
            return  # Called from inside: what it is in the middle of comes first.
        self._processing = True
        try:
            for entry in self.log.swap(pages_only=pages_only):
                try:
                    if isinstance(entry, OpenPage):
                        engine.take(entry, Batch.owning(entry.give_away()))
                    else:
                        entry()
                except Exception:
                    log.exception("unexpected; what was submitted after it goes on")
        finally:
            self._processing = False


_NO_WIRING = Wiring()


def opened(spool: Spool | None) -> Store | None:
    """
    Return the store that *spool* describes, open; None: there is none.

    Raises:
        StorageError: it cannot be used; the text says why, and what to do.
    """
    if spool is None:
        return None
    from producer_pool.storage.spool import SpoolStore

    opened = SpoolStore(spool)
    opened.open()
    store: Store = opened
    return store
