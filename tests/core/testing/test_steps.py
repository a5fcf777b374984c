"""Scripts: which step is next, and when it is over."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from producer_pool import UsageError
from producer_pool.testing import Away, Deliver, Die, Fail, HalfOpen, Hang, Refuse, Reject, Slow, Step
from producer_pool.testing.steps import Script


def test_empty_script() -> None:
    """It connects, and delivers for ever."""
    script = Script([])

    assert script.at_connect(0) is None
    assert [script.at_message(0) for _ in range(100)] == [Deliver()] * 100


def test_steps_about_messages() -> None:
    """Each is done as often as it says, in order; a connect in between takes none of them."""
    script = Script([Deliver(2), Slow(0.5, 2), Reject(), Fail(), HalfOpen()])

    assert script.at_message(0) == Deliver(2)
    assert script.at_connect(0) is None
    assert [type(script.at_message(0)) for _ in range(7)] == [
        Deliver, Slow, Slow, Reject, Fail, HalfOpen, Deliver,
    ]  # fmt: skip


@pytest.mark.parametrize("step", [Refuse(2), Hang(2)])
def test_steps_about_connections(step: Step) -> None:
    """They are done by calls of connect(); a message that comes first ends the connection, and no step."""
    script = Script([step, Deliver()])

    assert script.at_message(0) == step
    assert [script.at_connect(0) for _ in range(3)] == [step, step, None]
    assert script.at_message(0) == Deliver()


@pytest.mark.parametrize(
    "script,wrong",
    [
        (5, r"a script is made of steps, such as Deliver\(10\) and Fail\(\), not 5"),
        ([5], r"a script is made of steps, .*, not 5"),
        (Fail, r"not Fail; write Fail\(\.\.\.\)"),
        (Deliver(3), r"a script is a list of steps; write \[Deliver\(count=3\)\]"),
    ],
    ids=repr,
)
def test_script_that_is_none(script: Any, wrong: str) -> None:
    """It is refused where it is written, in words."""
    with pytest.raises(UsageError, match=wrong):
        Script(script)


def test_away() -> None:
    """The time counts from when somebody notices, and a message notices too."""
    script = Script([Deliver(), Away(60), Away(10)])
    script.at_message(0)

    assert script.at_message(1000) == Away(60)
    assert script.at_connect(1059.9) == Away(60)
    assert script.at_connect(1060) == Away(10)
    assert script.at_connect(1070) is None


def test_die() -> None:
    """There is nothing behind it."""
    script = Script([Die(), Deliver()])

    assert {type(script.at_connect(now)) for now in range(1000)} == {Die}
    assert script.at_message(1001) == Die()


def test_for_ever() -> None:
    """A count of infinity does not end."""
    script = Script([Refuse(math.inf), Deliver()])

    assert {script.at_connect(now) for now in range(1000)} == {Refuse(math.inf)}


def test_endless_script() -> None:
    """An iterator is asked for a step when it is needed, and not before."""
    script = Script(itertools.cycle([Deliver(2), Fail()]))

    assert [type(script.at_message(0)) for _ in range(6)] == [Deliver, Deliver, Fail] * 2


@pytest.mark.parametrize(
    "make,told",
    [
        (lambda: Script([Deliver(3), 5]), "a script is made of steps, such as Deliver(10) and Fail(), not 5"),  # type: ignore[list-item]
        (lambda: Script([Deliver]), "not Deliver; write Deliver(...)"),  # type: ignore[list-item]
        (lambda: Script([int]), "not int"),  # type: ignore[list-item]
        (lambda: Deliver(0), "Deliver: count is at least 1, not 0"),
        (lambda: Refuse(-1), "Refuse: times is at least 1, not -1"),
        (lambda: Fail(math.nan), "Fail: count is at least 1, not nan"),
        (lambda: Slow(-0.1), "Slow: seconds are at least 0, not -0.1"),
        (lambda: Away(-1), "Away: seconds are at least 0, not -1"),
    ],
)
def test_mistakes(make: Callable[[], object], told: str) -> None:
    """They are found where they are made, and the text says how to write it."""
    with pytest.raises(UsageError) as caught:
        make()

    assert str(caught.value).endswith(told)
