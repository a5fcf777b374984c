"""How one producer's consumer does, said to whoever asks, to the log, and to who wants to be told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from producer_pool.delivery.health import Condition
from producer_pool.model.errors import DeliveryError
from producer_pool.model.loglimit import LogLimit, and_more
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import State

__all__ = ["Standing"]

log = logging.getLogger(__name__)


class Standing:
    """
    Keeps the state of one consumer, looks at it whenever something happens and when time changes it.

    *changed* is called when it is another one. Until begin(), it stands as it is made.
    """

    def __init__(self, producer_id: str, changed: Callable[[], None]) -> None:
        self.state = State.IDLE
        self.since = 0.0
        self.last_error: DeliveryError | None = None
        self._producer_id = producer_id
        self._changed = changed
        self._condition = Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit = LogLimit()
        self._lost: dict[tuple[Outcome, type], DeliveryError | None] = {}
        """The last error of each kind of loss."""

    @property
    def phase(self) -> State:
        """What the connection does now. The state says what that comes to."""
        return self._condition.phase

    @property
    def reason(self) -> str:
        """Why the state is what it is, in words; nothing for a consumer that does well."""
        return self._condition.judge(self._now())[1]

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have *loop* tell the time from now on."""
        self._loop = loop
        self.since = loop.time()

    def close(self) -> None:
        """Come to the end: say what is not said yet, and look at nothing any more."""
        self.enter(State.CLOSED)
        if self._timer is not None:
            self._timer.cancel()
        for cause, count in self._limit.left_out():
            if cause in self._lost:
                self._log_lost(cause[0], count, self._lost[cause], 0)

    # -- what happens ------------------------------------------------------------------------------

    def enter(self, phase: State, address: str = "") -> None:
        """Note what the connection does now; *address* is where to."""
        self._condition.enter(phase)
        self._review(address)

    def down(self, error: DeliveryError, when: str, *, idle: bool = False, breaks: int = 0) -> None:
        """
        Note why there is no connection, and *when* the next attempt is made, in words.

        *idle*: it was of use, and is not missed before the next message. *breaks* says how many
        connections in a row broke at the same message.
        """
        self.last_error = self._condition.error = error
        self._condition.breaks = breaks
        self.enter(State.IDLE if idle else State.DOWN)
        if self._limit.allow(State.DOWN, self._now()) is not None:
            log.warning("%s: down: %s; next attempt %s", self._producer_id, self._condition.why_down(), when)

    def why_late(self) -> str:
        """Say, for the error of what ran out of time, why there is no connection."""
        error = self.last_error
        return f"; the consumer is {self.phase.value}" + (f": {error}" if error is not None else "")

    def waits(self, why: str) -> None:
        """Note *why* the source has to wait; with an empty text: it need not any more."""
        self._condition.waits(why, self._now())
        self._review()

    def stalled(self, why: str) -> None:
        """Note *why* the consumer moves nothing of what it has; with an empty text: it goes on."""
        self._condition.stalled(why, self._now())
        self._review()

    def lost(self, outcome: Outcome, count: int, error: DeliveryError | None) -> None:
        """Note that so many messages came to another outcome than DELIVERED."""
        now = self._now()
        if self._condition.settled(outcome, error, now) and self.state is State.UP:
            self._review()
        cause = (outcome, type(error))
        left_out = self._limit.allow(cause, now, count)
        self._lost[cause] = error
        if left_out is not None:
            self._log_lost(outcome, count, error, left_out)

    # -- looking -----------------------------------------------------------------------------------

    def _review(self, address: str = "") -> None:
        """Look at the state anew, say if it is another one, and see to it that it is looked at in time."""
        now = self._now()
        state, reason = self._condition.judge(now)
        if state is not self.state:
            before, self.state, self.since = self.state, state, now
            self._log_change(before, reason, address)
            self._changed()
        next_look = self._condition.next_look(now)
        if self._timer is None and next_look is not None and self._loop is not None:
            self._timer = self._loop.call_at(next_look, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._review()

    def _now(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0

    # -- the log -----------------------------------------------------------------------------------

    def _log_change(self, before: State, reason: str, address: str) -> None:
        state = self.state
        if state not in (State.UP, State.DEGRADED, State.PAUSED):
            return  # down() says more, and says it each time.
        if self._limit.allow(state, self.since) is None:
            return
        if state is not State.UP:
            paused = state is State.PAUSED
            log.warning("%s: paused: %s" if paused else "%s: degraded: %s", self._producer_id, reason)
        elif before in (State.DEGRADED, State.PAUSED):
            log.info("%s: not %s any more", self._producer_id, before.value)
        else:
            log.info("%s: up: %s", self._producer_id, address)

    def _log_lost(self, outcome: Outcome, count: int, error: DeliveryError | None, left_out: int) -> None:
        level = logging.INFO if outcome is Outcome.CANCELLED else logging.WARNING
        more = and_more(left_out, "messages")
        log.log(
            level,
            "%s: %s message %s: %s%s" if count == 1 else "%s: %s messages %s: %s%s",
            *(self._producer_id, f"{count:,}", outcome.value, error, more),
        )
