"""A producer: drives one injected client from one outbox, connects it, and connects it again."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Sequence
from typing import Any, Final

from producer_pool.contract.ports import Client, Observer, PipelinedClient, Stage
from producer_pool.delivery.link import Link
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Budget, Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import (
    Cancelled,
    ConnectError,
    DeliveryError,
    Filtered,
    Rejected,
    SendError,
    UsageError,
)
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import ForwardResult, Outcome, resolve_ack
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.stats import Health, State
from producer_pool.model.text import format_duration

__all__ = ["Producer", "checked_client"]

log = logging.getLogger(__name__)

CLOSING: Final = 1.0
"""Seconds that a client may take to let go of its connection."""


class Producer:
    """
    Forwards messages to one consumer through an injected client.

    A pool has many; one alone works too, on the running event loop::

        async with Producer("audit", client) as producer:
            result = await producer.forward("hello")
    """

    def __init__(
        self,
        producer_id: str,
        client: Client,
        policy: DeliveryPolicy | None = None,
        *,
        stages: Sequence[Stage] = (),
        observers: Sequence[Observer] = (),
    ) -> None:
        self.id = producer_id
        self.client = checked_client(client)
        self.policy = policy or DeliveryPolicy.direct()
        self.ack = resolve_ack(self.policy.ack, client.acks)
        """The level at which a message counts as delivered."""
        deadline = client.timeout if self.policy.deadline is None else self.policy.deadline
        self.outbox = Outbox(producer_id, self.policy, self, ack=self.ack, deadline=deadline)
        self.on_blocked: Any = None
        """Called with (producer, yes) when the source has to wait, and when it need not any more."""
        self.observer_errors = 0
        self._stages = tuple(stages)
        self._observers = tuple(observers)
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = State.IDLE
        self._since = 0.0
        self._last_delivery: float | None = None
        self._last_error: DeliveryError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._wanted: asyncio.Event = asyncio.Event()
        """Set when there is a reason to be connected."""
        self._hurry: asyncio.Event = asyncio.Event()
        """Set when somebody wants the next attempt to be made now."""
        self._changed: asyncio.Event = asyncio.Event()
        """Set, and replaced, at each change of state."""
        self._emptied: list[asyncio.Future[None]] = []
        self._expiry: asyncio.TimerHandle | None = None
        self._limit = LogLimit()

    def __repr__(self) -> str:
        return f"<Producer {self.id} {self.client.address} {self._state.value}>"

    # -- for one producer alone --------------------------------------------------------------------

    async def forward(self, message: bytes | str) -> ForwardResult:
        """
        Send one message and return what happened to it.

        Never raises for a failed delivery: look at the result's ``ok`` and ``error``.
        """
        self.start()
        page = Page(None, (self.id,), tracked=True)
        page.open(Budget(0), Batch.of([message]))
        self.offer(page, asyncio.get_running_loop().time())
        done = asyncio.Event()
        page.when_done(0, done.set)
        await done.wait()
        return page.results(0)[self.id]

    async def __aenter__(self) -> Producer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -- taking in ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work on the running loop. May be called again."""
        if self._task is None:
            if self._state is State.CLOSED:
                raise UsageError(f"producer {self.id!r} is closed")
            self._loop = asyncio.get_running_loop()
            self._since = self._loop.time()
            self._task = self._loop.create_task(self._run(), name=f"producer {self.id}")

    def offer(self, page: Page, now: float) -> None:
        """Take one page: what is accepted of it goes out, in order, as soon as the consumer lets it."""
        batch = page.batch
        assert batch is not None
        prepared = self._prepare(page, batch)
        if prepared is None or not self.outbox.offer(page, prepared, now):
            return
        link = self._link
        if link is not None:
            link.pump()
        elif self._state is State.DOWN and not self.policy.retry.holds and now < self._retry_at:
            assert self._last_error is not None
            self.outbox.fail_waiting(self._last_error, tried=False)
        else:
            self._wanted.set()
        if self._expiry is None and not self.outbox.empty:
            self._arm_expiry()

    def overflow(self, page: Page, now: float) -> None:
        """Settle one page as a full buffer would: the pool's own bound was reached."""
        assert page.batch is not None
        self.outbox.overflow(page, page.batch, now)

    def _prepare(self, page: Page, batch: Batch) -> Batch | None:
        """Return what is left of *batch* after the stages, and without what the client can never carry."""
        if self._stages:
            staged = self._staged(page, batch)
            if staged is None:
                return None
            batch = staged
        try:
            misfits = self.client.misfits(batch)
        except Exception as error:
            misfit = Rejected(f"{self.id}: misfits() raised {type(error).__name__}: {error}")
            self.outbox.turn_away(page, batch, range(len(batch)), misfit, Outcome.FAILED)
            return None
        if not misfits:
            return batch
        for index, reason in misfits.items():
            self.outbox.turn_away(page, batch, (index,), reason, Outcome.FAILED)
        return batch.select([index for index in range(len(batch)) if index not in misfits])

    def _staged(self, page: Page, batch: Batch) -> Batch | None:
        """Return what the stages make of *batch*, and settle as DROPPED what they leave out."""
        whole = batch
        for stage in self._stages:
            before = len(batch)
            try:
                made = stage(batch)
                if made is None:
                    made = batch.select(())
                elif len(made) != before and made.kept is None:
                    raise TypeError(
                        "a stage leaves messages out with batch.select(), so that each is accounted for"
                    )
            except Exception as error:
                log.exception("%s: a stage failed; its batch of %d messages is not sent", self.id, before)
                failure = Filtered(f"{self.id}: stage raised {type(error).__name__}: {error}")
                self.outbox.turn_away(page, batch, range(before), failure, Outcome.FAILED)
                made = batch.select(())
                return self._without(page, whole, batch, failure)
            batch = made
        return self._without(page, whole, batch, None)

    def _without(self, page: Page, whole: Batch, left: Batch, failure: Filtered | None) -> Batch | None:
        """Settle what is in *whole* and not in *left* as filtered; return *left* unless it failed."""
        if left.kept is not None:
            kept = set(left.kept)
            gone = [index for index in range(len(whole)) if index not in kept]
            if gone:
                error = Filtered(f"{self.id}: removed by a stage")
                self.outbox.turn_away(page, whole, gone, error, Outcome.DROPPED)
        return None if failure is not None else left

    # -- the outbox's events -----------------------------------------------------------------------

    def settled(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        """Note and tell what came to an outcome."""
        if outcome is Outcome.DELIVERED:
            self._last_delivery = self._now()
        else:
            left_out = self._limit.allow((outcome, type(error)), self._now())
            if left_out is not None:
                more = f" ({left_out} such lines left out)" if left_out else ""
                level = logging.INFO if outcome is Outcome.CANCELLED else logging.WARNING
                log.log(level, "%s: %d messages %s: %s%s", self.id, count, outcome.value, error, more)
        for observer in self._observers:
            try:
                observer.settled(self.id, outcome, count)
            except Exception as error:
                self._observer_failed(observer, error)

    def blocked(self, yes: bool) -> None:
        """Pass on that the source has to wait, or need not any more."""
        if self.on_blocked is not None:
            self.on_blocked(self, yes)

    def emptied(self) -> None:
        """Wake who waits for an empty outbox."""
        waiters, self._emptied = self._emptied, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- connecting --------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect when there is a reason to, serve, and start again when the connection is lost."""
        while True:
            if not self.policy.retry.holds and self.outbox.empty and not self._hurry.is_set():
                self._wanted.clear()
                await self._wanted.wait()
            await self._pause()
            self._hurry.clear()
            self._enter(State.CONNECTING)
            error = await self._connect()
            if error is None:
                since = self._now()
                self.outbox.stats.connects += 1
                self._enter(State.UP)
                error = await self._serve()
                if self._now() - since >= self.policy.retry.stable:
                    self._failures = 0
            elif not self.policy.retry.holds:
                self.outbox.fail_waiting(error, tried=True)
            self._down(error)

    async def _pause(self) -> None:
        """Wait for the time of the next attempt, unless somebody asks for one now."""
        if not self.policy.retry.holds:
            return  # offer() fails what comes too early; what gets here has been asked for.
        try:
            async with asyncio.timeout(max(self._retry_at - self._now(), 0)):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _connect(self) -> DeliveryError | None:
        """Connect the client; return why that failed, if it did."""
        client = self.client
        try:
            link = None
            if isinstance(client, PipelinedClient):
                link = Link(client, self.outbox, ack=self.ack)
                client.attach(link)
            async with asyncio.timeout(client.timeout):
                await client.connect()
        except BaseException as error:
            failure = self._translated(error, ConnectError, "connect")
            await self._let_go()
            return failure
        self._link = link
        return None

    async def _serve(self) -> DeliveryError:
        """Send until the connection is lost; leave the outbox ready for the next one."""
        try:
            error = await (self._link.serve() if self._link is not None else self._send_each())
        finally:
            link, self._link = self._link, None
            if link is not None:
                # The kernel's count is readable until the socket is closed: ask first, close then.
                link.close()
            await self._let_go()
        self.outbox.rewind(error)
        return error

    async def _send_each(self) -> DeliveryError:
        """Send the batches one after the other through a plain client, until one breaks the connection."""
        outbox = self.outbox
        one_by_one = type(self.client).send_batch is Client.send_batch
        while True:
            while not outbox.waiting:
                self._wanted.clear()
                await self._wanted.wait()
            outbox.launch(1)
            while outbox.flying:
                entry = outbox.flying[0]
                before = entry.start
                if entry.expired:
                    outbox.settle(entry.count - before)
                    break
                try:
                    async with asyncio.timeout(self.client.timeout):
                        if one_by_one:
                            await self.client.send(entry.batch.messages[before])
                        else:
                            await self.client.send_batch(entry.batch, before)
                except Rejected as error:
                    self._settle_up_to(before if error.index is None else error.index)
                    outbox.reject(outbox.passed, error)
                    outbox.settle(1)
                except BaseException as error:
                    failure = self._translated(error, SendError, "send")
                    if not one_by_one and failure.index is not None:
                        self._settle_up_to(failure.index)
                    if one_by_one or failure.index is not None:
                        outbox.fail_first(failure)
                    return failure
                else:
                    outbox.settle(1 if one_by_one else entry.count - before)

    def _settle_up_to(self, index: int) -> None:
        """Settle the first batch in flight up to message *index*, as far as that can be true."""
        entry = self.outbox.flying[0]
        count = min(index, entry.count - 1) - entry.start
        if count > 0:
            self.outbox.settle(count)

    async def _let_go(self) -> None:
        """Close the client, and do not wait for ever."""
        try:
            async with asyncio.timeout(CLOSING):
                await self.client.aclose()
        except TimeoutError:
            log.warning(
                "%s: aclose() of %s took longer than %s", self.id, self.client, format_duration(CLOSING)
            )
        except Exception:
            log.exception("%s: aclose() of %s failed", self.id, self.client)

    def _translated(self, error: BaseException, kind: type[DeliveryError], call: str) -> DeliveryError:
        """Return *error* as one of ours. A cancellation of this task, or an interrupt, goes on instead."""
        if isinstance(error, DeliveryError):
            return error
        task = asyncio.current_task()
        if isinstance(error, KeyboardInterrupt | GeneratorExit) or (
            isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
        ):
            raise error
        if isinstance(error, TimeoutError):
            text = f"{call} took longer than {format_duration(self.client.timeout)} (timeout=)"
        else:
            text = f"{call} raised {type(error).__name__}: {error}"
        failure = kind(f"{self.client.address or self.id}: {text}")
        failure.__cause__ = error
        return failure

    # -- state -------------------------------------------------------------------------------------

    def _down(self, error: DeliveryError) -> None:
        """Note why there is no connection, and when the next is tried."""
        self.outbox.stats.breaks += 1
        self._failures += 1
        self._last_error = error
        now = self._now()
        # A direct producer's next call may try at once if it was an established connection that ended.
        idle = not self.policy.retry.holds and not isinstance(error, ConnectError)
        self._retry_at = now if idle else now + self.policy.retry.delay(self._failures, random.random())
        self._enter(State.IDLE if idle else State.DOWN)
        if self._limit.allow(State.DOWN, now) is not None:
            when = (
                "when there is a message" if idle else f"in {format_duration(round(self._retry_at - now, 3))}"
            )
            log.warning("%s: down: %s; next attempt %s", self.id, error, when)

    def _enter(self, state: State) -> None:
        if state is self._state:
            return
        self._state = state
        self._since = self._now()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if state is State.UP and self._limit.allow(state, self._since) is not None:
            log.info("%s: up: %s", self.id, self.client.address)
        for observer in self._observers:
            try:
                observer.state_changed(self.health())
            except Exception as error:
                self._observer_failed(observer, error)

    def health(self) -> Health:
        """Return how the consumer does, as its messages tell."""
        retry = self._retry_at if self._state is State.DOWN else None
        last = (self._last_delivery, self._last_error)
        return Health(self.id, self._state, self._since, *last, retry, self.client.address, self.ack)

    async def check(self) -> Health:
        """Try to reach the consumer now, and return how that went. The caller bounds the time."""
        self.start()
        if not self._is(State.UP):
            self._hurry.set()
            self._wanted.set()
            while not self._is(State.UP) and (self._hurry.is_set() or self._is(State.CONNECTING)):
                await self._changed.wait()
            self._hurry.clear()
        return self.health()

    def _is(self, state: State) -> bool:
        return self._state is state

    def _observer_failed(self, observer: Observer, error: Exception) -> None:
        self.observer_errors += 1
        if self._limit.allow(id(observer), self._now()) is not None:
            log.error("%s: observer %r failed, which stops nothing", self.id, observer, exc_info=error)

    def _now(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0

    # -- time --------------------------------------------------------------------------------------

    def _arm_expiry(self) -> None:
        deadline = self.outbox.next_deadline()
        if deadline is not None and self._loop is not None:
            self._expiry = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self.outbox.expire(self._now())
        self._arm_expiry()

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight. The caller bounds the time."""
        if self.outbox.empty:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._emptied.append(waiter)
        if self._link is not None:
            self._link.harvest()
        await waiter

    async def aclose(self) -> None:
        """Close the connection now; what is not delivered is CANCELLED. May be called twice."""
        if self._state is State.CLOSED:
            return
        if self._expiry is not None:
            self._expiry.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            # A client that swallows the cancellation is left behind.
            await asyncio.wait([task], timeout=2 * CLOSING)
        left = self.outbox.pending()
        why = "the producer was closed before it was delivered; it may have arrived" if left else ""
        self.outbox.cancel(Cancelled(f"{self.id}: {why}"))
        self._enter(State.CLOSED)


def checked_client(client: object) -> Client:
    """
    Return *client* if it can be driven.

    Raises:
        UsageError: it is no Client, or its send() blocks; the text says the way out.
    """
    name = type(client).__name__
    if isinstance(client, type):
        raise UsageError(f"{client.__name__} is a class; pass an instance: {client.__name__}(...)")
    send = getattr(client, "send", None)
    if callable(send) and not inspect.iscoroutinefunction(send):
        raise UsageError(
            f"{name}.send() is a blocking function, which would stop every producer; "
            f"write it as 'async def send', or pass BlockingClient({name}(...))"
        )
    if not isinstance(client, Client):
        raise UsageError(
            f"{name} is no client; derive it from producer_pool.Client and give it 'async def send'"
        )
    return client
