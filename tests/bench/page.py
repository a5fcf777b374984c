"""The figures of the documentation: what the bench wrote as JSON, put between two marks of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.chart import NAMES, chart, panels
from bench.figures import count, micro
from bench.process import BenchError
from bench.report import spread, table
from bench.runs import CEILING, Run
from bench.summary import head, summary
from bench.verdicts import judge_all
from bench.workloads import WORKLOADS, Memory, Through

__all__ = ["CHART_TITLE", "PAGE", "PICTURE", "filled", "parts", "write_docs"]

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "explanation" / "speed.md"
PICTURE = DOCS / "images" / "speed.svg"
CHART_TITLE = "Messages a second that reach every consumer"


def write_docs(machine: Mapping[str, str], runs: Sequence[Run]) -> None:
    """Put the figures into the page, and draw its chart."""
    PAGE.write_text(filled(PAGE.read_text(), parts(machine, runs)))
    PICTURE.write_text(chart(panels(runs), CHART_TITLE))


def parts(machine: Mapping[str, str], runs: Sequence[Run]) -> dict[str, str]:
    """What stands between the marks of each name."""
    return {"machine": head(machine), "floors": summary(judge_all(runs)), "relays": _relays(runs)}


def filled(page: str, texts: Mapping[str, str]) -> str:
    """
    Return *page* with the *texts* between its marks, which are comments: ``bench: NAME`` and ``bench: end``.

    Raises:
        BenchError: a mark is missing.
    """
    for name, text in texts.items():
        before, mark, rest = page.partition(f"<!-- bench: {name} -->\n")
        _, end, after = rest.partition("<!-- bench: end -->")
        if not end:
            raise BenchError(f"the page has no <!-- bench: {name} --> with a <!-- bench: end -->")
        page = f"{before}{mark}\n{text}\n{end}{after}"
    return page


def _relays(runs: Sequence[Run]) -> str:
    """What each relay forwarded, and what it cost."""
    rows = []
    for name, workload in WORKLOADS.items():
        if not isinstance(workload, Through) or isinstance(workload, Memory):
            continue
        found: dict[str, list[Run]] = {}
        for run in runs:
            if run.workload == name and run.figures and run.intact and run.contestant != CEILING:
                found.setdefault(run.contestant, []).append(run)
        title = workload.title
        for contestant, own in found.items():
            shown = NAMES.get(contestant, contestant)
            rows.append([title, shown, spread(own, "per_s", count), spread(own, "cpu_us", micro)])
            title = ""
    return table(["workload", "relay", "messages/s", "CPU µs per delivery"], rows)
