"""The words in which a test says what a consumer does, and how far a client is in such a script."""
# Rule: nothing here reads a clock or waits. Clients pass `now`, and do what a step says.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

from producer_pool.model.errors import Rejected, UsageError

__all__ = [
    "Away",
    "Deliver",
    "Die",
    "Fail",
    "HalfOpen",
    "Hang",
    "Refuse",
    "Reject",
    "Script",
    "Slow",
    "Step",
]


@dataclass(frozen=True, slots=True)
class Step:
    """Root of what may stand in a script."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("count", "times") and not value >= 1:
                raise UsageError(f"{type(self).__name__}: {field.name} is at least 1, not {value!r}")
            if field.name == "seconds" and not value >= 0:
                raise UsageError(f"{type(self).__name__}: seconds are at least 0, not {value!r}")


# -- messages --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deliver(Step):
    """The next messages arrive."""

    count: float = 1
    """How many; ``math.inf``: all from now on."""


@dataclass(frozen=True, slots=True)
class Slow(Step):
    """The next messages take their time to arrive, one after the other."""

    seconds: float
    """For each of them."""
    count: float = 1


@dataclass(frozen=True, slots=True)
class Reject(Step):
    """The consumer refuses the next messages, and goes on."""

    count: float = 1
    error: Rejected | None = None
    """Why; None: a text that says no more than that."""


@dataclass(frozen=True, slots=True)
class Fail(Step):
    """Sending the next messages fails, each with the loss of its connection."""

    count: float = 1
    arrives: bool = False
    """Whether the message arrives all the same, so that a retry doubles it."""
    error: BaseException | None = None
    """What is raised, of whatever kind; None: SendError."""


@dataclass(frozen=True, slots=True)
class HalfOpen(Step):
    """Messages are taken and never answered, until the client is closed."""

    arrives: bool = False
    """Whether they arrive all the same."""


# -- connections -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refuse(Step):
    """The next connections are refused."""

    times: float = 1
    """How many; ``math.inf``: all from now on."""
    error: BaseException | None = None
    """What is raised, of whatever kind; None: ConnectError."""


@dataclass(frozen=True, slots=True)
class Hang(Step):
    """The next calls of connect() do not return."""

    times: float = 1


@dataclass(frozen=True, slots=True)
class Away(Step):
    """For some time, connections are refused."""

    seconds: float
    """Counted from when somebody first notices: by a connect(), or by a message."""


@dataclass(frozen=True, slots=True)
class Die(Step):
    """From now on, all connections are refused."""


_DELIVER: Final = Deliver()
_ABOUT_CONNECTIONS: Final = (Refuse, Hang, Away, Die)


class Script:
    """Steps, and how far they have been done. When all are, messages arrive."""

    def __init__(self, steps: Iterable[Step]) -> None:
        checked = map(_checked, _listed(steps))
        # An iterator may be endless. All others are looked at now, where the mistake is.
        self._coming: Iterator[Step] = checked if isinstance(steps, Iterator) else iter(list(checked))
        self._step: Step | None = None
        self._left = 0.0
        """How often the step is still to be done."""
        self._over: float | None = None
        """When Away is over; None: nobody has noticed yet."""

    def at_connect(self, now: float) -> Step | None:
        """Return what happens to a connect(), and note that it did; None: it succeeds."""
        step = self._current(now)
        if not isinstance(step, _ABOUT_CONNECTIONS):
            return None
        if isinstance(step, Refuse | Hang):
            self._done()
        return step

    def at_message(self, now: float) -> Step:
        """
        Return what happens to a message, and note that it did.

        A step about connections ends the one that there is, and is still to come.
        """
        step = self._current(now)
        if not isinstance(step, _ABOUT_CONNECTIONS):
            self._done()
        return step

    def _current(self, now: float) -> Step:
        while True:
            if self._step is None:
                self._step = next(self._coming, _DELIVER)
                self._left = getattr(self._step, "count", getattr(self._step, "times", 1))
                self._over = None
            if isinstance(self._step, Away):
                if self._over is None:
                    self._over = now + self._step.seconds
                if now >= self._over:
                    self._step = None
                    continue
            return self._step

    def _done(self) -> None:
        self._left -= 1
        if self._left < 1:
            self._step = None


def _listed(script: object) -> Iterable[object]:
    if isinstance(script, Iterable):
        return script
    raise UsageError(f"a script is a list of steps; write [{_checked(script)!r}]")


def _checked(step: object) -> Step:
    if isinstance(step, Step):
        return step
    name = step.__name__ if isinstance(step, type) else repr(step)
    hint = f"; write {name}(...)" if isinstance(step, type) and issubclass(step, Step) else ""
    raise UsageError(f"a script is made of steps, such as Deliver(10) and Fail(), not {name}{hint}")
