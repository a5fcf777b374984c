"""What CI measures, and that it fails only on what fails twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.ci import CHOSEN, judge_in_ci
from bench.floors import ROWS
from bench.report import faults
from bench.runs import Run
from bench.verdicts import Status
from bench.workloads import PEERS, WORKLOADS, Through

# Enough of everything to meet each floor in CI, for ours and for those it is compared with.
GOOD = {
    "cpu_us": 0.5,
    "finished_s": 1.0,
    "unaccounted": 0.0,
    "idle_mb": 20.0,
    "connection_kib": 1.0,
}


class Measured:
    """Answers with good runs, but for what *spoilt* says of a workload, measurement by measurement."""

    def __init__(self, workload: str = "", spoilt: Sequence[bool] = ()) -> None:
        self.workload = workload
        self.spoilt = list(spoilt)
        self.asked: list[str] = []

    def __call__(self, workload: str, contestants: tuple[str, ...]) -> list[Run]:
        self.asked.append(workload)
        bad = workload == self.workload and self.spoilt.pop(0)
        runs = []
        for contestant in contestants:
            figures = dict(GOOD)
            if contestant not in ("C", "C-udp", "C-unix", "naive-websocket"):
                figures["cpu_us"] = 50.0 if bad else 0.01
            runs.append(Run(workload, contestant, 0, True, figures))
        return runs


def test_all_is_well() -> None:
    """Each workload is measured once, and every row of it is judged."""
    measure, noted = Measured(), list[Run]()

    runs, verdicts = judge_in_ci(noted.append, measure)

    assert measure.asked == list(CHOSEN)
    assert {verdict.status for verdict in verdicts} == {Status.MET}
    assert noted == runs


def test_failure_is_measured_once_more() -> None:
    """What fails once and not again is no failure."""
    measure = Measured("udp", [True, False])

    runs, verdicts = judge_in_ci(lambda run: None, measure)

    assert measure.asked.count("udp") == 2
    assert not [verdict for verdict in verdicts if verdict.status is Status.MISSED]
    assert len([run for run in runs if run.workload == "udp"]) == 2


def test_failure_twice_is_one() -> None:
    """What fails again is told, by its second measurement."""
    _, verdicts = judge_in_ci(lambda run: None, Measured("udp", [True, True]))

    (missed,) = [verdict for verdict in verdicts if verdict.status is Status.MISSED]
    assert (missed.row.workload, missed.row.figure) == ("udp", "cpu_us")


def test_floors_are_looser() -> None:
    """By half, in whichever direction; throughput is judged by what a delivery costs; no goal is shown."""
    _, verdicts = judge_in_ci(lambda run: None, Measured())

    floors = {(row.workload, row.figure): row.floor for row in (verdict.row for verdict in verdicts)}
    assert floors["tcp", "cpu_us"] == 2.0 * 1.5
    assert floors["many", "cpu_us"] == pytest.approx(1 / 0.8 * 1.5)
    assert floors["stalled", "unaccounted"] == 0
    assert {verdict.row.goal for verdict in verdicts} == {None}


def test_chosen_take_part_without_peers() -> None:
    """CI asks for contestants that the workloads have, and for none that has to be installed."""
    for workload, contestants in CHOSEN.items():
        chosen = WORKLOADS[workload]
        if isinstance(chosen, Through):
            assert set(contestants) <= {case.name for case, _ in chosen.cases()}
        assert not set(contestants) & (PEERS - {"naive-websocket"})
        assert any({*row.own, *row.base} <= set(contestants) for row in ROWS if row.workload == workload)


def test_loss_of_a_peer_is_no_fault() -> None:
    """That the product or a control of this bench loses messages is one, and so is a run that failed."""
    told = {
        "consumers": [{"stalled": False, "lost": 3, "doubled": 0, "reordered": 0, "corrupt": 0, "torn": 0}]
    }
    runs = [Run("tcp", name, 0, False, {}, {**told, "resets": 0}) for name in ("product", "nats", "C")]

    assert faults(runs) == ["tcp/product #0: lost=3", "tcp/C #0: lost=3"]
    assert faults([Run("tcp", "product", 0, False, {}, skipped="a run failed: gone")]) == [
        "tcp/product #0: a run failed: gone"
    ]
