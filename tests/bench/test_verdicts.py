"""What becomes of a row of the table of floors, and that the table fits the workloads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.figures import FIGURES
from bench.floors import ROWS, Row
from bench.relays import RELAYS
from bench.runs import Run
from bench.summary import measured, missed, summary
from bench.verbs import VERBS
from bench.verdicts import Status, Verdict, judge, judge_all
from bench.workloads import WORKLOADS, Calls, Idle, Through

ROW = Row("tcp", "per_s", ("nats",), floor=2.0, goal=3.0)
CPU = Row("tcp", "cpu_us", ("C",), floor=2.0, goal=1.4)


def run(
    contestant: str, repetition: int = 0, *, relay: float = 1.0, load: float = 0.5, **figures: float
) -> Run:
    cores = {"relay_core": relay, "load_core": load}
    return Run("tcp", contestant, repetition, True, {**cores, **figures})


def rates(ours: list[float], theirs: list[float]) -> list[Run]:
    return [
        run(name, number, per_s=rate)
        for name, own in (("product", ours), ("nats", theirs))
        for number, rate in enumerate(own)
    ]


# -- one row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ratio, status",
    [(1.99, Status.MISSED), (2.0, Status.MET), (2.99, Status.MET), (3.0, Status.GOAL)],
)
def test_more_is_better(ratio: float, status: Status) -> None:
    """A throughput meets what it is at least."""
    assert judge(ROW, rates([ratio], [1.0])).status is status


@pytest.mark.parametrize(
    "ratio, status",
    [(2.01, Status.MISSED), (2.0, Status.MET), (1.41, Status.MET), (1.4, Status.GOAL)],
)
def test_less_is_better(ratio: float, status: Status) -> None:
    """A cost meets what it is at most."""
    assert judge(CPU, [run("product", cpu_us=ratio), run("C", cpu_us=1.0)]).status is status


def test_row_without_a_goal() -> None:
    """There is nothing but the floor to meet."""
    runs = [run("product", cpu_us=1.0), run("C", cpu_us=1.0)]

    assert judge(replace(CPU, goal=None), runs).status is Status.MET


def test_ratios_within_repetitions() -> None:
    """Each repetition has its ratio, and their median counts: not the ratio of medians."""
    verdict = judge(ROW, rates([8.0, 2.0, 10.0], [1.0, 1.0, 5.0]))

    assert verdict.values == (8.0, 2.0, 2.0)
    assert verdict.value == 2.0


def test_absolute_figure() -> None:
    """Without a base, the figure itself is judged."""
    row = Row("tcp", "call_us", (), floor=1.0, goal=0.6)

    assert judge(row, [run("product", call_us=0.7)]).status is Status.MET


def test_worst_of_ours_against_the_least_of_theirs() -> None:
    """Of several, in each repetition: the worst of ours, and the slowest of those we are compared with."""
    row = Row("tcp", "per_s", ("x", "y"), 1.0, own=("a", "b"))
    runs = [run(name, per_s=rate) for name, rate in {"a": 6.0, "b": 4.0, "x": 2.0, "y": 8.0}.items()]

    assert judge(row, runs).values == (2.0,)


# -- what is no result -----------------------------------------------------------------------------


def test_base_held_up_by_the_load() -> None:
    """The base could do more than the load let it: the ratio is too good, and void."""
    runs = [run("product", per_s=4.0), run("nats", per_s=1.0, relay=0.7, load=0.98)]

    verdict = judge(ROW, runs)

    assert verdict.status is Status.VOID
    assert verdict.reason == "the load held nats up: its core was 70 % busy, the load's 98 %"


def test_void_tells_the_cost() -> None:
    """What a delivery costs says what the ratio would be, if nothing held anybody up."""
    runs = [
        run("product", per_s=4.0, cpu_us=0.5),
        run("nats", per_s=1.0, cpu_us=0.25, relay=0.7, load=0.98),
    ]

    assert judge(ROW, runs).reason.endswith("; by CPU per delivery it is 0.50")


def test_base_held_up_and_faster() -> None:
    """What is missed against a base that could do even more is missed."""
    runs = [run("product", per_s=1.0), run("nats", per_s=1.0, relay=0.7, load=0.98)]

    assert judge(ROW, runs).status is Status.MISSED


def test_ours_held_up_by_the_load() -> None:
    """The value is at least that; if it is too low, nothing is known."""
    fast = [run("product", per_s=2.5, relay=0.7, load=0.98), run("nats", per_s=1.0)]
    slow = [run("product", per_s=1.5, relay=0.7, load=0.98), run("nats", per_s=1.0)]

    assert judge(ROW, fast).at_least
    assert judge(ROW, fast).status is Status.MET
    assert judge(ROW, slow).status is Status.VOID


def test_waiting_for_something_else() -> None:
    """A relay that waits for its disk leaves both cores idle, and is its own limit."""
    runs = [run("product", per_s=4.0), run("nats", per_s=1.0, relay=0.1, load=0.1)]

    assert judge(ROW, runs).status is Status.GOAL


def test_cost_is_never_void() -> None:
    """CPU time does not depend on who was the limit."""
    runs = [run("product", cpu_us=1.0, relay=0.5, load=1.0), run("C", cpu_us=1.0, relay=0.5, load=1.0)]

    assert judge(CPU, runs).status is Status.GOAL


@pytest.mark.parametrize(
    "skipped, reason",
    [
        ("nats-server is not installed", "nats: nats-server is not installed"),
        ("a run failed: nats-server: ended; it said:\n  started\n  no such port", "nats: no such port"),
    ],
)
def test_peer_that_is_not_there(skipped: str, reason: str) -> None:
    """It is named, with what is missing, or with the last that it said."""
    verdict = judge(ROW, [run("product", per_s=1.0), Run("tcp", "nats", 0, True, {}, skipped=skipped)])

    assert verdict.status is Status.ABSENT
    assert verdict.reason == reason


def test_peer_that_loses() -> None:
    """Runs in which it lost messages are in no ratio; with no other, there is none."""
    lossy = replace(run("nats", 0, per_s=0.1), intact=False)
    runs = [run("product", 0, per_s=4.0), run("product", 1, per_s=4.0), lossy]

    assert judge(ROW, runs).reason == "nats lost messages"
    assert judge(ROW, [*runs, run("nats", 1, per_s=1.0)]).values == (4.0,)


def test_workload_that_was_not_measured() -> None:
    """Its rows are not judged at all."""
    assert {verdict.row.workload for verdict in judge_all(rates([1.0], [1.0]))} == {"tcp"}


# -- for people ------------------------------------------------------------------------------------


def test_summary() -> None:
    """A row says what it is, the median with its spread, both bounds, and what became of it."""
    verdicts = [
        judge(ROW, rates([2.0, 2.5, 3.0], [1.0, 1.0, 1.0])),
        Verdict(CPU, Status.ABSENT, reason="C: no C compiler"),
    ]

    lines = summary(verdicts).splitlines()

    assert lines[2].endswith("| messages/s ÷ nats | 2.50 (2.00..3.00) | ≥ 2.00 | ≥ 3.00 | met |")
    assert lines[3] == "|  | CPU per delivery ÷ C | - | ≤ 2.00 | ≤ 1.40 | not measured: C: no C compiler |"


def test_lower_bound_is_told() -> None:
    """A value that could be better is marked as one."""
    runs = [run("product", per_s=2.5, relay=0.7, load=0.98), run("nats", per_s=1.0)]

    assert measured(judge(ROW, runs)) == "≥ 2.50"


def test_missed_floors_are_told() -> None:
    """Each is a failure of the bench; what is void or absent is none."""
    verdicts = [
        judge(ROW, rates([1.0], [1.0])),
        Verdict(CPU, Status.ABSENT),
        Verdict(CPU, Status.VOID, (1.0,)),
    ]

    assert missed(verdicts) == ["tcp: messages/s ÷ nats is 1.00, the floor ≥ 2.00"]


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.workload}-{row.figure}-{row.against}")
def test_row_fits_its_workload(row: Row) -> None:
    """Who is named takes part in the workload, the figure is known, and the goal is beyond the floor."""
    workload = WORKLOADS[row.workload]
    if isinstance(workload, Through):
        there = {case.name for case, _ in workload.cases()}
    elif isinstance(workload, Calls):
        there = set(workload.verbs)
    else:
        there = set(workload.contestants) if isinstance(workload, Idle) else {"product", "python"}

    assert {*row.own, *row.base} <= there
    assert row.figure in FIGURES
    assert row.goal is None or row.direction.meets(row.goal, row.floor)


def test_contestants_exist() -> None:
    """Every relay and verb that a workload names is one of this bench."""
    for name, workload in WORKLOADS.items():
        if isinstance(workload, Through):
            assert {case.relay for case, _ in workload.cases()} <= set(RELAYS), name
        elif isinstance(workload, Calls):
            assert set(workload.verbs) <= set(VERBS), name
        elif isinstance(workload, Idle):
            assert set(workload.contestants) <= set(RELAYS), name
