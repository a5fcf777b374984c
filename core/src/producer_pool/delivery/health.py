"""What a producer's messages tell of its consumer: a state, and the reason in words."""
# Rule: nothing here reads a clock. Callers pass `now`, and ask again at next_look().
# Rule: what comes and goes many times a second is no change of state. So trouble counts for a while after it
# was last seen, and a source has to wait for a while before that counts.

from __future__ import annotations

from typing import Final

from producer_pool.model.errors import DeliveryError, Full
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import State

__all__ = ["LATELY", "PAUSED_AFTER", "RESUMED_AFTER", "STALLED_AFTER", "Condition"]

LATELY: Final = 30.0
"""Seconds for which a consumer that is connected counts as degraded after the last sign of it."""

STALLED_AFTER: Final = 0.5
"""The part of its timeout after which a consumer that has messages and confirms none is in trouble."""

PAUSED_AFTER: Final = 1.0
"""Seconds for which its source has to wait without a break before a producer counts as paused."""

RESUMED_AFTER: Final = 5.0
"""Seconds for which its source need not have waited before a producer counts as paused no longer."""

_NEVER: Final = float("-inf")


class Condition:
    """How one consumer does: `phase` says what its connection does, judge() what that comes to."""

    def __init__(self) -> None:
        self.phase = State.IDLE
        """One of IDLE, CONNECTING, UP, DOWN and CLOSED."""
        self.error: DeliveryError | None = None
        """Why there is no connection: set with DOWN."""
        self.breaks = 0
        """Connections in a row that broke at the same message."""
        self._failing = False
        """Whether no attempt worked since the last connection was lost."""
        self._failed: tuple[float, DeliveryError | None] = (_NEVER, None)
        self._gave_way: tuple[float, DeliveryError | None] = (_NEVER, None)
        self._stalled_at = _NEVER
        self._stall = ""
        """What the consumer does not do just now."""
        self._last_stall = ""
        self._waits = ""
        """Why the source has to wait just now."""
        self._waits_since = _NEVER
        self._went_on_at = _NEVER
        self._paused = False
        self._last_wait = ""

    # -- what happens ------------------------------------------------------------------------------

    def enter(self, phase: State) -> None:
        """Note what the connection does now. With a new one, what an older one did is forgotten."""
        self.phase = phase
        if phase is State.UP:
            self._failing = False
            self._failed = self._gave_way = (_NEVER, None)
            self._stalled_at = _NEVER
        elif phase is not State.CONNECTING:
            self._failing = phase is State.DOWN
        self._stall = ""

    def settled(self, outcome: Outcome, error: DeliveryError | None, now: float) -> bool:
        """Note what became of messages; say whether that is trouble."""
        if isinstance(error, Full):
            self._gave_way = (now, error)
        elif outcome is Outcome.FAILED:
            self._failed = (now, error)
        else:
            return False
        return True

    def stalled(self, why: str, now: float) -> None:
        """Note *why* the consumer moves nothing, or, with an empty text, that it goes on."""
        self._stalled_at = now
        self._stall = why
        self._last_stall = why or self._last_stall

    def waits(self, why: str, now: float) -> None:
        """Note *why* the source has to wait; with an empty text: it need not any more."""
        if why and not self._waits:
            self._waits_since = now
        elif self._waits and not why:
            self._went_on_at = now
        self._waits = why
        self._last_wait = why or self._last_wait

    # -- what it comes to --------------------------------------------------------------------------

    def judge(self, now: float) -> tuple[State, str]:
        """Return the state, and the reason in words; there is none for a consumer that does well."""
        down = self.why_down() if self._failing else ""
        if self.phase is State.CLOSED:
            return State.CLOSED, ""
        if self._is_paused(now):
            waits = "has to wait" if self._waits else "had to wait lately"
            return State.PAUSED, f"its source {waits}: {self._last_wait}" + (down and f"; down: {down}")
        if down:
            return State.DOWN, down
        troubles = self._troubles(now) if self.phase is State.UP else []
        if troubles:
            return State.DEGRADED, "; ".join(troubles)
        return self.phase, ""

    def next_look(self, now: float) -> float | None:
        """Return when judge() may come to something else although nothing happens."""
        if self.phase is State.CLOSED:
            return None
        times = []
        if self._waits:
            if not self._paused:
                times.append(self._waits_since + PAUSED_AFTER)
        elif self._paused:
            times.append(self._went_on_at + RESUMED_AFTER)
        if self.phase is State.UP and not self._stall:
            seen = max(self._failed[0], self._gave_way[0], self._stalled_at)
            times.append(seen + LATELY)
        return min((time for time in times if time > now), default=None)

    def why_down(self) -> str:
        """Return why the last connection, or attempt, failed."""
        why = str(self.error)
        if self.breaks > 1:
            why += f"; {self.breaks} connections in a row broke at the same message (see retry-attempts=)"
        return why

    def _is_paused(self, now: float) -> bool:
        if self._waits:
            self._paused = self._paused or now >= self._waits_since + PAUSED_AFTER
        elif now >= self._went_on_at + RESUMED_AFTER:
            self._paused = False
        return self._paused

    def _troubles(self, now: float) -> list[str]:
        troubles = []
        if self._stall or now < self._stalled_at + LATELY:
            troubles.append(self._stall or f"stood still lately: {self._last_stall}")
        for what, (seen, error) in (("give way", self._gave_way), ("failed", self._failed)):
            if now < seen + LATELY:
                troubles.append(f"messages {what} lately: {error}")
        return troubles
