"""The bar that shows how far a bench is."""

import pytest

from producer_pool.cli.benching.bar import Bar


def test_bar_grows_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line of a terminal at the most, drawn anew, and gone at the end."""
    with Bar(shown=True) as bar:
        for done in (-1.0, 0.5, 7.0):
            bar.show("flat out" * 20, done)
    *drawn, last = capsys.readouterr().err.split("\r\x1b[K")[1:]

    assert [line.count("#") for line in drawn] == [0, 12, 24]
    assert all(len(line) < 80 for line in drawn)
    assert last == ""


def test_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is not shown, nothing is written."""
    with Bar(shown=False) as bar:
        bar.show("flat out", 0.5)

    assert capsys.readouterr() == ("", "")
