"""`make bench`: measures the workloads and prints tables. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Run as a directory (`python tests/bench`), its parent is where the package is found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.process import BenchError
from bench.relays import RELAYS
from bench.report import faults, markdown
from bench.runner import Run, Settings, run_all, smaller
from bench.workloads import WORKLOADS


def main() -> int:
    """Measure what was asked for; 1 if a message was lost or a run could not be made."""
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(WORKLOADS)} (default: all)"
    )
    parser.add_argument("--repetitions", type=int, default=Settings.repetitions)
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="of sending, in each run")
    parser.add_argument("--only", action="append", choices=list(RELAYS), default=[], help="only these relays")
    parser.add_argument("--quick", action="store_true", help="two short repetitions: a look, not a figure")
    parser.add_argument(
        "--python-load", action="store_true", help="use the load generator without a compiler"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every run as a line of JSON")
    options = parser.parse_args()
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    settings = Settings(options.repetitions, options.seconds, options.python_load, tuple(options.only))
    if options.quick:
        settings = smaller(settings)
    runs: list[Run] = []
    failed = ""
    try:
        for run in run_all(
            options.workloads or list(WORKLOADS), smaller(settings) if options.quick else settings
        ):
            runs.append(run)
            _note(run, options.json)
    except BenchError as error:
        failed = str(error)
    print(markdown(runs))
    for line in [*faults(runs), failed]:
        if line:
            print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed or faults(runs) else 0


def _note(run: Run, file: Path | None) -> None:
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
