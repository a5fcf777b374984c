"""What measurements come to."""

import pytest

from producer_pool.cli.benching.figures import Figures, Spread
from producer_pool.cli.benching.rig import Slice
from support.measured import outcome, seen


def figures(*slices: Slice, rate: float | None = None, ordered: bool = True) -> Figures:
    """Return what these come to."""
    return Figures(100, 2, rate, ordered, list(slices), 1024)


def test_spread() -> None:
    """The median, and both ends."""
    assert Spread.of([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_rates_are_medians_and_costs_are_sums() -> None:
    """One slow run does not change a rate; CPU time counts by what it was spent on."""
    one = figures(seen(1_000, 0.9), seen(1_200, 0.9), seen(10, 0.4))

    assert one.messages_per_s == Spread(1_000, 10, 1_200)
    assert one.deliveries_per_s.median == 2_000
    assert one.cpu_per_delivery == pytest.approx(2.2 / 4_420)
    assert one.relay_busy == pytest.approx(2.2 / 3)
    assert one.load_busy == pytest.approx(0.25)
    assert (one.messages, one.deliveries, one.seconds) == (2_210, 4_420, 3.0)


@pytest.mark.parametrize("cpu,limit", [(0.95, "relay"), (1.7, "relay"), (0.89, "load"), (None, None)])
def test_limit_flat_out(cpu: float | None, limit: str | None) -> None:
    """The relay is the limit if it works all the time; what the system does not tell, nobody guesses."""
    assert figures(seen(cpu=cpu)).limit == limit


@pytest.mark.parametrize("rate,limit", [(1_000.0, "schedule"), (1_015.0, "schedule"), (1_100.0, "behind")])
def test_limit_by_schedule(rate: float, limit: str) -> None:
    """A schedule was kept, or not."""
    assert figures(seen(1_000), rate=rate).limit == limit


@pytest.mark.parametrize("fault", ["lost", "doubled", "damaged"])
def test_faults_of_one_run_count(fault: str) -> None:
    """One message in one run is enough."""
    one = figures(seen(), seen(**{fault: 1}), ordered=False)

    assert not one.intact
    assert getattr(one.faults, fault) == 1


def test_order_counts_where_there_is_one() -> None:
    """A protocol that keeps no order may deliver out of order."""
    assert not figures(seen(late=1)).intact
    assert figures(seen(late=1), ordered=False).intact


def test_ratios_are_taken_within_rounds() -> None:
    """A round in which the whole machine was slow changes no ratio."""
    one = outcome("tcp", "unix", rates=(None, 100.0))
    for speed in (1_000, 100, 1_000):
        one.enter(0, 0, seen(2 * speed), 1)
        one.enter(0, 1, seen(speed), 1)
        one.enter(1, 0, seen(speed, latency=3_000 * speed), 1)
        one.enter(1, 1, seen(speed, latency=1_000 * speed), 1)

    rate = one.ratios(0)["messages_per_s"]
    assert (rate.spread, rate.holds) == (Spread(2.0, 2.0, 2.0), "exactly")
    assert one.ratios(0)["relay_cpu_us_per_delivery"].spread == Spread(0.5, 0.5, 0.5)
    assert set(one.ratios(0)) == {"messages_per_s", "relay_cpu_us_per_delivery"}
    assert one.ratios(1)["p99"].spread.median == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize(
    "first,second,holds",
    [(0.95, 0.95, "exactly"), (0.5, 0.95, "at least"), (0.95, 0.5, "void"), (0.5, 0.5, "void")],
)
def test_ratios_say_whether_they_hold(first: float, second: float, holds: str) -> None:
    """Where the load held up a relay, the relay could have done more."""
    one = outcome("tcp", "unix")
    one.enter(0, 0, seen(cpu=first), 1)
    one.enter(0, 1, seen(cpu=second), 1)

    assert one.ratios(0)["messages_per_s"].holds == holds


def test_nothing_to_compare() -> None:
    """One way alone has no ratio, and no system that tells no CPU time has one of that."""
    assert outcome("tcp").ratios(0) == {}
    one = outcome("tcp", "unix")
    one.enter(0, 0, seen(cpu=None), 1)
    one.enter(0, 1, seen(), 1)

    assert "relay_cpu_us_per_delivery" not in one.ratios(0)


def test_what_was_interrupted() -> None:
    """Only what was measured for each way is shown; a fault counts in any case."""
    one = outcome("tcp", "unix", rates=(None, 100.0))
    one.enter(0, 0, seen(), 1)

    assert one.measured == []
    assert one.intact

    one.enter(0, 1, seen(), 1)
    assert [number for number, _ in one.measured] == [0]

    one.enter(1, 0, seen(lost=1), 1)
    assert not one.intact
