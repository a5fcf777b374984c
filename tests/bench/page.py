"""The figures of the documentation: what the bench wrote as JSON, put between two marks of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.chart import called, chart, panels
from bench.figures import count, micro
from bench.process import BenchError
from bench.report import spread, table, within
from bench.runs import CEILING, Run
from bench.summary import head, measured, summary
from bench.verdicts import Status, Verdict, judge_all
from bench.workloads import CONTROLS, PEERS, WORKLOADS, Memory, Through

__all__ = ["CHART_TITLE", "PAGE", "PICTURE", "filled", "parts", "write_docs"]

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "explanation" / "speed.md"
PICTURE = DOCS / "images" / "speed.svg"
FOREIGN = PEERS | set(CONTROLS)
MORE = 1.05
"""From here on one forwards more than another."""
CHART_TITLE = "Messages a second that reach every consumer"


def write_docs(machine: Mapping[str, str], runs: Sequence[Run]) -> None:
    """Put the figures into the page, and draw its chart."""
    PAGE.write_text(filled(PAGE.read_text(), parts(machine, runs)))
    PICTURE.write_text(chart(panels(runs), CHART_TITLE))


def parts(machine: Mapping[str, str], runs: Sequence[Run]) -> dict[str, str]:
    """What stands between the marks of each name."""
    verdicts = judge_all(runs)
    return {
        "machine": head(machine),
        "floors": summary(verdicts),
        "losses": _losses(verdicts, runs),
        "relays": _relays(runs),
    }


def filled(page: str, texts: Mapping[str, str]) -> str:
    """
    Return *page* with the *texts* between its marks, which are link definitions that nobody sees.

    Raises:
        BenchError: a mark is missing.
    """
    for name, text in texts.items():
        begin, end = f"[bench-{name}]: #\n", f"[bench-{name}-end]: #\n"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise BenchError(f"the page has no {begin.strip()} with a {end.strip()} after it")
        page = f"{before}{begin}\n{text.strip()}\n\n{end}{after}"
    return page


def _losses(verdicts: Sequence[Verdict], runs: Sequence[Run]) -> str:
    """Where a floor or a goal was not reached, and who is faster."""
    lines = [
        f"* {WORKLOADS[row.workload].title}: {row.words} is {measured(verdict)},"
        f" and the {bound} {row.direction.value} {row.text(value)}.\n"
        for verdict in verdicts
        for row in [verdict.row]
        for bound, value in [("floor", row.floor) if verdict.status is Status.MISSED else ("goal", row.goal)]
        if value is not None and verdict.status in (Status.MISSED, Status.MET)
    ]
    for name, own in _forwarded(runs).items():
        ours, *others = own.items()
        for contestant, theirs in others:
            ratio = within(theirs, ours[1], "per_s")
            # On schedule, all forward the same.
            if contestant in FOREIGN and ratio and median(ratio) > MORE:
                shown = called(theirs[0])
                lines.append(
                    f"* {WORKLOADS[name].title}: {shown} forwards {median(ratio):.2f} times as many.\n"
                )
    return "".join(lines) or "Nowhere, in these figures.\n"


def _forwarded(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
    """Runs of relays flat out or on schedule, by workload and contestant."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        workload = WORKLOADS.get(run.workload)
        through = isinstance(workload, Through) and not isinstance(workload, Memory)
        if through and run.figures and run.intact and run.contestant != CEILING:
            found.setdefault(run.workload, {}).setdefault(run.contestant, []).append(run)
    return found


def _relays(runs: Sequence[Run]) -> str:
    """What each relay forwarded, and what it cost."""
    rows = []
    for name, own in _forwarded(runs).items():
        title = WORKLOADS[name].title
        for made in own.values():
            rows.append([title, called(made[0]), spread(made, "per_s", count), spread(made, "cpu_us", micro)])
            title = ""
    return table(["workload", "relay", "messages/s", "CPU µs per delivery"], rows)
