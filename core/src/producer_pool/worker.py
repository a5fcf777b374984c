"""The loop thread of a pool for threads, and what becomes of it when nobody closes the pool."""
# Rule: the thread holds the worker, never the pool. A pool that is forgotten can be collected: its worker
# then drains, closes, and logs what was cancelled; at exit the program waits for that, within the bound.

from __future__ import annotations

import asyncio
import atexit
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.expresslane import ExpressLane
from producer_pool.delivery.producer import Producer
from producer_pool.delivery.receipts import Receipt
from producer_pool.delivery.submitlog import SubmitLog
from producer_pool.entrance import Entrance, opened
from producer_pool.lending import LendingLoop, Turn
from producer_pool.loopwatch import LoopWatch
from producer_pool.model.batch import payload
from producer_pool.model.errors import ForkedPool, PoolClosed, StorageError
from producer_pool.model.outcomes import Results
from producer_pool.model.policies import DeliveryPolicy, Limits, Spool

if TYPE_CHECKING:
    from producer_pool.delivery.store import Store
    from producer_pool.discovery.factory import ClientFactory
    from producer_pool.pool import ProducerPool

__all__ = ["GRACE", "Worker"]

T = TypeVar("T")

GRACE: Final = 5.0
"""Seconds beyond the drain time that closing may take, clients that hang included."""


class _Question(Generic[T]):
    """Work for the loop that another thread waits for."""

    # A plain lock. An interrupt inside a Condition, as Future and Event have one, may leave it locked, and
    # the loop would stop where it answers.

    def __init__(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._answered = threading.Lock()
        self._answered.acquire()
        self._result: list[T] = []
        self._error: BaseException | None = None

    def wait(self) -> T:
        """Wait for the answer; raise what the work raised, or PoolClosed if it will never be done."""
        self._answered.acquire()
        if self._error is not None:
            raise self._error
        return self._result[0]

    async def answer(self, engine: Engine) -> None:
        """Do the work, and wake the thread."""
        try:
            self._result.append(await self._work(engine))
        except asyncio.CancelledError:
            self._error = PoolClosed("the pool was closed meanwhile")
        except BaseException as error:
            self._error = error
        finally:
            self._answered.release()

    def give_up(self) -> None:
        """Wake the thread, if it still waits: the loop is at its end."""
        if not self._result and self._error is None:
            self._error = PoolClosed("the pool was closed meanwhile")
            self._answered.release()


class Worker:
    """The loop thread of one pool, and what lives on it."""

    def __init__(
        self,
        limits: Limits,
        policy: DeliveryPolicy | None,
        factory: ClientFactory | None,
        spool: Spool | None = None,
    ) -> None:
        self.limits = limits
        self.entrance = Entrance(SubmitLog(self._wake, Receipt), policy, factory)
        self.entrance.log.stores = spool is not None
        self._spool = spool
        self.engine: Engine | None = None
        self._drain = limits.drain
        self._begun = threading.Lock()
        """Taken for good by the thread that runs the loop."""
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._lends = False
        self._lane: ExpressLane[Receipt] | None = None
        self._turn = Turn(self.entrance.log.insiders)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._pool: weakref.ref[ProducerPool] | None = None
        self._questions: set[_Question[Any]] = set()
        self._answers: set[asyncio.Task[None]] = set()

    # -- from any thread ---------------------------------------------------------------------------

    def start(self, pool: ProducerPool) -> None:
        """
        Start the thread, once.

        Raises:
            StorageError: its spool cannot be used. It never works then: make another pool.
        """
        self.entrance.log.check_open()
        if self._ready.is_set():
            return
        if self._thread is None:
            # Two may come here at once, or one again whose first call was interrupted: see _run().
            # A daemon: a consumer that hangs must not keep the program from ending. See _at_exit().
            name = f"producer-pool-{id(self):x}"
            threading.Thread(target=self._run, args=(weakref.ref(pool),), name=name, daemon=True).start()
        self._ready.wait()
        if isinstance(self.entrance.log.refusal, StorageError):
            self.entrance.log.check_open()

    def run(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Run *work* on the loop after all that was submitted before, and wait for it."""
        self.entrance.log.check_may_wait()
        self.entrance.log.check_open()
        question = _Question(work)
        self._questions.add(question)
        try:
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._begin, question, context=self._turn.context)
            except RuntimeError:  # The loop is closed.
                raise PoolClosed("the pool is closed") from None
            return question.wait()
        finally:
            self._questions.discard(question)

    def _begin(self, question: _Question[Any]) -> None:
        """Begin to answer a question, on the loop."""
        assert self.engine is not None
        self._process()
        task = asyncio.ensure_future(question.answer(self.engine))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def ask_to_stop(self, drain: float) -> None:
        """Have the thread drain for *drain* seconds, close and end. Does not wait."""
        if isinstance(self.entrance.log.refusal, ForkedPool):
            return
        self.entrance.log.close(PoolClosed("the pool is closed"))
        self._drain = drain
        if self._loop is not None and self._stop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                return  # The loop is closed: it has stopped already.

    def join(self, wait: float) -> bool:
        """Wait for the thread to end; say whether it did."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(min(wait, threading.TIMEOUT_MAX))
        return not thread.is_alive()

    def forward(self, targets: Sequence[str], message: bytes | str) -> Results | Receipt:
        """
        Submit a message whose outcome will be waited for: on this thread, if the loop sleeps.

        That saves two changes of threads, each of which costs as much as sending to several consumers.
        Returns a receipt, unless the results are there already.
        """
        submits = self.entrance.log
        if type(message) is not bytes:
            message = payload(message)
        answer = None
        if self._lends and targets:
            try:
                answer = self._turn.borrow(partial(self._step, targets, message))
            finally:
                # An interrupt came, and nobody waits, but the message is there.
                if not submits.empty:
                    submits.rouse()
        return self.entrance.append(targets, message) if answer is None else answer

    def _step(self, targets: Sequence[str], message: bytes) -> Results | Receipt:
        """Forward a message in the loop's place; leave the loop what only it can do."""
        submits = self.entrance.log
        try:
            lane, engine = self._lane, self.engine
            answer: Results | Receipt | None = None
            if lane is not None and submits.empty and submits.refusal is None:
                answer = lane.forward(targets, message)
            if answer is None:
                answer = self.entrance.append(targets, message, wake=False)
                if engine is not None:
                    self.entrance.process(engine, pages_only=True)
            return answer
        finally:
            if self._turn.touched or not submits.empty:
                self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._process, context=self._turn.context)
            except RuntimeError:
                return  # The loop is closed, and so is the log.

    # -- on the loop -------------------------------------------------------------------------------

    def _run(self, pool: weakref.ref[ProducerPool]) -> None:
        if not self._begun.acquire(blocking=False):
            return  # Another one was started, too.
        self._thread = threading.current_thread()
        _LIVE.add(self)
        self._turn.lock.acquire()
        try:
            try:
                store = opened(self._spool)
            except StorageError as error:
                self.entrance.log.close(error)
                return
            with asyncio.Runner(loop_factory=lambda: LendingLoop(self._turn)) as runner:
                runner.run(self._live(pool, store))
        finally:
            self._turn.lock.release()
            if self.entrance.log.refusal is None:
                self.entrance.log.close(PoolClosed("the pool is closed"))
            for question in list(self._questions):
                question.give_up()
            _LIVE.discard(self)
            self._ready.set()

    async def _live(self, pool: weakref.ref[ProducerPool], store: Store | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self.entrance.log.refusal is not None:
            self._stop.set()  # Who asked for it could not tell the loop yet.
        # In debug mode, asyncio itself refuses calls from other threads.
        self._lends = not self._loop.get_debug()
        submits = self.entrance.log
        submits.insiders.add(threading.get_ident())
        engine = self.engine = Engine(self.limits, store)
        engine.on_blocked.append(self._tell_blocked)
        watch = LoopWatch(self._loop, self.limits.watchdog, submits.insiders)
        self._pool = pool
        self.entrance.announce(engine, pool())
        self._ready.set()
        self._process()
        await self._stop.wait()
        self.entrance.take_leave(pool(), self._drain)
        self._process()
        await engine.aclose(self._drain)
        self._process()
        await self.entrance.close_letters()
        watch.end()

    def add(self, producer: Producer) -> None:
        """Have the engine take on a producer."""
        assert self.engine is not None
        assert self._pool is not None
        self.entrance.announce(self.engine, self._pool())
        self.engine.add(producer)
        self._lane = ExpressLane(self.engine, self.entrance.log)
        # Who waits for room, at this one too, did not know how long at the most.
        self.entrance.log.notify()

    def _process(self) -> None:
        if self.engine is not None:
            self.entrance.process(self.engine)

    def _tell_blocked(self) -> None:
        assert self.engine is not None
        self.entrance.log.blocked = frozenset(self.engine.blocked)
        self.entrance.log.jam = self.engine.jam


_LIVE: Final[set[Worker]] = set()
"""The workers whose threads run. In a forked child they stay for ever: nothing of theirs may be touched."""


def _at_exit() -> None:
    """Give what programs forgot to close its bounded drain."""
    workers = [worker for worker in list(_LIVE) if not isinstance(worker.entrance.log.refusal, ForkedPool)]
    for worker in workers:
        worker.ask_to_stop(worker.limits.drain)
    give_up = time.monotonic() + max((worker.limits.drain for worker in workers), default=0.0) + GRACE
    for worker in workers:
        worker.join(max(give_up - time.monotonic(), 0.0))


atexit.register(_at_exit)
