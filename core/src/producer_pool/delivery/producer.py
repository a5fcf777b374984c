"""A producer: drives one injected client from one outbox, connects it, and connects it again."""
# Rule: whatever a client, a stage or an observer does, this producer goes on until it is closed, and no other
# producer notices.

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.contract.ports import Client, Observer, PipelinedClient, Stage
from producer_pool.delivery.breaker import Breaker
from producer_pool.delivery.clients import checked_client, claim, release
from producer_pool.delivery.containment import (
    address_of,
    as_delivery_error,
    as_failure,
    end_of,
    is_run,
    let_go,
    peers_of,
    stop_if_cancelled,
)
from producer_pool.delivery.jitter import jitter
from producer_pool.delivery.link import Link
from producer_pool.delivery.observers import Observers
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Budget, Page
from producer_pool.delivery.plain import PlainLink
from producer_pool.delivery.preparation import TurnedAway, pieces, prepared
from producer_pool.delivery.standing import Standing
from producer_pool.delivery.waiters import Waiters
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, UsageError
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import ForwardResult, Outcome, resolve_ack
from producer_pool.model.policies import DeliveryPolicy, Role
from producer_pool.model.stats import Health, State
from producer_pool.model.text import format_duration, format_size

__all__ = ["Producer", "checked_client"]

log = logging.getLogger(__name__)

PIECES: Final = 4
"""A batch fills at most this part of the buffer; a larger one is cut, so that what fits of it gets in."""


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
        self.observers = Observers(observers)
        """Who is told; a pool puts its own here."""
        self.on_blocked: Callable[[Producer, bool], None] | None = None
        """Called with (producer, yes) when the source has to wait, and when it need not any more."""
        self._lasting = self.policy.retry.holds or peers_of(client) is not None
        """Whether it connects without a message: that may wait, or consumers have to find it before."""
        self.stages = tuple(stages)
        self._largest_piece = self.policy.buffer // PIECES
        self.link: Link | PlainLink | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        """The process whose connection it is. A forked child leaves it alone."""
        self._closing = False
        self._given_up = False
        self._last_call: tuple[float, Callable[[], None]] | None = None
        """When the end is, and whom to call if nothing can be reached before it."""
        self._held = False
        """Whether the client was connected, and not closed since."""
        self._breaker = Breaker(self.policy.retry)
        self._standing = Standing(producer_id, self._tell_state)
        self._last_delivery: float | None = None
        self._wanted: asyncio.Event = asyncio.Event()
        """Set when there is a reason to be connected."""
        self._hurry: asyncio.Event = asyncio.Event()
        """Set when somebody wants the next attempt to be made now."""
        self._changed: asyncio.Event = asyncio.Event()
        """Set, and replaced, whenever the connection comes into another phase."""
        self._emptied = Waiters()
        self._expiry: asyncio.TimerHandle | None = None
        self._limit = LogLimit()
        claim(client, self)

    def __repr__(self) -> str:
        return f"<Producer {self.id} {self._address()} {self._standing.state.value}>"

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
        if self._closing:
            raise UsageError(f"producer {self.id!r} is closed")
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._standing.begin(self._loop)
            self._pid = os.getpid()
            self._task = self._loop.create_task(self._run(), name=f"producer {self.id}")

    def offer(self, page: Page, now: float) -> None:
        """Take one page: what is accepted of it goes out, in order, as soon as the consumer lets it."""
        batch = page.batch
        assert batch is not None
        settled = self.express(batch, now)
        if settled:
            page.passed(self.id, settled, self.outbox.accounts.first_try)
        elif settled is not None:
            self.flies(page, batch, now)
        else:
            left, away = prepared(self.id, self.stages, self.client, batch)
            self._turn_away(page, away)
            for piece in pieces(left, self._largest_piece) if left is not None else ():
                self._offer(page, piece, now)

    def express(self, batch: Batch, now: float) -> int | None:
        """
        Deliver *batch* on the spot, and return how many messages that were: all. Who waits is not told.

        0: it is on its way, and flies() has to follow. None: nothing has happened; offer() it.
        """
        link = self.link
        if link is None:
            return None
        if link.leave is not None:
            link.leave()
        if self.stages or batch.cost > self._largest_piece:
            return None
        settled = link.express(batch)
        if settled:
            self.outbox.pass_through(settled)
            self.settled(Outcome.DELIVERED, settled, None, now)
        return settled

    def part(self) -> Outbox:
        """Leave the convoy, if it is in one, and return the outbox: all that is in flight is there now."""
        if self.link is not None and self.link.leave is not None:
            self.link.leave()
        return self.outbox

    def flies(self, page: Page, batch: Batch, now: float) -> None:
        """Keep a batch that was handed over past the outbox until it is settled."""
        assert self.link is not None
        self.link.flies(page, batch, now)
        if self._expiry is None:
            self._arm_expiry()

    def _offer(self, page: Page, batch: Batch, now: float) -> None:
        if not self.outbox.offer(page, batch, now):
            return
        link = self.link
        if link is not None:
            link.pump()
        elif self._is(State.CLOSED):
            self._cancel_rest()
        elif self._is(State.DOWN) and not self.policy.retry.holds and now < self._breaker.retry_at:
            assert self._standing.last_error is not None
            self.outbox.fail_waiting(self._standing.last_error, tried=False)
        else:
            self._wanted.set()
        if self._expiry is None and not self.outbox.empty:
            self._arm_expiry()

    def overflow(self, page: Page, why: str) -> None:
        """Settle one page as a full buffer would: another bound was reached."""
        assert page.batch is not None
        self.outbox.overflow(page, page.batch, why)

    def _turn_away(self, page: Page, away: Sequence[TurnedAway]) -> None:
        for batch, indexes, outcome, error in away:
            fault = error.__cause__
            if fault is not None and self._limit.allow(type(fault), self._now()) is not None:
                log.error("%s: %d of a batch not sent: %s", self.id, len(indexes), error, exc_info=fault)
            self.outbox.accounts.turn_away(page, batch, indexes, error, outcome)

    # -- the outbox's events -----------------------------------------------------------------------

    def settled(
        self, outcome: Outcome, count: int, error: DeliveryError | None, when: float | None = None
    ) -> None:
        """Note and tell what came to an outcome, *when* if that was not just now."""
        if outcome is Outcome.DELIVERED:
            self._last_delivery = self._now() if when is None else when
        else:
            self._standing.lost(outcome, count, error)
        if self._loop is not None:
            self.observers.settled(self.id, outcome, count, self._loop)

    def blocked(self, yes: bool) -> None:
        """Pass on that the source has to wait, or need not any more."""
        if self.on_blocked is not None:
            self.on_blocked(self, yes)

    def emptied(self) -> None:
        """Wake who waits for an empty outbox."""
        self._emptied.wake()

    # -- connecting --------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect when there is a reason to, serve, and start again when the connection is lost."""
        try:
            while not self._closing:
                try:
                    await self._next_connection()
                except Exception as fault:
                    if self._pid != os.getpid():
                        # A client forked. Its child is on a thread that has nothing else to do there.
                        raise SystemExit(0) from None
                    # Not from a call that is contained: a defect of ours, or a property that raises.
                    log.exception("%s: unexpected; the connection is made anew", self.id)
                    error = as_delivery_error(fault, ConnectError, f"{self.id}: unexpected")
                    self._unlink()
                    await self._let_go()
                    self.outbox.rewind(error)
                    self._down(error)
        finally:
            self._unlink()
            await self._let_go()

    async def _next_connection(self) -> None:
        if not self._lasting and self.outbox.empty and not self._hurry.is_set():
            self._wanted.clear()
            await self._wanted.wait()
        await self._pause()
        self._hurry.clear()
        self._enter(State.CONNECTING)
        error = await self._connect()
        if error is not None:
            self._down(error)
            return
        since = self._now()
        self.outbox.stats.connects += 1
        self._enter(State.UP)
        link = self.link
        assert link is not None
        error = await self._serve(link)
        outbox = self.outbox
        useful = outbox.handed > 0 and not link.probing
        self._breaker.learn(outbox.handed, outbox.passed)
        self.outbox.rewind(error)
        self._down(error, lasted=self._now() - since, useful=useful)

    async def _pause(self) -> None:
        """Wait for the time of the next attempt, unless somebody asks for one now."""
        if not self._lasting:
            return  # offer() fails what comes too early; what gets here has been asked for.
        try:
            async with asyncio.timeout(max(self._breaker.retry_at - self._now(), 0)):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _connect(self) -> DeliveryError | None:
        """Connect the client; return why that failed, if it did."""
        client = self.client
        careful, on_stall = self._breaker.careful, self._standing.stalled
        link: Link | PlainLink = PlainLink(client, self.outbox, careful=careful, on_stall=on_stall)
        self._held = True
        limit = asyncio.timeout(client.timeout)
        try:
            if isinstance(client, PipelinedClient):
                link = Link(client, self.outbox, ack=self.ack, careful=careful, on_stall=on_stall)
                client.attach(link)
            async with limit:
                await client.connect()
            stop_if_cancelled()
        except BaseException as error:
            link.close()
            failure = as_failure(error, ConnectError, "connect", client, self.id, limit)
            await self._let_go()
            return failure
        self.link = link
        return None

    async def _serve(self, link: Link | PlainLink) -> DeliveryError:
        """Send until the connection is lost, ask what was settled to the last, and close it."""
        try:
            return await link.serve()
        finally:
            self._unlink()
            await self._let_go()

    def _unlink(self) -> None:
        """Ask what was settled to the last. It can be asked until the client is closed."""
        if not is_run(self._task, self._loop):
            return
        self.part()
        link, self.link = self.link, None
        if link is not None:
            link.close()

    async def _let_go(self) -> None:
        """Close the client if it is connected, and do not wait for ever."""
        if not self._held or self._pid != os.getpid() or not is_run(self._task, self._loop):
            return
        await let_go(self.client, self.id)
        self._held = False

    # -- state -------------------------------------------------------------------------------------

    def _down(self, error: DeliveryError, *, lasted: float = 0.0, useful: bool = False) -> None:
        """
        Note why there is no connection, and when the next is tried.

        *useful* says whether a connection took any message, *lasted* how many seconds it was there.
        """
        self.outbox.stats.breaks += 1
        now = self._now()
        holds = self.policy.retry.holds
        good = None if isinstance(error, ConnectError) else useful
        failed = self._breaker.failed(now, lasted=lasted, useful=good, draw=jitter.get()())
        if failed and not holds:
            self.outbox.fail_waiting(error, tried=True)
        soon = f"in {format_duration(round(self._breaker.retry_at - now, 3))}"
        when = soon if holds else "when there is a message"
        self._standing.down(error, when, idle=not failed, breaks=self.outbox.breaks)
        self._tell_phase()
        self._check_last_call()

    def _enter(self, phase: State) -> None:
        """Note what the connection does now."""
        if not self._is(phase):
            self._standing.enter(phase, self._address())
            self._tell_phase()

    def _tell_phase(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell_state(self) -> None:
        if self._loop is not None:
            self.observers.state_changed(self.health(), self._loop)

    def health(self) -> Health:
        """Return how the consumer does, as its messages tell."""
        standing = self._standing
        return Health(
            self.id,
            standing.state,
            standing.since,
            self._last_delivery,
            standing.last_error,
            self._breaker.retry_at if self._is(State.DOWN) else None,
            self._address(),
            self.ack,
            standing.reason,
            self.policy.role,
        )

    def source_waits(self, yes: bool, why: str = "") -> None:
        """Note that the source has to wait because of this producer, and *why* if it is not its buffer."""
        if yes and not why:
            why = "the pool's buffer is full, and its backlog is large"
            if self.outbox.nbytes >= self.policy.buffer:
                why = f"its buffer of {format_size(self.policy.buffer)} is full (buffer=, overflow=block)"
        self._standing.waits(why if yes else "")

    async def check(self) -> Health:
        """Try to reach the consumer now, and return how that went. The caller bounds the time."""
        self.start()
        if not self._is(State.UP):
            self._hurry.set()
            self._wanted.set()
            while not self._is(State.UP) and not self._closing:
                if not self._hurry.is_set() and not self._is(State.CONNECTING):
                    break
                await self._changed.wait()
            self._hurry.clear()
        return self.health()

    def _is(self, phase: State) -> bool:
        """Whether this is what the connection does now. The state says what that comes to."""
        return self._standing.phase is phase

    def _address(self) -> str:
        return address_of(self.client, self.id)

    def _now(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0

    # -- time --------------------------------------------------------------------------------------

    def _arm_expiry(self) -> None:
        deadline = self.outbox.next_deadline()
        if deadline is not None and self._loop is not None and not self._closing:
            self._expiry = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        down = self.link is None and not self._is(State.UP)
        self.outbox.expire(self._now(), why=self._standing.why_late() if down else "")
        self._arm_expiry()

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight, or until give_up()."""
        while not self.part().empty and not self._given_up:
            if self.link is not None and self.link.harvest():
                continue  # Perhaps that was all.
            await self._emptied.wait()

    def end_by(self, until: float, give_up: Callable[[], None]) -> None:
        """
        Try to reach the consumer once more, now, if there is no connection.

        From then on, *give_up* is called when there is none, and the next attempt lies behind *until*: who
        waits for what is queued would do so in vain.
        """
        self._last_call = until, give_up
        if self._is(State.UP) or self._is(State.CONNECTING):
            return
        if self.policy.role is Role.SHADOW:
            give_up()
        elif not self.outbox.empty:
            self._hurry.set()
            self._wanted.set()

    def _check_last_call(self) -> None:
        if self._last_call is not None and self._is(State.DOWN) and not self._hurry.is_set():
            until, give_up = self._last_call
            if self._breaker.retry_at > until:
                give_up()

    def give_up(self) -> None:
        """Let nobody wait for what is queued any more."""
        self._given_up = True
        self.emptied()

    async def aclose(self) -> None:
        """Close the connection now; what is not delivered is CANCELLED. May be called twice."""
        task = self._task
        first, self._closing = not self._closing, True
        if self._expiry is not None:
            self._expiry.cancel()
        try:
            if task is not None and task is not asyncio.current_task():
                if first:
                    task.cancel()
                await end_of(task, self.id)
        finally:
            if task is not None and task.done() and not task.cancelled():
                task.exception()
            self._cancel_rest()
            self._standing.close()
            release(self.client, self)
            self._tell_phase()
            self.observers.tell()

    def _cancel_rest(self) -> None:
        self.part().cancel("closed before it was delivered")
