"""What `dead-letters replay` does: letters through a pool of their producers, and out of the folder."""
# Rule: a letter is removed after its outcome is DELIVERED, and not before.

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from producer_pool.aio import AsyncProducerPool
from producer_pool.cli.exits import DONE, FAILED, complain
from producer_pool.cli.mixtures import is_stdout, mixture
from producer_pool.cli.output import print_json, printable
from producer_pool.cli.signals import Stop
from producer_pool.model.errors import ConfigurationError, DeliveryError
from producer_pool.model.outcomes import ForwardResult
from producer_pool.model.policies import Limits, Overflow
from producer_pool.model.stats import Health, State
from producer_pool.model.text import format_count
from producer_pool.storage.dead_letters_lock import replaying
from producer_pool.storage.dead_letters_values import reason_of

if TYPE_CHECKING:
    from producer_pool.discovery.config import Settings
    from producer_pool.discovery.factory import ClientFactory
    from producer_pool.storage.dead_letters import LetterFile
    from producer_pool.storage.dead_letters_values import Choice, Letter

__all__ = ["Replaying"]

_AT_ONCE: Final = 1024 * 1024
"""Bytes of letters that are on their way at once, for each producer."""
_MOST: Final = 64
"""Letters of them."""


class Replaying:
    """One run of the command, from what is chosen to what is said at the end."""

    def __init__(
        self, file: LetterFile, choice: Choice, settings: Settings, factory: ClientFactory, *, wait: float
    ) -> None:
        self._file = file
        self._choice = choice
        self._settings = settings
        self._factory = factory
        self._wait = wait
        self._latest = file.latest()
        """What is given up from now on is for another time."""
        self._delivered: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._why: dict[str, str] = {}

    def run(self) -> int:
        """
        Replay, sum up, and return the exit code.

        Raises:
            StorageError: the folder cannot be used, or another replay is at work in it.
            ConfigurationError, PluginError: a producer's URL cannot be used.
        """
        with replaying(self._file.path.parent):
            chosen: Counter[str] = Counter()
            for letter in self._file.letters(self._choice, latest=self._latest):
                chosen[letter.producer_id] += letter.count
            asyncio.run(self._replay(chosen))
        for producer_id, count in chosen.items():
            self._left[producer_id] = count - self._delivered[producer_id]
        return self._sum_up(chosen)

    async def _replay(self, chosen: Counter[str]) -> None:
        stop = Stop()
        producers = {producer.id: producer for producer in self._settings.producers}
        async with AsyncProducerPool(limits=Limits(drain=0.0)) as pool:
            longest = 0.0
            for producer_id in chosen:
                producer = producers.get(producer_id)
                if producer is None:
                    self._why[producer_id] = (
                        f"there is no producer of this id; name one: --to {producer_id}=URL"
                    )
                    continue
                if self._settings.json and is_stdout(producer.url):
                    json = self._settings.origins["json"]
                    raise ConfigurationError(f"{producer.origin}: {mixture(producer.shown, json)}")
                plan = self._factory.plan(producer.url, self._settings.policy)
                policy = replace(plan.policy, dead_letters=None, deadline=self._wait, overflow=Overflow.BLOCK)
                # As an injected client: what stages made of these messages, they need not make again.
                await pool.add_producer(producer_id, plan.client, policy=policy)
                longest = max(longest, plan.client.timeout)
            health = await pool.check(wait=min(longest + 1, self._wait))
            works = []
            for producer_id, one in health.items():
                if _is_there(one):
                    works.append(self._through(pool, producer_id, stop))
                else:
                    self._why[producer_id] = str(one.last_error or f"{one.address}: not reached")
            await asyncio.gather(*works)

    async def _through(self, pool: AsyncProducerPool, producer_id: str, stop: Stop) -> None:
        """Replay what one producer gave up."""
        for letters in self._chunks(producer_id):
            if stop.asked.is_set():
                self._why[producer_id] = "interrupted"
                return
            delivered = await self._send(pool, producer_id, letters)
            if not delivered and not _is_there((await pool.health())[producer_id]):
                return  # The next ones would not be delivered either, and take their time for it.

    def _chunks(self, producer_id: str) -> Iterator[list[tuple[Letter, list[bytes]]]]:
        """Yield letters with their messages, in order, as many as may be on their way at once."""
        chunk: list[tuple[Letter, list[bytes]]] = []
        size = 0
        only = self._choice.of(producer_id)
        for letter in self._file.letters(only, latest=self._latest) if only is not None else ():
            found = self._file.messages(letter.number)
            if found is None:
                continue  # Somebody dropped it meanwhile.
            if found[1] is None:
                self._why[producer_id] = f"letter {letter.number} is damaged"
                continue
            if chunk and (size + letter.nbytes > _AT_ONCE or len(chunk) == _MOST):
                yield chunk
                chunk, size = [], 0
            chunk.append((found[0], found[1]))
            size += letter.nbytes
        if chunk:
            yield chunk

    async def _send(
        self, pool: AsyncProducerPool, producer_id: str, letters: Sequence[tuple[Letter, list[bytes]]]
    ) -> int:
        """Send some letters, and note in the file what became of them; return how much was delivered."""
        waiting = []
        for letter, messages in letters:
            receipts = []
            for message in messages:
                try:
                    receipts.append(await pool.submit(message, to=producer_id))
                except DeliveryError as error:  # No room in time: so it was for all behind it.
                    self._why[producer_id] = str(error)
                    break
            waiting.append((letter, messages, receipts))
            if len(receipts) < len(messages):
                break
        through: list[int] = []
        kept: list[tuple[Letter, list[bytes]]] = []
        delivered = 0
        for letter, messages, receipts in waiting:
            results = [(await receipt.results())[producer_id] for receipt in receipts]
            oks = [result.ok for result in results] + [False] * (len(messages) - len(results))
            delivered += sum(oks)
            if all(oks):
                through.append(letter.number)
            elif results:
                left = [message for message, ok in zip(messages, oks, strict=True) if not ok]
                failed = next((result for result in results if not result.ok), None)
                kept.append((self._as_it_is_now(letter, failed), left))
        self._file.remove(through)
        self._file.rewrite(kept)
        self._delivered[producer_id] += delivered
        return delivered

    def _as_it_is_now(self, letter: Letter, result: ForwardResult | None) -> Letter:
        """Return what is known of a letter after it was tried once more."""
        if result is None or result.error is None:
            return letter
        now = time.time()
        reason, error = reason_of(result.error)
        self._why[letter.producer_id] = error
        return replace(
            letter,
            reason=reason,
            error=error,
            attempts=letter.attempts + result.attempts,
            given_up=now,
            last=now,
        )

    def _sum_up(self, chosen: Counter[str]) -> int:
        for producer_id, left in self._left.items():
            if left:
                why = f": {why}" if (why := self._why.get(producer_id)) else ""
                stay = "stays" if left == 1 else "stay"
                complain(printable(f"{producer_id}: {format_count(left, 'message')} {stay}{why}"))
        delivered, left = self._delivered.total(), self._left.total()
        print(f"{chosen.total():,} replayed: {delivered:,} delivered, {left:,} stay", file=sys.stderr)
        if self._settings.json:
            print_json(
                {
                    producer_id: {
                        "chosen": count,
                        "delivered": self._delivered[producer_id],
                        "stay": self._left[producer_id],
                        "why": self._why.get(producer_id),
                    }
                    for producer_id, count in chosen.items()
                }
            )
        return FAILED if left else DONE


def _is_there(health: Health) -> bool:
    return health.state in (State.UP, State.DEGRADED, State.PAUSED)
