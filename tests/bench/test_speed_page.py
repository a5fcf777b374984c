"""The chart and the page with figures, and what is kept of runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.chart import Bar, Panel, chart, panels
from bench.page import PAGE, filled, parts
from bench.process import BenchError
from bench.runs import CEILING, Run, read_file, read_runs

SVG = "{http://www.w3.org/2000/svg}"


def run(contestant: str, repetition: int, rate: float, *, intact: bool = True) -> Run:
    return Run("tcp", contestant, repetition, intact, {"per_s": rate, "cpu_us": 0.5})


RUNS = [
    Run("tcp", CEILING, 0, True, {"per_s": 9e6}, {"compiled": True}),
    *(run("product", number, rate) for number, rate in enumerate((4e6, 5e6, 6e6))),
    *(run("nats", number, rate, intact=number > 0) for number, rate in enumerate((8e6, 1e6, 1e6))),
    Run("tcp", "rsyslog", 0, True, {}, skipped="rsyslogd is not installed"),
]


# -- the chart -------------------------------------------------------------------------------------


def test_bars() -> None:
    """One for each relay that was measured, the fastest first; no run counts that lost messages."""
    (panel,) = panels(RUNS)

    assert panel.bars == [Bar("Producer Pool", 5e6, 4e6, 6e6), Bar("nats-server", 1e6, 1e6, 1e6)]


def test_chart_is_to_scale() -> None:
    """The longest value has all the room, and the others their share of it."""
    drawn = ElementTree.fromstring(chart([Panel("p", [Bar("a", 8, 8, 8), Bar("b", 2, 2, 2)])], "t"))

    widths = [
        float(bar.get("width", 0)) - 1 for bar in drawn.iter(f"{SVG}rect") if bar.get("class") == "theirs"
    ]

    assert widths[0] == pytest.approx(4 * widths[1])


def test_chart_can_be_read_aloud() -> None:
    """It has a title, and a description with all values; names from outside are text, and no markup."""
    text = chart([Panel("lines <64 KiB>", [Bar("a & b", 1500, 1000, 2000)])], "Messages")

    drawn = ElementTree.fromstring(text)
    assert drawn.get("role") == "img"
    assert drawn.get("aria-labelledby") == "title told"
    assert [drawn.findtext(f"{SVG}title"), drawn.findtext(f"{SVG}desc")] == [
        "Messages",
        "lines <64 KiB>: a & b 1.5 k (1 k to 2 k)",
    ]


def test_chart_in_the_dark() -> None:
    """Every colour that it uses has another one for dark pages."""
    style = chart([], "t").partition("<style>")[2].partition("</style>")[0]
    light, _, dark = style.partition("prefers-color-scheme: dark")

    for name in (".paper", "text", ".small", ".ours", ".theirs", ".spread"):
        assert f"{name} {{" in light
        assert f"{name} {{" in dark


# -- the page --------------------------------------------------------------------------------------


def test_page_is_filled_between_its_marks() -> None:
    """What stood there goes, what stands around stays; and once more is the same."""
    page = "before\n[bench-floors]: #\nold\n[bench-floors-end]: #\nafter\n"

    new = filled(page, {"floors": "| new |"})

    assert new == "before\n[bench-floors]: #\n\n| new |\n\n[bench-floors-end]: #\nafter\n"
    assert filled(new, {"floors": "| new |"}) == new


@pytest.mark.parametrize("page", ["", "[bench-floors]: #\n", "[bench-floors-end]: #\n"])
def test_page_without_marks(page: str) -> None:
    """It is refused, and not cut."""
    with pytest.raises(BenchError, match=r"the page has no \[bench-floors\]: #"):
        filled(page, {"floors": ""})


def test_page_of_the_documentation() -> None:
    """It has a place for every part."""
    assert filled(PAGE.read_text(), parts({"CPU": "a fast one"}, RUNS)).count("a fast one") == 1


# -- what is kept ----------------------------------------------------------------------------------


def test_runs_are_read_back(tmp_path: Path) -> None:
    """What --json wrote is what was measured; of several sessions in a file the last one counts."""
    file = tmp_path / "runs.jsonl"
    lines = [{"machine": {"CPU": "old"}}, asdict(RUNS[0]), {"machine": {"CPU": "new"}}, *map(asdict, RUNS)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert read_file(file) == ({"CPU": "new"}, RUNS)


@pytest.mark.parametrize("line", ["no json", "[]", '{"workload": "tcp"}'])
def test_file_without_runs(line: str, tmp_path: Path) -> None:
    """It is named."""
    file = tmp_path / "runs.jsonl"
    file.write_text(line)

    with pytest.raises(BenchError, match=r"runs\.jsonl: no runs can be read from it"):
        read_file(file)


def test_no_runs() -> None:
    """An empty file has none, and is no fault."""
    assert read_runs([]) == ({}, [])
