"""How a bench ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_pool.cli.benching.conclusion import as_json, report
from producer_pool.cli.benching.figures import Outcome
from support.measured import enter, outcome, seen
from support.tree import ROOT


def ended(
    outcome: Outcome, *, interrupted: bool = False, in_json: bool = False, svg: Path | None = None
) -> int:
    """Report, and return the exit code."""
    return report(outcome, interrupted=interrupted, in_json=in_json, svg=svg)


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """A table, bars, what it means, and exit code 0."""
    assert ended(enter(outcome("tcp"), seen())) == 0

    text, talk = capsys.readouterr()
    assert text.startswith("tcp: 2 consumers")
    assert "messages/s" in text
    assert "###" in text
    assert "each verified" in text
    assert talk == ""


def test_something_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is said, and is the exit code."""
    assert ended(enter(outcome("tcp"), seen(lost=1))) == 1
    assert "NOT AS IT SHOULD BE" in capsys.readouterr().out


@pytest.mark.parametrize(
    "measured,text", [(True, "this is what there was"), (False, "nothing was measured yet")]
)
def test_interrupted(measured: bool, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What there was is printed, and stderr says that there would have been more."""
    one = enter(outcome("tcp"), seen()) if measured else outcome("tcp")

    assert ended(one, interrupted=True) == 1
    out, err = capsys.readouterr()
    assert ("messages/s" in out) is measured
    assert f"producer-pool: interrupted; {text}" in err


def test_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json it is one object in one line, also if nothing was measured."""
    one = outcome("tcp", "unix", rates=(None, 100.0))
    for side in (0, 1):
        one.enter(0, side, seen(1_000), 2048)
    assert ended(one, in_json=True) == 0

    value = json.loads(capsys.readouterr().out)
    (load,) = value["loads"]
    assert (value["schema"], value["intact"], value["interrupted"]) == (1, True, False)
    assert (value["settings"]["over"], value["settings"]["against"]) == ("tcp", "unix")
    assert (load["load"], load["rate"], load["batch"]) == ("flat out", None, 5)
    assert [way["over"] for way in load["ways"]] == ["tcp", "unix"]
    assert load["ways"][0]["messages_per_s"] == {"median": 1000.0, "least": 1000.0, "most": 1000.0}
    assert load["ways"][0]["bytes_per_s"] == 200_000
    assert load["ways"][0]["latency_us"]["p99.9"] == 1.0
    assert sum(count for _, count in load["ways"][0]["histogram_us"]) == load["ways"][0]["deliveries"]
    assert load["ratios"]["messages_per_s"]["holds"] == "exactly"

    assert ended(outcome("tcp"), interrupted=True, in_json=True) == 1
    value = json.loads(capsys.readouterr().out)
    assert (value["intact"], value["interrupted"], value["loads"]) == (False, True, [])


def keys(value: Any) -> Iterator[str]:
    """Yield the names of all fields in a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_fields_are_described() -> None:
    """Each field has its place in the reference."""
    one = outcome("tcp", "unix", rates=(None, 100.0))
    for load in (0, 1):
        for side in (0, 1):
            one.enter(load, side, seen(100), 2048)
    page = (ROOT / "docs" / "reference" / "bench.md").read_text()

    assert {name for name in keys(as_json(one, interrupted=False)) if f"`{name}`" not in page} == set()


def test_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to its file; where it cannot, that is said, and the rest is printed."""
    one = enter(outcome("tcp"), seen())
    assert ended(one, svg=tmp_path / "here.svg") == 0
    assert (tmp_path / "here.svg").read_text().startswith("<svg ")

    assert ended(one, svg=tmp_path / "no" / "where.svg") == 1
    out, err = capsys.readouterr()
    assert "messages/s" in out
    assert "where.svg: No such file or directory" in err
