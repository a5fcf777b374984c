"""Where a pool's dead letters go: into folders, or to consumers of their own."""
# Rule: no dead letters of dead letters. What becomes of them is counted at the producer that gave them up,
# and logged; no result, target or health of the pool knows who keeps them.

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from producer_pool.delivery.letters import DeadLetters
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.producer import Producer
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import is_url
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.given_up import GivenUp
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.storage.dead_letters_document import encoded
from producer_pool.storage.dead_letters_writer import ROOM, LetterWriter, letter_of

if TYPE_CHECKING:
    from producer_pool.discovery.factory import ClientFactory, ProducerPlan

__all__ = ["FLUSH", "DeadLetterOffice", "plan_for_letters"]

FLUSH: Final = 0.8
"""Seconds that dead letters have at the end, after all producers are closed."""
_POLICY: Final = replace(DeliveryPolicy.relay(), buffer=ROOM)


def plan_for_letters(factory: ClientFactory, url: str) -> ProducerPlan:
    """
    Return what sends dead letters to *url*. Nothing is connected.

    Raises:
        ConfigurationError, PluginError: the URL cannot be used for that.
    """
    plan = factory.plan(url, _POLICY)
    if plan.policy.dead_letters is not None:
        raise ConfigurationError(
            f"{plan.endpoint}: dead letters that are given up are not kept; leave out its dead-letters="
        )
    return plan


class DeadLetterOffice:
    """The dead letters of one pool: a writer for each folder, a producer for each URL."""

    def __init__(self, factory: Callable[[], ClientFactory]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._writers: dict[str, LetterWriter] = {}
        self._forwarders: dict[str, _Forwarder] = {}

    def letters_of(self, producer_id: str, policy: DeliveryPolicy) -> DeadLetters | None:
        """
        Return what takes what this producer gives up, if its policy asks for that. From any thread.

        Raises:
            StorageError: the folder cannot be used.
            ConfigurationError, PluginError: the URL cannot be used.
        """
        place = policy.dead_letters
        if place is None:
            return None
        role = policy.role.value
        with self._lock:
            if is_url(place):
                if place not in self._forwarders:
                    self._forwarders[place] = self._forwarder(place)
                return _Addressed(self._forwarders[place], producer_id, role)
            writer = LetterWriter(place)
            # Two ways to write one path, such as with and without a slash at its end, are one folder.
            return _Addressed(self._writers.setdefault(writer.folder, writer), producer_id, role)

    def _forwarder(self, url: str) -> _Forwarder:
        plan = plan_for_letters(self._factory(), url)
        number = len(self._forwarders) + 1
        name = "dead-letters" if number == 1 else f"dead-letters-{number}"
        return _Forwarder(Producer(name, plan.client, plan.policy))

    async def aclose(self, wait: float = FLUSH) -> None:
        """Finish what is on its way, within about *wait* seconds. May be called twice."""
        closing = [writer.aclose(wait) for writer in self._writers.values()]
        closing += [forwarder.aclose(wait) for forwarder in self._forwarders.values()]
        await asyncio.gather(*closing)


class _Forwarder:
    """Sends dead letters to a consumer of their own, a JSON object each."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._budget = Budget(0)
        self._waiting: list[tuple[Batch, Callable[[bool], None]]] = []
        self._waiting_bytes = 0
        self._closed = False

    def take(self, producer_id: str, role: str, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        """Have messages sent; see DeadLetters.take()."""
        full = self._waiting_bytes and self._waiting_bytes + given_up.batch.nbytes > ROOM
        if full or self._closed:
            return False
        loop = asyncio.get_running_loop()
        letter, messages = letter_of(producer_id, role, given_up, loop.time(), time.time())
        batch = Batch.owning([encoded(letter, message) for message in messages])
        given_up.batch.compact()
        # Sending calls code of others, which may call back: not in the middle of somebody's accounting.
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append((batch, done))
        self._waiting_bytes += batch.nbytes
        return True

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        producer = self._producer
        if not self._closed:
            producer.start()
        now = asyncio.get_running_loop().time()
        for batch, done in waiting:
            page = Page(None, (producer.id,), tracked=True)
            page.open(self._budget, batch)
            producer.offer(page, now)
            page.when_done(None, partial(self._sent, page, len(batch), done))

    def _sent(self, page: Page, count: int, done: Callable[[bool], None]) -> None:
        done(all(page.results(index).ok for index in range(count)))

    async def aclose(self, wait: float) -> None:
        """Send what waits, for at most *wait* seconds."""
        if self._waiting:
            self._send()
        self._closed = True
        loop = asyncio.get_running_loop()
        enough = loop.call_later(wait, self._producer.give_up)
        try:
            await self._producer.drain()
        finally:
            enough.cancel()
            await self._producer.aclose()


class _Addressed:
    """The dead letters of one producer, on their way to a folder or a consumer."""

    def __init__(self, way: LetterWriter | _Forwarder, producer_id: str, role: str) -> None:
        self._way = way
        self._producer_id = producer_id
        self._role = role

    def take(self, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        """See DeadLetters."""
        return self._way.take(self._producer_id, self._role, given_up, done)
