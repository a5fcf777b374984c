"""What `send` does: batches into a pool of one, no faster than the consumer takes them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from logging.handlers import MemoryHandler
from typing import TYPE_CHECKING, Final

from producer_pool.cli.exits import DONE, FAILED, complain
from producer_pool.cli.mixtures import is_stdout, mixture
from producer_pool.cli.output import print_json
from producer_pool.cli.running import log_to_stderr
from producer_pool.cli.signals import Interrupts
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, FramingError
from producer_pool.model.framing import LINES
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry, Role
from producer_pool.model.redaction import redact
from producer_pool.model.stats import Health, ProducerStats, State
from producer_pool.pool import ProducerPool

if TYPE_CHECKING:
    from producer_pool.delivery.engine import Engine

__all__ = ["Pace", "Sending", "from_stdin", "repeated"]

_ID: Final = "consumer"
_LOST: Final = ("failed", "dropped", "cancelled")
_CHUNK: Final = 256 * 1024
_LONGEST: Final = 16 * 1024 * 1024
"""Bytes of the longest line that is read; the consumer's own limit is usually lower."""
_LINES: Final = 1000
"""Log lines that are put aside at the most."""
_LOOK: Final = 0.2
"""Seconds between two looks at whether the connection still stands, while there is no room or no end."""
_POLICY: Final = DeliveryPolicy(
    buffer=8 * 1024 * 1024,
    overflow=Overflow.BLOCK,
    ack=None,
    # A consumer that makes no progress ends the connection after its timeout; one that is slow may be.
    deadline=24 * 3600.0,
    retry=Retry(attempts=1),
)


class Pace:
    """Holds back what would be faster than *rate* messages a second; None: nothing."""

    def __init__(self, rate: float | None, interrupts: Interrupts) -> None:
        self.rate = rate
        self._interrupts = interrupts
        self._since: float | None = None
        self._sent = 0

    @property
    def most(self) -> int:
        """Messages that a batch may have, so that a second is spread over 50 of them."""
        return sys.maxsize if self.rate is None else max(1, int(self.rate / 50))

    def wait(self, count: int) -> None:
        """Wait until *count* messages more are due."""
        if self.rate is None:
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
        # What was late is not made up for in one burst.
        self._since = max(self._since, now - 1 - self._sent / self.rate)
        self._interrupts.wait(seconds=max(self._since + self._sent / self.rate - now, 0))
        self._sent += count


def repeated(text: str, count: int, pace: Pace) -> Iterator[Batch]:
    """Yield *text*, *count* times, in batches."""
    message = os.fsencode(text)
    most = min(pace.most, max(1, _CHUNK // (len(message) + 1)))
    while count:
        size = min(count, most)
        pace.wait(size)
        yield Batch.of([message] * size)
        count -= size


def from_stdin(
    pace: Pace, interrupts: Interrupts, waiting: Callable[[], AbstractContextManager[None]]
) -> Iterator[Batch]:
    """
    Yield the lines of stdin as they come, in batches; *waiting* is entered while it waits for them.

    Raises:
        FramingError: a line is too long; all lines before it have been yielded.
        OSError: stdin cannot be read.
    """
    decoder = LINES.decoder(_LONGEST)
    while True:
        with waiting():
            interrupts.wait(0)
        chunk = os.read(0, _CHUNK)
        if not chunk:
            break
        wire = decoder.feed(chunk, len(chunk))
        if wire:
            yield from _paced(Batch.from_wire(wire, LINES), pace)
        if decoder.error is not None:
            raise decoder.error
    tail = decoder.finish()
    if tail is not None:
        yield from _paced(Batch.of([tail]), pace)


def _paced(batch: Batch, pace: Pace) -> Iterator[Batch]:
    if pace.rate is None:
        yield batch
        return
    for start in range(0, len(batch), pace.most):
        piece = Batch.of(batch.messages[start : start + pace.most])
        pace.wait(len(piece))
        yield piece


class Sending:
    """One consumer at *url*, from the first connection to the summary."""

    def __init__(self, url: str, factory: ClientFactory, interrupts: Interrupts, *, as_json: bool) -> None:
        self._url = url
        self._factory = factory
        self._interrupts = interrupts
        self._json = as_json
        self._complete = False
        """Whether all that was to be sent was handed over."""
        self._handed = 0
        """Messages handed over: counted here, and not by whoever says what became of them."""
        self._aside = MemoryHandler(_LINES, sys.maxsize, flushOnClose=False)
        """Log lines that are no news if all is delivered: a consumer may go away when it has everything."""

    def run(self, source: Iterator[Batch]) -> int:
        """
        Send what *source* yields until it ends or the connection breaks, sum up, return the exit code.

        Raises:
            ConfigurationError, PluginError: the URL cannot be used.
        """
        endpoint = Endpoint.parse(self._url)
        waits = endpoint.options.get("overflow", "block") == "block"
        if waits and endpoint.options.get("role") == Role.SHADOW.value:
            raise ConfigurationError(
                f"{endpoint.without(endpoint.options)}: send waits for its consumer, which role=shadow rules "
                "out; leave out role="
            )
        for url in (self._url, endpoint.options.get("dead-letters", "")):
            if self._json and is_stdout(url):
                raise ConfigurationError(mixture(redact(url), "--json"))
        plan = self._factory.plan(self._url, _POLICY)
        log_to_stderr("critical")  # Why it is not reached is said below, once.
        with self._interrupts, ProducerPool(limits=Limits(drain=0.0)) as pool:
            # As an injected client: the filters of a daemon are no concern of what is sent by hand.
            pool.add_producer(_ID, plan.client, policy=plan.policy)
            with self._interrupts.raised():
                health = pool.check(wait=plan.client.timeout + 1)[_ID]
            if health.state is not State.UP:
                error = str(health.last_error or f"{health.address}: not reached")
                complain(error)
                self._tell(ProducerStats(), health, 0.0, error)
                return FAILED
            self._log_aside()
            since = time.monotonic()
            try:
                self._send(pool, source)
            except FramingError as error:
                complain(f"stdin: {error}; nothing after it was sent")
            except OSError as error:  # All that the pool raises has a name of its own.
                complain(f"stdin cannot be read: {error.strerror}; nothing more was sent")
            except KeyboardInterrupt:
                complain("interrupted")
            seconds = time.monotonic() - since
            pool.close()
            return self._sum_up(pool.stats().producers[_ID], pool.health()[_ID], seconds)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say at once what the log says in the body, where nobody knows when that ends; and what it said."""
        self._aside.flushLevel = logging.NOTSET
        self._aside.flush()
        try:
            yield
        finally:
            self._aside.flushLevel = sys.maxsize

    def _log_aside(self) -> None:
        log_to_stderr("warning", "producer-pool: %(message)s")
        handlers = logging.getLogger().handlers
        self._aside.setTarget(handlers[0])
        handlers[:] = [self._aside]

    def _send(self, pool: ProducerPool, source: Iterator[Batch]) -> None:
        for batch in source:
            while not self._feed(pool, batch):
                if _is_broken(pool.health()):
                    complain("the connection broke; what comes after it was not sent")
                    return
            self._handed += len(batch)
        while not self._drain(pool):
            if _is_broken(pool.health()):
                # It may have taken all since that look, and gone: that is no fault.
                self._complete = pool.stats().producers[_ID].delivered == self._handed
                return
            self._aside.flush()
        self._complete = True

    def _feed(self, pool: ProducerPool, batch: Batch) -> bool:
        with self._interrupts.raised():
            return pool.worker().run(partial(_feed, batch))

    def _drain(self, pool: ProducerPool) -> bool:
        with self._interrupts.raised():
            return pool.drain(wait=_LOOK)

    def _sum_up(self, stats: ProducerStats, health: Health, seconds: float) -> int:
        ok = self._complete and stats.delivered == self._handed
        if ok:
            self._aside.buffer.clear()
        self._aside.flush()
        words = [f"{stats.delivered:,} delivered ({health.ack.label})"]
        words += [f"{lost:,} {name}" for name in _LOST if (lost := getattr(stats, name))]
        rate = f", {stats.delivered / seconds:,.0f}/s" if stats.delivered >= 1000 else ""
        text = f"{stats.accepted:,} sent: {', '.join(words)} in {seconds:.2f} s{rate}"
        print(text, file=sys.stderr, flush=True)
        self._tell(stats, health, seconds, str(health.last_error) if health.last_error and not ok else None)
        return DONE if ok else FAILED

    def _tell(self, stats: ProducerStats, health: Health, seconds: float, error: str | None) -> None:
        """Print what became of all, if it is for a program."""
        if self._json:
            counted = {name: getattr(stats, name) for name in ("accepted", "delivered", *_LOST)}
            print_json(
                {
                    "address": health.address,
                    "complete": self._complete,
                    **counted,
                    "ack": health.ack.label,
                    "seconds": round(seconds, 6),
                    "error": error,
                }
            )


async def _feed(batch: Batch, engine: Engine) -> bool:
    """Hand over *batch*, if there is room soon and the connection stands; say whether it was."""
    if engine.paused:
        with suppress(TimeoutError):
            await asyncio.wait_for(engine.resumed(), _LOOK)
    if engine.paused or _is_broken(engine.health()):
        return False
    engine.feed(batch)
    return True


def _is_broken(health: Mapping[str, Health]) -> bool:
    return health[_ID].last_error is not None
