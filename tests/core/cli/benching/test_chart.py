"""The picture of latencies."""

import re
from xml.etree import ElementTree

from producer_pool.cli.benching.chart import chart, drawn
from producer_pool.cli.benching.histogram import Histogram
from support.measured import enter, outcome, seen

SVG = "{http://www.w3.org/2000/svg}"


def points(picture: str) -> list[list[tuple[float, float]]]:
    """Return the points of each line in *picture*."""
    tree = ElementTree.fromstring(picture)
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in tree.iter(f"{SVG}polyline")
    ]


def test_lines_rise_to_the_right() -> None:
    """The fewer messages take longer, the further right; the longer, the higher; all within the picture."""
    histogram = Histogram()
    for exponent in range(3, 9):
        histogram.add(10**exponent, 10 ** (8 - exponent))
    (line,) = points(drawn("one", [("a line", histogram, "red", "")]))

    assert line == sorted(line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert all(0 <= x <= 760 and 0 <= y <= 420 for x, y in line)
    assert len(line) > 4


def test_what_is_written_in_it() -> None:
    """Words are escaped, and have colours for readers on light and on dark ground."""
    picture = drawn("<&>", [("'a' & b", Histogram(), "red", "")])
    texts = [text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]

    assert "<&>" in texts
    assert "'a' & b" in texts
    assert "prefers-color-scheme: dark" in picture
    colours = re.findall(r"text \{[^}]*fill: (#\w+)", picture)
    assert len(colours) == len(set(colours)) == 2


def test_each_way_and_load_has_a_line() -> None:
    """What was measured is there, by name; what was not has no line."""
    one = outcome("tcp", "unix", rates=(None, 100.0))
    one.enter(0, 0, seen(), 1)
    one.enter(0, 1, seen(latency=50_000_000), 1)
    one.enter(1, 0, seen(), 1)
    picture = chart(one)

    assert len(points(picture)) == 2
    assert "flat out, tcp" in picture
    assert "flat out, unix" in picture
    assert "at 100/s" not in picture


def test_one_duration_only() -> None:
    """Where all took equally long, there is a picture still."""
    (line,) = points(chart(enter(outcome("tcp"), seen(latency=1_000))))

    assert line
