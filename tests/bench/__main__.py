"""`make bench`: measures the workloads, and says what was reached. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Run as a directory (`python tests/bench`), its parent is where the package is found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.chart import chart, panels
from bench.ci import judge_in_ci
from bench.machine import describe
from bench.page import CHART_TITLE, write_docs
from bench.peers.supplies import set_up
from bench.process import BenchError
from bench.report import faults, markdown
from bench.runner import run_all
from bench.runs import Run, Settings, read_file
from bench.summary import head, missed, summary
from bench.verdicts import Verdict, judge_all
from bench.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if a floor was missed, a message lost, or a run could not be made."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if options.set_up:
        return _set_up()
    began = time.monotonic()
    try:
        measured = _runs(options)
        print(f"bench: took {(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
        return _report(options, *measured)
    except BenchError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def _runs(options: argparse.Namespace) -> tuple[dict[str, str], list[Run], list[Verdict]]:
    """Return the machine, the runs on it, and the verdicts on them."""
    if options.report:
        machine, runs = read_file(options.report)
        return machine, runs, judge_all(runs)
    if not options.ci:
        _set_up()
    machine = describe()
    note = Notes(options.json)
    note.line({"machine": machine})
    if options.ci:
        runs, verdicts = judge_in_ci(note.run)
        return machine, runs, verdicts
    settings = Settings(options.repetitions, options.seconds, options.python_load, tuple(options.only))
    if options.quick:
        settings = settings.smaller()
    runs = []
    for run in run_all(options.workloads or list(WORKLOADS), settings):
        note.run(run)
        runs.append(run)
    return machine, runs, judge_all(runs)


def _set_up() -> int:
    """Fetch the peers that are missing; 1 if one could not be had, which is told."""
    troubles = set_up()
    for trouble in troubles:
        print(f"bench: {trouble}", file=sys.stderr)
    return 1 if troubles else 0


def _report(
    options: argparse.Namespace, machine: dict[str, str], runs: list[Run], verdicts: list[Verdict]
) -> int:
    """Show it where it is wanted; 1 if something is not as it should be."""
    text = "\n".join((head(machine), markdown(runs), "### What was to be reached\n", summary(verdicts)))
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.svg:
        options.svg.write_text(chart(panels(runs), CHART_TITLE))
    if options.docs:
        write_docs(machine, runs)
    failures = [*missed(verdicts), *faults(runs)]
    for line in failures:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failures else 0


class Notes:
    """Tells each run on standard error as it ends, and keeps it as a line of JSON in *file*, if any."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def run(self, run: Run) -> None:
        shown = " ".join(f"{name}={value:.4g}" for name, value in run.figures.items())
        said = f"{run.workload:18} {run.contestant:17} #{run.repetition} {run.skipped or shown}"
        print(said, file=sys.stderr, flush=True)
        self.line(asdict(run))

    def line(self, value: Mapping[str, Any]) -> None:
        if self._file is not None:
            with self._file.open("a") as lines:
                lines.write(json.dumps(value) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    names = f"{', '.join(WORKLOADS)} (default: all)"
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=names)
    parser.add_argument("--set-up", action="store_true", help="fetch the peers, and measure nothing")
    parser.add_argument("--repetitions", type=int, help="instead of those of each workload")
    parser.add_argument(
        "--seconds", type=float, help="of sending in each run, instead of those of each workload"
    )
    parser.add_argument("--only", action="append", default=[], help="only this contestant; may be repeated")
    parser.add_argument("--quick", action="store_true", help="two short repetitions: a look, not a figure")
    parser.add_argument(
        "--ci", action="store_true", help="two minutes without peers, judged by looser floors"
    )
    parser.add_argument(
        "--python-load", action="store_true", help="use the load generator without a compiler"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every run as a line of JSON")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing; tell what --json wrote")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables into a file, too")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a chart of msg/s into a file")
    parser.add_argument("--docs", action="store_true", help="put the figures into the page about speed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
