"""Each kind of measurement at work, with few messages: what comes out, and what becomes of one that fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import calls, daemons, through
from bench.process import BenchError
from bench.relays import RELAYS, Relay, UnavailableError
from bench.report import faults, markdown
from bench.runner import run_all
from bench.runs import CEILING, Run, Settings
from bench.traffic import Traffic
from bench.workloads import WORKLOADS, Calls, Case, Idle, Memory, Through

FEW = Traffic(size=64, consumers=2, batch=16, count=800)
TWICE = Settings(repetitions=2)


def measured(workload: Through, settings: Settings = TWICE) -> list[Run]:
    return list(through.measure("tcp", workload, settings))


def small(ports: Any) -> list[str]:
    """The product, with a buffer for the last consumer that is full soon."""
    program = str(Path(sys.executable).parent / "producer-pool")
    *urls, last = (f"tcp://127.0.0.1:{port}" for port in ports)
    targets = [part for url in (*urls, f"{last}?buffer=1MiB") for part in ("--to", url)]
    return [program, "run", "--json", "--listen", "tcp://127.0.0.1:0", *targets]


# -- through a relay -------------------------------------------------------------------------------


def test_relays_take_turns() -> None:
    """The load alone comes first, and within a repetition every contestant has its run."""
    runs = measured(Through("t", FEW, ("naive", Case("one", "naive", {"consumers": 1}))))

    turns = [(run.contestant, run.repetition) for run in runs]
    assert turns == [(CEILING, 0), ("naive", 0), ("one", 0), ("naive", 1), ("one", 1)]
    assert all(run.intact for run in runs)
    assert [len(run.detail["consumers"]) for run in runs[1:3]] == [2, 1]
    assert markdown(runs).count("| naive |") == 1


def test_only_some_relays() -> None:
    """Whom nobody asked for is not started."""
    runs = measured(Through("t", FEW, ("naive", "product")), Settings(repetitions=1, only=("naive",)))

    assert [run.contestant for run in runs] == [CEILING, "naive"]


def test_relay_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no further turn, and the run is a fault; the others go on."""
    monkeypatch.setitem(
        RELAYS, "broken", Relay("broken", lambda ports: [sys.executable, "-c", "exit('no such luck')"])
    )

    runs = measured(Through("t", FEW, ("broken", "naive")))

    assert [run.contestant for run in runs] == [CEILING, "broken", "naive", "naive"]
    (fault,) = faults(runs)
    assert fault.startswith("tcp/broken #0: a run failed:")
    assert "no such luck" in fault


def test_relay_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with what is missing, and that is no fault."""

    def missing(ports: Any) -> list[str]:
        raise UnavailableError("not installed")

    monkeypatch.setitem(RELAYS, "absent", Relay("absent", missing))

    runs = measured(Through("t", FEW, ("absent", "unheard-of", "naive")))

    assert [(run.contestant, run.skipped) for run in runs[1:3]] == [
        ("absent", "not installed"),
        ("unheard-of", "this bench has no such relay"),
    ]
    assert faults(runs) == []


def test_shorter_runs_send_less() -> None:
    """Where the count says how long it is, half the time is half the count; but not where memory fills."""
    workload = Through("t", FEW, ("naive",), seconds=1.0)
    half = Settings(repetitions=1, seconds=0.5)

    assert measured(workload, half)[-1].detail["sent"] == FEW.count // 2
    assert measured(Memory("t", FEW, ("naive",)), half)[-1].detail["sent"] == FEW.count


# -- accounts --------------------------------------------------------------------------------------


def test_accounts_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stalled consumer got, and what gave way, is what the relay says."""
    monkeypatch.setitem(RELAYS, "small", Relay("small", small, tells=True))
    stalled = Traffic(size=1024, consumers=3, stall=1, count=20_000, batch=64)

    (_, run) = measured(Through("t", stalled, ("small",)), Settings(repetitions=1))

    told = list(run.detail["accounts"].values())[-1]
    assert run.intact
    assert run.figures["unaccounted"] == 0
    assert 0 < told["dropped"] < stalled.count


@pytest.mark.parametrize("name", ["accepted", "delivered", "dropped", "failed", "cancelled", "pending"])
def test_accounts_that_are_wrong(name: str) -> None:
    """Each counter that is off by one is found."""
    got = {"received": 7, "doubled": 0, "reordered": 0, "corrupt": 0, "torn": 0}
    told = {"accepted": 10, "delivered": 7, "dropped": 3, "failed": 0, "cancelled": 0, "pending": 0}
    result = {"sent": 10, "consumers": [got]}

    assert through.unaccounted(result, {"one": told}) == 0
    assert through.unaccounted(result, {"one": told | {name: told[name] + 1}}) == 1


# -- programs and daemons --------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_calls_of_threads(threads: int) -> None:
    """Each thread's messages are proven by the consumers, whichever verb sent them."""
    workload = Calls(
        "t", ("submit", "sendall", "unheard-of"), block=20, blocks=2, threads=threads, consumers=2
    )

    skipped, *runs = calls.measure("submit", workload, Settings(repetitions=1))

    assert skipped.skipped == "this bench has no such verb"
    assert [run.contestant for run in runs] == ["submit", "sendall"]
    assert all(run.intact for run in runs)
    received = [consumer["received"] for consumer in runs[0].detail["consumers"]]
    assert received == [2 * threads * 20 * 3] * 2


def test_await_submit() -> None:
    """The verb of asyncio programs delivers what it says it does."""
    workload = Calls("t", ("await-submit",), block=50, blocks=2, consumers=2)

    (run,) = calls.measure("await-submit", workload, Settings(repetitions=1))

    assert run.intact
    assert run.figures["calls_per_s"] == pytest.approx(1e6 / run.figures["call_us"])


def test_workload_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault, and the next one is measured."""

    def broken(*_: object) -> Iterator[Run]:
        raise BenchError("calls failed")

    monkeypatch.setattr(calls, "measure", broken)
    monkeypatch.setitem(WORKLOADS, "tcp", Through("t", FEW, ("naive",)))

    runs = list(run_all(["submit", "tcp"], Settings(repetitions=1)))

    assert faults(runs) == ["submit/bench #0: calls failed"]
    assert [run.contestant for run in runs] == ["bench", CEILING, "naive"]


@pytest.mark.parametrize("contestant", ["naive", "websocket", "tls"])
def test_idle(contestant: str) -> None:
    """A relay that does nothing takes memory, and all connections are there when it is looked at again."""
    (run,) = daemons.measure_idle("idle", Idle("t", 20, (contestant,)), Settings(repetitions=1))

    assert not run.skipped
    assert 5 < run.figures["idle_mb"] < 100
    assert "connection_kib" in run.figures


def test_idle_that_does_not_take_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is one on which a message might be sent: a relay that does not get there failed."""
    monkeypatch.setitem(RELAYS, "plain", replace(RELAYS["naive"], name="plain", encrypts=True))
    monkeypatch.setattr(daemons, "WAIT", 0.5)  # seconds in which it does not answer

    (run,) = daemons.measure_idle("idle", Idle("t", 1, ("plain",)), Settings(repetitions=1))

    assert "plain does not take a connection" in run.skipped
    assert not run.intact


def test_workload_of_each_kind_is_reported() -> None:
    """Every workload has a table, whatever kind it is of."""
    figures = {
        **dict.fromkeys(
            ("per_s", "cpu_us", "relay_busy", "load_busy", "others", "relay_core", "load_core"), 1.0
        ),
        **dict.fromkeys(("switches_per_s", "idle_mib", "peak_mib", "of_stalled_limit", "of_all_limits"), 1.0),
        **dict.fromkeys(("call_us", "settled_us", "idle_mb", "connection_kib", "wall_ms", "cpu_ms"), 1.0),
        **dict.fromkeys(("among_cpu_ms", "among_wall_ms"), 1.0),
    }
    runs = [Run(name, who, 0, True, figures) for name in WORKLOADS for who in ("product", "python")]

    text = markdown(runs)

    assert all(workload.title in text for workload in WORKLOADS.values())
    assert sum(line.startswith("| ---") for line in text.splitlines()) == len(WORKLOADS)
