"""`make bench`: measures the workloads, and says what was reached. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a directory (`python tests/bench`), its parent is where the package is found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import machine
from bench.process import BenchError
from bench.report import faults, markdown
from bench.runner import run_all
from bench.runs import Run, Settings, read_file
from bench.summary import head, missed, summary
from bench.verdicts import judge_all
from bench.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if a floor was missed, a message lost or a run could not be made."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    settings = Settings(options.repetitions, options.seconds, options.python_load, tuple(options.only))
    if options.quick:
        settings = settings.smaller()
    runs: list[Run] = []
    failed = ""
    about = machine.describe({})
    try:
        if options.report:
            about, runs = read_file(options.report)
        else:
            _measure(options.workloads or list(WORKLOADS), settings, runs, options.json)
    except BenchError as error:
        failed = str(error)
    verdicts = judge_all(runs)
    print(head(about), markdown(runs), "### What was to be reached\n", summary(verdicts), sep="\n")
    failures = [*missed(verdicts), *faults(runs), *filter(None, [failed])]
    for line in failures:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)} (default: all)"
    )
    parser.add_argument("--repetitions", type=int, help="instead of those of each workload")
    parser.add_argument(
        "--seconds", type=float, help="of sending in each run, instead of those of each workload"
    )
    parser.add_argument("--only", action="append", default=[], help="only this contestant; may be repeated")
    parser.add_argument("--quick", action="store_true", help="two short repetitions: a look, not a figure")
    parser.add_argument(
        "--python-load", action="store_true", help="use the load generator without a compiler"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every run as a line of JSON")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="measure nothing; show what --json wrote into this file"
    )
    return parser


def _measure(names: Sequence[str], settings: Settings, runs: list[Run], file: Path | None) -> None:
    for run in run_all(names, settings):
        runs.append(run)
        shown = " ".join(f"{name}={value:.4g}" for name, value in run.figures.items())
        print(
            f"{run.workload:18} {run.contestant:15} #{run.repetition} {run.skipped or shown}",
            file=sys.stderr,
            flush=True,
        )
        if file is not None:
            with file.open("a") as lines:
                lines.write(run.json() + "\n")


if __name__ == "__main__":
    sys.exit(main())
