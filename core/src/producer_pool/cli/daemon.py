"""The daemon: listeners poured into a pool until somebody asks it to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from producer_pool import __version__
from producer_pool.aio import AsyncProducerPool
from producer_pool.cli.configuration import Problems
from producer_pool.cli.exits import DONE, FAILED
from producer_pool.cli.memory import collect_from_now_on, keep_freed_memory
from producer_pool.cli.output import JsonPrinter, LinePrinter, log_through
from producer_pool.cli.report import Snapshot, banner, ended_well, final_lines, in_json, status_line
from producer_pool.cli.signals import Stop
from producer_pool.contract.ports import Listener
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.stats import Health, PoolStats
from producer_pool.model.text import format_duration

if TYPE_CHECKING:
    from producer_pool.delivery.engine import Engine
    from producer_pool.discovery.config import Settings
    from producer_pool.discovery.factory import ClientFactory

__all__ = ["STILL", "Daemon"]

log = logging.getLogger(__name__)

STATUS: Final = 60.0
"""Seconds between two status lines."""
STILL: Final = 5.0
"""Seconds for which something may hold up all before the log says what it is."""
_LAST_WORDS: Final = 1.0
"""Seconds that the end waits for somebody to read what is printed."""
_OVERTIME: Final = 0.8
"""Seconds after the time to drain until the process ends, though code of others does not let go."""
_FIRST_LOOK: Final = 0.3
"""Seconds that the banner waits for consumers, to say whether they are there."""


class Daemon:
    """One run of the daemon, from the start to what is said at the end."""

    def __init__(self, settings: Settings, factory: ClientFactory, problems: Problems) -> None:
        """*problems* are those found so far: run() ends with them and what it finds itself."""
        self._problems = problems
        self._settings = settings
        self._factory = factory
        self._json = JsonPrinter() if settings.json else None
        self._talk = LinePrinter(2)
        self._open: list[tuple[str, Listener]] = []
        """Listeners that listen, each with its real address."""
        self._spool = os.fspath(settings.spool.path) if settings.spool is not None else ""
        self._statuses: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None
        """None: it has not begun."""
        self._code: int | None = None
        """The exit code, once it is known, and all is said."""

    async def run(self) -> int:
        """
        Forward until SIGTERM or SIGINT, then read what has arrived, drain, report; return the exit code.

        Raises:
            ListenError: it cannot listen. Nothing is left open.
            StorageError: its spool cannot be used.
        """
        try:
            # Nobody has to wait for who reads our stderr.
            with log_through(self._talk):
                return await self._run()
        finally:
            self._talk.finish(_LAST_WORDS)

    async def _run(self) -> int:
        keep_freed_memory()
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._stop = Stop(self._settings.limits.drain + _OVERTIME, self._leave)
        self._loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP does nothing; restart to read changes")
        self._loop.add_signal_handler(signal.SIGUSR1, self._ask_status)
        settings = self._settings
        limits = replace(settings.limits, watchdog=min(settings.limits.watchdog, STILL))
        self._pool = AsyncProducerPool(
            policy=settings.delivery, limits=limits, factory=self._factory, spool=settings.spool
        )
        listeners = await self._build()
        try:
            self._problems.leave_if_any()
            with _held_back():
                await self._start(listeners)
            await self._until_asked()
        except BaseException:
            for listener in listeners:
                await listener.aclose()
            await self._pool.aclose(drain=0)
            raise
        return await self._end()

    # -- start -------------------------------------------------------------------------------------

    async def _build(self) -> list[Listener]:
        """Make everything. Nothing is connected, and nobody can connect yet."""
        listeners = []
        for setting in self._settings.listeners:
            with self._problems.collected(setting.origin):
                listeners.append(self._factory.listener(setting.url))
        for producer in self._settings.producers:
            with self._problems.collected(producer.origin):
                await self._pool.add_producer(producer.id, producer.url)
        return listeners

    async def _start(self, listeners: Sequence[Listener]) -> None:
        self._engine = self._pool.engine
        collect_from_now_on()  # A listener may take long to start, while others work already.
        for listener in listeners:
            endpoint = await listener.start(self._pool.intake)
            self._open.append((str(endpoint), listener))
        await self._pool.check(wait=_FIRST_LOOK)
        self._before = now = await self._snapshot()
        policy = "relay" if self._settings.policy == DeliveryPolicy.relay() else "direct"
        title = f"producer-pool {__version__}, pid {os.getpid()}, {policy} policy"
        if self._spool:
            title += f", spool {self._spool}"
            self._pool.engine.warn_of_strangers()
        self._talk.put("\n".join(banner(title, now)))
        self._tell("ready", now)

    # -- in between --------------------------------------------------------------------------------

    async def _until_asked(self) -> None:
        while not await self._is_asked(STATUS):
            await self._status()

    async def _is_asked(self, wait: float) -> bool:
        try:
            async with asyncio.timeout(wait):
                return await self._stop.asked.wait()
        except TimeoutError:
            return False

    def _ask_status(self) -> None:
        task = self._loop.create_task(self._status())
        self._statuses.add(task)
        task.add_done_callback(self._statuses.discard)

    async def _status(self) -> None:
        now = await self._snapshot()
        log.info("%s", status_line(now, self._before))
        self._tell("status", now)
        self._before = now

    async def _snapshot(self) -> Snapshot:
        return self._compose(await self._pool.stats(), await self._pool.health())

    def _compose(self, stats: PoolStats, health: dict[str, Health]) -> Snapshot:
        listeners = [(address, replace(listener.stats)) for address, listener in self._open]
        at = self._loop.time() - self._since
        return Snapshot(at, listeners, stats, health, self._spool, self._loop.time())

    def _tell(self, event: str, now: Snapshot) -> None:
        if self._json is not None:
            self._json.tell(in_json(event, now))

    # -- end ---------------------------------------------------------------------------------------

    async def _end(self) -> int:
        limit = self._settings.limits.drain
        log.info(
            "stopping: what is queued has %s; a second signal leaves at once",
            format_duration(limit),
        )
        give_up = self._loop.time() + limit
        # A sender that never ends must not take the time that what is queued needs.
        await self._unless_insisted(self._stop_listening, limit / 2)
        left = max(give_up - self._loop.time(), 0.0)
        await self._unless_insisted(lambda: self._pool.aclose(drain=left), None)
        return self._conclude(await self._snapshot())

    def _conclude(self, now: Snapshot) -> int:
        """Say what remained, and return the exit code."""
        for line in final_lines(now):
            self._talk.put(line)
        self._tell("end", now)
        if self._json is not None:
            self._json.finish(_LAST_WORDS)
        self._code = DONE if ended_well(now) else FAILED
        return self._code

    def _leave(self) -> int:
        """Say what remained, if that is not done yet: the process ends, though something does not let go."""
        if self._engine is None:
            log.warning("not begun yet, and asked to end: a plugin is being loaded, or a spool repaired")
            self._talk.finish(_LAST_WORDS)
        elif self._code is None:
            log.warning("code of a plugin does not let go: leaving without it")
            # The pool itself may be half closed, and is asked by coroutines only.
            self._conclude(self._compose(self._engine.stats(), self._engine.health()))
            self._talk.finish(_LAST_WORDS)
        return FAILED if self._code is None else self._code

    async def _stop_listening(self) -> None:
        await asyncio.gather(*(_read_out(listener) for _, listener in self._open))

    async def _unless_insisted(self, work: Callable[[], Awaitable[None]], limit: float | None) -> None:
        """Do *work*, for *limit* seconds at the most, and give it up at a second signal."""
        if self._stop.insisted.is_set():
            limit = 0.0
        task = asyncio.ensure_future(work())
        insisted = asyncio.ensure_future(self._stop.insisted.wait())
        await asyncio.wait((task, insisted), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        insisted.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.5)
        elif task.exception() is not None:
            log.error("while stopping", exc_info=task.exception())


async def _read_out(listener: Listener) -> None:
    """End a listener in order."""
    try:
        await listener.stop_accepting()
        await listener.drain()
    finally:
        await listener.aclose()


@contextmanager
def _held_back() -> Iterator[None]:
    """Write what is logged in the body after it, so that it does not cut the banner in pieces."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    aside = _Aside()
    root.addHandler(aside)
    for handler in handlers:
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.addHandler(handler)
        root.removeHandler(aside)
        for record in aside.records:
            root.handle(record)


class _Aside(logging.Handler):
    """Keeps log records. The one of logging.handlers would bring pickle with it, and all about sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
