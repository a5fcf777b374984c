"""`make sabotage`: makes each change of the table to a copy of the sources; its test has to turn red."""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from table import TABLE  # noqa: E402

from support.sabotage import Verdict, report, stale, try_all  # noqa: E402


def main() -> int:
    """Try those that were asked for; 1 if one of them was not noticed."""
    parser = argparse.ArgumentParser(prog="tests/contract/sabotage", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only those that speak of it (default: all)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="only look whether the table fits the sources")
    options = parser.parse_args()
    words = [word.lower() for word in options.words]
    chosen = [one for one in TABLE if not words or any(word in one.what.lower() for word in words)]
    if not chosen:
        parser.error(f"no sabotage speaks of {' or '.join(words)}")
    if options.check:
        findings = stale(chosen, ROOT)
        print(report(findings) or "the table fits the sources")
        return 1 if findings else 0
    began = time.monotonic()
    findings = try_all(chosen, ROOT, jobs=options.jobs)
    print(report(findings))
    noticed = sum(finding.verdict is Verdict.NOTICED for finding in findings)
    print(f"{noticed} of {len(findings)} noticed in {time.monotonic() - began:.0f} s")
    return 0 if noticed == len(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
