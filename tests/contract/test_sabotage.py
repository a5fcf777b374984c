"""The runner of the sabotage table tells what a test notices from what it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.sabotage import Sabotage, Verdict, report, try_all
from support.tree import ROOT

PRODUCT = """
def double(number):
    return 2 * number
"""

TESTS = """
from tiny import double

def test_double():
    assert double(2) == 4

def test_sloppy():
    assert double(0) == 0

def test_wrong():
    assert double(1) == 3
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in (
        ("core/src/tiny/__init__.py", PRODUCT),
        ("tests/scenarios/test_tiny.py", TESTS),
        ("pyproject.toml", "[tool.pytest.ini_options]\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def sabotage(old: str, new: str, test: str = "test_double") -> Sabotage:
    return Sabotage("a change", "core/src/tiny/__init__.py", old, new, f"test_tiny.py::{test}")


@pytest.mark.timeout(180)
def test_each_verdict(root: Path) -> None:
    """What changes nothing survives, and so does what the test is too sloppy for; an error is no red."""
    cases = {
        sabotage("2 * number", "3 * number"): Verdict.NOTICED,
        sabotage("2 * number", "number * 2"): Verdict.SURVIVED,
        sabotage("2 * number", "3 * number", "test_sloppy"): Verdict.SURVIVED,
        sabotage("2 * numbers", "3 * number"): Verdict.STALE,
        sabotage("number", "3"): Verdict.STALE,
        sabotage("2 * number", "2 *"): Verdict.CLUMSY,
        sabotage("2 * number", "2 * nummer"): Verdict.CLUMSY,
        sabotage("2 * number", "3 * number", "test_wrong"): Verdict.BROKEN,
        sabotage("2 * number", "3 * number", "test_that_is_not_there"): Verdict.BROKEN,
    }
    findings = try_all(list(cases), root)

    assert [finding.verdict for finding in findings] == list(cases.values())
    assert "SURVIVED" in report(findings)
    assert (root / "core/src/tiny/__init__.py").read_text() == PRODUCT


def test_table_fits_the_sources() -> None:
    """A change to a line that the table speaks of shows at once, and not first when the table is run."""
    command = [sys.executable, "tests/contract/sabotage", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout


def test_words_that_no_sabotage_speaks_of() -> None:
    """The command chooses by words, and says so when there is nothing to choose."""
    command = [sys.executable, "tests/contract/sabotage", "no sabotage speaks of this"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 2
    assert "no sabotage speaks of" in ended.stderr
