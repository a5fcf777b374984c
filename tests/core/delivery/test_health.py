"""The condition of a consumer: what makes it degraded or paused, for how long, and in which words."""

import pytest

from producer_pool.delivery.health import LATELY, PAUSED_AFTER, RESUMED_AFTER, Condition
from producer_pool.model.errors import (
    Cancelled,
    ConnectError,
    DeadlineExceeded,
    DeliveryError,
    Filtered,
    Full,
    Rejected,
    SendError,
)
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import State

NOW = 1000.0
FULL = "its buffer of 64MiB is full"


def condition(*phases: State) -> Condition:
    made = Condition()
    for phase in phases:
        made.enter(phase)
    return made


def up() -> Condition:
    return condition(State.CONNECTING, State.UP)


def state(it: Condition, now: float) -> State:
    return it.judge(now)[0]


# -- up, down ----------------------------------------------------------------------------------------


def test_first_attempt() -> None:
    """It is connecting, and then up, for no reason that had to be told."""
    it = Condition()

    assert it.judge(NOW) == (State.IDLE, "")

    it.enter(State.CONNECTING)

    assert it.judge(NOW) == (State.CONNECTING, "")

    it.enter(State.UP)

    assert it.judge(NOW) == (State.UP, "")
    assert it.next_look(NOW) is None


def test_attempts_after_a_failure() -> None:
    """It stays down, and says why, until one of them works."""
    it = up()
    it.error = ConnectError("fake: refused")
    it.enter(State.DOWN)
    it.enter(State.CONNECTING)

    assert it.judge(NOW) == (State.DOWN, "fake: refused")

    it.enter(State.UP)

    assert state(it, NOW) is State.UP


def test_connection_of_use_that_ended() -> None:
    """A direct producer then waits for the next message: nothing failed."""
    it = up()
    it.error = SendError("fake: closed")
    it.enter(State.IDLE)
    it.enter(State.CONNECTING)

    assert it.judge(NOW) == (State.CONNECTING, "")


def test_several_connections_that_broke_at_one_message() -> None:
    """The reason says how many, and where to look."""
    it = up()
    it.error = SendError("fake: reset")
    it.breaks = 1
    it.enter(State.DOWN)

    assert it.judge(NOW) == (State.DOWN, "fake: reset")

    it.breaks = 3

    assert it.judge(NOW) == (
        State.DOWN,
        "fake: reset; 3 connections in a row broke at the same message (see retry-attempts=)",
    )


# -- degraded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome,error,words",
    [
        (Outcome.FAILED, Rejected("no"), "messages failed lately: no"),
        (Outcome.FAILED, DeadlineExceeded("late"), "messages failed lately: late"),
        (Outcome.DROPPED, Full("full"), "messages give way lately: full"),
        (Outcome.FAILED, Full("full"), "messages give way lately: full"),
    ],
)
def test_trouble(outcome: Outcome, error: DeliveryError, words: str) -> None:
    """It is degraded with the first such message, until there was none for a while."""
    it = up()

    assert it.settled(outcome, error, NOW)
    assert it.judge(NOW) == (State.DEGRADED, words)
    assert it.next_look(NOW) == NOW + LATELY
    assert state(it, NOW + LATELY - 0.001) is State.DEGRADED
    assert it.judge(NOW + LATELY) == (State.UP, "")
    assert it.next_look(NOW + LATELY) is None


@pytest.mark.parametrize(
    "outcome,error",
    [
        (Outcome.DELIVERED, None),
        (Outcome.CANCELLED, Cancelled("closed")),
        (Outcome.DROPPED, Filtered("not wanted")),
    ],
)
def test_no_trouble(outcome: Outcome, error: DeliveryError | None) -> None:
    """What was delivered, called off, or not wanted says nothing against the consumer."""
    it = up()

    assert not it.settled(outcome, error, NOW)
    assert state(it, NOW) is State.UP


def test_trouble_that_comes_and_goes() -> None:
    """A failure every few seconds is one time of being degraded, and not many."""
    it = up()
    states = []
    for second in range(600):
        if second % 20 == 0:
            it.settled(Outcome.FAILED, Rejected("no"), NOW + second)
        states.append(state(it, NOW + second))

    assert set(states) == {State.DEGRADED}


def test_trouble_of_an_older_connection() -> None:
    """It is forgotten with a new one: what failed when the consumer went down is over."""
    it = up()
    it.settled(Outcome.FAILED, SendError("reset"), NOW)
    it.stalled("accepts but does not read", NOW)
    it.enter(State.DOWN)
    it.settled(Outcome.DROPPED, Full("full"), NOW + 1)
    it.enter(State.UP)

    assert it.judge(NOW + 2) == (State.UP, "")


def test_consumer_that_moves_nothing() -> None:
    """It is degraded for as long as that lasts, and a while after it."""
    it = up()
    it.stalled("accepts but does not read", NOW)

    assert it.judge(NOW + 3600) == (State.DEGRADED, "accepts but does not read")
    assert it.next_look(NOW + 3600) is None

    it.stalled("", NOW + 3600)

    assert it.judge(NOW + 3601) == (State.DEGRADED, "stood still lately: accepts but does not read")
    assert it.next_look(NOW + 3601) == NOW + 3600 + LATELY
    assert state(it, NOW + 3600 + LATELY) is State.UP


def test_several_troubles() -> None:
    """Each is named, and it lasts as long as the last of them."""
    it = up()
    it.settled(Outcome.FAILED, Rejected("no"), NOW)
    it.settled(Outcome.DROPPED, Full("full"), NOW + 10)

    assert it.judge(NOW + 10) == (
        State.DEGRADED,
        "messages give way lately: full; messages failed lately: no",
    )
    assert it.judge(NOW + LATELY) == (State.DEGRADED, "messages give way lately: full")
    assert state(it, NOW + 10 + LATELY) is State.UP


# -- paused ------------------------------------------------------------------------------------------


def test_source_that_has_to_wait() -> None:
    """After a second of it the producer is paused, and no more after some seconds without."""
    it = up()
    it.waits(FULL, NOW)

    assert state(it, NOW + PAUSED_AFTER - 0.001) is State.UP
    assert it.next_look(NOW) == NOW + PAUSED_AFTER
    assert it.judge(NOW + PAUSED_AFTER) == (State.PAUSED, f"its source has to wait: {FULL}")
    assert it.next_look(NOW + PAUSED_AFTER) is None

    it.waits("", NOW + 60)

    assert it.judge(NOW + 60) == (State.PAUSED, f"its source had to wait lately: {FULL}")
    assert it.next_look(NOW + 60) == NOW + 60 + RESUMED_AFTER
    assert it.judge(NOW + 60 + RESUMED_AFTER) == (State.UP, "")


def test_source_that_waits_for_moments() -> None:
    """Ordinary back pressure, many times a second, is no state."""
    it = up()
    states = []
    for tenth in range(0, 600, 2):
        it.waits(FULL, NOW + tenth / 10)
        states.append(state(it, NOW + tenth / 10))
        it.waits("", NOW + (tenth + 1) / 10)
        states.append(state(it, NOW + (tenth + 1) / 10))

    assert set(states) == {State.UP}


def test_source_that_waits_again_and_again() -> None:
    """Short times between are part of the same pause."""
    it = up()
    states = []
    for second in range(0, 120, 6):
        it.waits(FULL, NOW + second)
        states.append(state(it, NOW + second + 1.5))
        it.waits("", NOW + second + 3)
        states.append(state(it, NOW + second + 5.9))

    assert set(states) == {State.PAUSED}


def test_source_that_waits_for_a_consumer_that_is_down() -> None:
    """It is paused, which is worse for everybody, and the reason names both."""
    it = up()
    it.error = ConnectError("fake: refused")
    it.enter(State.DOWN)
    it.waits(FULL, NOW)

    assert it.judge(NOW) == (State.DOWN, "fake: refused")
    assert it.judge(NOW + 1) == (
        State.PAUSED,
        f"its source has to wait: {FULL}; down: fake: refused",
    )

    it.enter(State.CONNECTING)

    assert state(it, NOW + 2) is State.PAUSED


# -- the end -----------------------------------------------------------------------------------------


def test_closed() -> None:
    """Nothing else counts, and nothing has to be looked at."""
    it = up()
    it.waits(FULL, NOW)
    it.settled(Outcome.FAILED, Rejected("no"), NOW)
    it.judge(NOW + 2)
    it.enter(State.CLOSED)

    assert it.judge(NOW + 2) == (State.CLOSED, "")
    assert it.next_look(NOW + 2) is None
