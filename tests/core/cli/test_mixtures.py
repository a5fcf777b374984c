"""Messages that would be mixed with JSON."""

from pathlib import Path

import pytest

from producer_pool.cli.mixtures import mixtures
from producer_pool.discovery.config import Settings


def test_option() -> None:
    """Both are named, with what to do."""
    settings = Settings.read({}, to=["b=STDOUT:?framing=nul", "c=null:"], flags={"json": "yes"})

    assert list(mixtures(settings)) == [
        "--to: STDOUT:?framing=nul is where JSON is written, too (--json): nobody could tell it from "
        "messages; send to another address, or write no JSON"
    ]


def test_variables() -> None:
    """They are named as they were written."""
    settings = Settings.read({"PRODUCER_B": "stdout:", "PRODUCER_POOL_JSON": "yes"})
    (text,) = mixtures(settings)

    assert text.startswith("PRODUCER_B: stdout: is where JSON is written, too (PRODUCER_POOL_JSON): ")


def test_file(tmp_path: Path) -> None:
    """So are its keys."""
    file = tmp_path / "pool.toml"
    file.write_text('[pool]\njson = true\n[producers.b]\nurl = "stdout:"\n')
    (text,) = mixtures(Settings.read({}, flags={"config": str(file)}))

    assert text.startswith(f"{file}: [producers.b]: stdout: is where JSON is written, too ({file}: ")


@pytest.mark.parametrize("way", ["all", "one"])
def test_dead_letters(way: str) -> None:
    """They are messages, too."""
    to = "null:" if way == "all" else "null:?dead-letters=stdout:"
    flags = {"json": "yes", "dead-letters": "stdout:" if way == "all" else None}
    (text,) = mixtures(Settings.read({}, to=[to], flags=flags))

    assert text.startswith("--dead-letters: stdout: is" if way == "all" else "--to: dead-letters: stdout: is")


@pytest.mark.parametrize(
    "to, json", [("stdout:", None), ("stdout:", "no"), ("null:", "yes"), ("null:?dead-letters=stdout", "yes")]
)
def test_nothing_is_mixed(to: str, json: str | None) -> None:
    """One of the two alone is fine, and a folder may have any name."""
    assert list(mixtures(Settings.read({}, to=[to], flags={"json": json}))) == []
