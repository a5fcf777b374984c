"""Results, the ladder of acknowledgement, and what check() raises."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.errors import ConfigurationError, ConnectError, DeliveryError, Full
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome, Results, resolve_ack

ONE = ForwardResult("one", Outcome.DELIVERED, Ack.KERNEL, attempts=1)
TWO = ForwardResult("two", Outcome.FAILED, error=ConnectError("two: refused"), attempts=1)
THREE = ForwardResult("three", Outcome.PENDING)

levels = st.sets(st.sampled_from(Ack), min_size=1)


def test_ladder() -> None:
    """Each level includes the ones below it."""
    assert list(Ack) == sorted(Ack)
    assert Ack.WRITTEN < Ack.KERNEL < Ack.PEER < Ack.APP
    assert [level.label for level in Ack] == ["written", "kernel", "peer", "app"]
    assert f"{Ack.KERNEL}" == str(Ack.KERNEL) == "kernel"


@given(st.sampled_from(Ack), levels)
def test_level_that_is_asked_for(asked: Ack, offered: set[Ack]) -> None:
    """It is never less than asked, and no more than is needed; what cannot be had is an error."""
    helped = asked is Ack.APP or offered == {Ack.APP}
    reached = {level for level in offered if level >= asked and (level < Ack.APP or helped)}
    if reached:
        assert resolve_ack(asked, offered) == min(reached)
    else:
        with pytest.raises(ConfigurationError, match=f"^ack={asked.label} cannot be reached here, only "):
            resolve_ack(asked, offered)


def test_level_between_the_kernel_and_the_application() -> None:
    """An application that does not answer is never waited for by who asked for less: that is an error."""
    with pytest.raises(
        ConfigurationError, match=r"^ack=peer cannot be reached here, only written, kernel, app; use ack=best"
    ):
        resolve_ack(Ack.PEER, {Ack.WRITTEN, Ack.KERNEL, Ack.APP})


@pytest.mark.parametrize("asked", [*Ack, None])
def test_nothing_but_the_application(asked: Ack | None) -> None:
    """A client that always waits for an answer meets whatever is asked."""
    assert resolve_ack(asked, {Ack.APP}) is Ack.APP


@given(levels)
def test_best_level(offered: set[Ack]) -> None:
    """The best is the highest that needs no help of the application, unless there is nothing else."""
    assert resolve_ack(None, offered) == max(offered - {Ack.APP}, default=Ack.APP)


def test_no_level_is_offered() -> None:
    """A transport without any level cannot be used."""
    with pytest.raises(ConfigurationError, match="no level of acknowledgement is offered"):
        resolve_ack(None, ())


def test_results() -> None:
    """A mapping by id, in order, equal to a dict of the same."""
    results = Results({"one": ONE, "two": TWO})

    assert list(results) == ["one", "two"]
    assert results["one"].ok
    assert not results["two"].ok
    assert results == {"one": ONE, "two": TWO}
    assert results.failed == {"two": TWO}
    assert not results.ok
    assert repr(results) == "<Results one: delivered, two: failed>"


def test_no_results() -> None:
    """Without producers nothing failed; that there were none is seen as well."""
    results = Results({})

    assert results.ok
    assert not (results and results.ok)
    assert results.check() is results
    assert repr(results) == "<Results empty>"


def test_result_of_another_producer() -> None:
    """The error names the producers that the message went to."""
    with pytest.raises(KeyError) as raised:
        _ = Results({"one": ONE, "two": TWO})["audit"]

    assert raised.value.args == ("the message did not go to 'audit', only to: one, two",)
    assert Results({}).get("audit") is None


def test_check_of_a_delivered_message() -> None:
    """check() returns what it was asked of."""
    assert ONE.check() is ONE
    assert Results({"one": ONE}).check().ok


def test_check_of_a_failed_message() -> None:
    """Its error is raised, however often, without growing."""
    lengths = []
    for _ in range(3):
        with pytest.raises(ConnectError, match="two: refused") as raised:
            TWO.check()
        lengths.append(len(traceback.extract_tb(raised.value.__traceback__)))

    assert len(set(lengths)) == 1


@pytest.mark.parametrize(
    "outcome,text",
    [
        (Outcome.PENDING, "x: pending; wait longer, or ask the receipt again"),
        (Outcome.CANCELLED, "x: cancelled"),
    ],
)
def test_check_without_an_error(outcome: Outcome, text: str) -> None:
    """Waiting helps only a message that is pending."""
    with pytest.raises(DeliveryError) as raised:
        ForwardResult("x", outcome).check()

    assert str(raised.value) == text


def test_check_of_several() -> None:
    """One group with an error for each producer that did not deliver."""
    full = ForwardResult("four", Outcome.DROPPED, error=Full("four: full"))
    with pytest.raises(ExceptionGroup, match="not delivered to 3 of 4 producers") as raised:
        Results({"one": ONE, "two": TWO, "three": THREE, "four": full}).check()

    assert [type(error) for error in raised.value.exceptions] == [ConnectError, DeliveryError, Full]
    refused, rest = raised.value.split(ConnectError)
    assert refused is not None
    assert refused.exceptions == (TWO.error,)
    assert rest is not None


def test_check_of_what_is_not_required() -> None:
    """Such a result is there, and makes no difference to ok, failed and check(); a required one does."""
    aside = Results({"one": ONE, "two": TWO}, optional=["two"])

    assert aside["two"] is TWO
    assert len(aside) == 2
    assert aside.ok
    assert aside.failed == {}
    assert aside.check() is aside

    both = Results({"one": ONE, "two": TWO, "three": THREE}, optional=["three"])

    assert not both.ok
    assert both.failed == {"two": TWO}
    with pytest.raises(ExceptionGroup, match="not delivered to 1 of 2 producers"):
        both.check()
