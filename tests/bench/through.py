"""Messages through a relay: one run of one contestant, and the load alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.process import BenchError, Child, context_switches, cores, resident
from bench.relays import RELAYS, UnavailableError
from bench.runs import BOUND, CEILING, Run, Settings
from bench.traffic import LoadProcess, Traffic
from bench.workloads import Case, Memory, Through

__all__ = ["measure", "unaccounted"]


def measure(name: str, workload: Through, settings: Settings) -> Iterator[Run]:
    """The load alone, and repetitions in which the contestants take turns."""
    seconds = settings.seconds or workload.seconds
    cases = [
        (case, _lasting(traffic, workload, seconds))
        for case, traffic in workload.cases()
        if settings.wants(case.name)
    ]
    if cases and not isinstance(workload, Memory):
        yield _ceiling(name, _lasting(workload.traffic, workload, min(seconds, 0.5)), settings)
    for repetition in range(settings.repetitions or workload.repetitions):
        for case, traffic in list(cases):
            named = Run(name, case.name, repetition, True, {})
            try:
                run = _one(named, case, traffic, settings)
            except UnavailableError as error:
                cases.remove((case, traffic))
                run = replace(named, skipped=str(error))
            except BenchError as error:
                cases.remove((case, traffic))
                run = replace(named, intact=False, skipped=f"a run failed: {error}")
            if isinstance(workload, Memory) and run.figures:
                run = _by_limits(run, workload)
            yield run


def _lasting(traffic: Traffic, workload: Through, seconds: float) -> Traffic:
    """For so many seconds; where the count says how long it is, shorter runs have less of it."""
    if isinstance(workload, Memory) or not traffic.count:
        return traffic.lasting(seconds)
    return replace(traffic, count=int(traffic.count * min(1.0, seconds / workload.seconds)))


def _one(named: Run, case: Case, traffic: Traffic, settings: Settings) -> Run:
    pair = relay_core, load_core = cores()
    relay = RELAYS.get(case.relay)
    if relay is None:
        raise UnavailableError("this bench has no such relay")
    traffic = replace(traffic, wire=relay.wire, reach=relay.reaches, thaw=relay.tells)
    accounts: dict[str, Any] = {}
    with LoadProcess(traffic, core=load_core, bound=BOUND, python=settings.python_load) as load:
        child, port = relay.start(load.ports, core=relay_core, bound=BOUND + 30)
        with child:
            # Draining towards a consumer that never reads would take the relay's whole bound.
            child.gentle = not traffic.stall
            idle, _ = resident(child.pid)
            switches = context_switches(child.pid)
            load.begin(port, child.pid)
            try:
                result = load.result(*pair)
                _, peak = resident(child.pid)
                switches = context_switches(child.pid) - switches
                if relay.tells:
                    accounts = _accounts(child)
            except (BenchError, OSError) as error:
                raise child.failure(f"{named.workload}: {error}") from error
    figures = _figures(result, traffic) | {"idle_mib": idle / 2**20, "peak_mib": peak / 2**20}
    figures["switches_per_s"] = switches / max(result["elapsed"], 1e-9)
    if accounts:
        figures["unaccounted"] = unaccounted(result, accounts)
    detail = {**result, "accounts": accounts} if accounts else result
    return replace(named, intact=result["intact"], figures=figures, detail=detail)


def _ceiling(name: str, traffic: Traffic, settings: Settings) -> Run:
    """Without a relay: the load process writes each message once, to a consumer of its own."""
    relay_core, load_core = cores()
    traffic = replace(traffic, consumers=1, stall=0, quiet=0)
    with LoadProcess(traffic, "--ceiling", core=load_core, bound=BOUND, python=settings.python_load) as load:
        result = load.result(relay_core, load_core)
    figures = _figures(result, traffic)
    return Run(name, CEILING, 0, result["intact"], figures, {**result, "compiled": load.compiled})


def _figures(result: dict[str, Any], traffic: Traffic) -> dict[str, float]:
    """
    What a table shows of one run.

    `others` is what other programs took of the relay's or of the load's core, whichever is more.
    """
    elapsed = max(result["elapsed"], 1e-9)
    reading = [consumer for consumer in result["consumers"] if not consumer["stalled"]]
    deliveries = max(1, sum(consumer["received"] for consumer in reading))
    relay, load = result["relay_cpu"] / elapsed, result["generator_cpu"] / elapsed
    relay_core, load_core = result["relay_core_busy"] / elapsed, result["load_core_busy"] / elapsed
    # The last one may stall, and counts neither where it does nor where it does not.
    healthy = reading[:3]
    figures = {
        "per_s": deliveries / len(reading) / elapsed,
        "cpu_us": result["relay_cpu"] / deliveries * 1e6,
        "relay_busy": relay,
        "load_busy": load,
        "others": max(0.0, relay_core - relay, load_core - load),
        "relay_core": max(relay, relay_core),
        "load_core": max(load, load_core),
        "finished_s": max(consumer["finished"] for consumer in healthy),
    }
    for name, value in (result["latency_us"] or {}).items() if traffic.rate else ():
        figures[f"latency_{name}_us"] = value
    return figures


def _by_limits(run: Run, workload: Memory) -> Run:
    above = (run.figures["peak_mib"] - run.figures["idle_mib"]) * 2**20
    limits = {
        "of_stalled_limit": above / workload.buffer,
        "of_all_limits": above / (workload.buffer * workload.traffic.consumers),
    }
    return replace(run, figures=run.figures | limits)


def _accounts(child: Child) -> dict[str, dict[str, Any]]:
    """Ask a relay that tells what became of all messages, consumer by consumer, in the order of its ports."""
    child.signal(signal.SIGUSR1)
    while True:
        said = json.loads(child.line())
        if said["event"] == "status":
            consumers: dict[str, dict[str, Any]] = said["consumers"]
            return consumers


def unaccounted(result: dict[str, Any], accounts: dict[str, dict[str, Any]]) -> float:
    """
    Count the messages of which the relay says something else than the consumers do.

    All that was sent was meant for each consumer. What it says was delivered is what came, and the rest is
    what it says gave way: nothing waits any more.
    """
    sent = result["sent"]
    return float(
        sum(
            abs(told["accepted"] - sent)
            + abs(told["delivered"] - got["received"])
            + abs(told["dropped"] - (sent - got["received"]))
            + sum(told[name] for name in ("failed", "cancelled", "pending"))
            + sum(got[name] for name in ("doubled", "reordered", "corrupt", "torn"))
            for told, got in zip(accounts.values(), result["consumers"], strict=True)
        )
    )
