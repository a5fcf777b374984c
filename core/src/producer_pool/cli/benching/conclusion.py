"""How a bench ends: a table or an object, a picture if there should be one, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from producer_pool import __version__
from producer_pool.cli.benching.chart import chart
from producer_pool.cli.benching.elsewhere import Elsewhere
from producer_pool.cli.benching.figures import Outcome
from producer_pool.cli.benching.machine import described
from producer_pool.cli.benching.tables import bars, heading, table, verdicts
from producer_pool.cli.exits import DONE, FAILED, complain
from producer_pool.cli.output import print_json, print_table, printable

__all__ = ["SCHEMA", "as_json", "report"]

SCHEMA: Final = 1
"""The version of the object: it changes if anything in it goes, or means something else."""


def report(outcome: Outcome, *, interrupted: bool, in_json: bool, svg: Path | None) -> int:
    """Print what was measured, and return the exit code."""
    if in_json:
        print_json(as_json(outcome, interrupted=interrupted))
    elif outcome.measured:
        _print(outcome)
    drawn = True
    if svg is not None and outcome.measured:
        try:
            svg.write_text(chart(outcome), encoding="utf-8")
        except OSError as error:
            complain(f"cannot write {svg}: {error.strerror}")
            drawn = False
    if interrupted:
        complain(
            "interrupted; "
            + ("this is what there was so far" if outcome.measured else "nothing was measured yet")
        )
    return DONE if outcome.intact and drawn and not interrupted else FAILED


def _print(outcome: Outcome) -> None:
    print("\n".join(heading(outcome.plan)))
    for number, sides in outcome.measured:
        print()
        print_table(*table(outcome, number))
        for side, figures in enumerate(sides):
            way = f", {outcome.plan.ways[side].text}" if len(sides) > 1 else ""
            print(f"\nlatency {outcome.plan.loads[number].name}{printable(way)}")
            print("\n".join(bars(figures.latencies)))
    print()
    print("\n".join(verdicts(outcome)), flush=True)


def as_json(outcome: Outcome, *, interrupted: bool) -> dict[str, Any]:
    """Return all of it as plain values."""
    plan = outcome.plan
    there = next((way for way in plan.ways if isinstance(way, Elsewhere)), None)
    loads = []
    for number, sides in outcome.measured:
        load = plan.loads[number]
        ratios = {name: spread.as_json() for name, spread in outcome.ratios(number).items()}
        loads.append(
            {
                "load": load.name,
                "rate": load.rate,
                "batch": load.unit,
                "ways": [
                    {"over": way.text, **figures.as_json()}
                    for way, figures in zip(plan.ways, sides, strict=True)
                ],
                "ratios": ratios or None,
            }
        )
    return {
        "schema": SCHEMA,
        "version": __version__,
        "machine": described(),
        "settings": {
            "over": plan.ways[0].text if there is None else None,
            "to": there.text if there is not None else None,
            "listen": there.places if there is not None else None,
            "against": plan.ways[1].text if len(plan.ways) > 1 else None,
            "from": plan.into.text if plan.into is not None else None,
            "consumers": plan.consumers,
            "producers": plan.shape.producers,
            "size": plan.shape.size,
            "under_way": plan.window,
            "spool": str(plan.spool) if plan.spool is not None else None,
            "spool_sync": plan.spool_sync,
            "seconds": plan.seconds,
        },
        "interrupted": interrupted,
        "intact": outcome.intact and bool(outcome.measured),
        "loads": loads,
    }
