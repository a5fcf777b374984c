"""The runbook has an entry for all that an operator can see, and for nothing else."""

import errno
import os
import re
from pathlib import Path

import pytest

from producer_pool.model import errors
from support.said import plain, said, texts
from support.tree import ROOT, Module

RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"

TERM = re.compile(r"^`(.+)`$", re.MULTILINE)
"""An entry begins with what is seen, in a line of its own; several may share an explanation."""


def entries() -> dict[str, str]:
    """Return what is seen, without its values, and what the runbook says of it."""
    found = {}
    for block in re.split(r"\n\n", RUNBOOK.read_text()):
        lines = block.splitlines()
        terms = [match[1] for line in lines if (match := TERM.match(line))]
        explanation = "\n".join(line for line in lines if not TERM.match(line))
        found.update(dict.fromkeys(map(plain, terms), explanation))
    return found


def test_warnings_and_errors_in_the_log_have_entries() -> None:
    """Whatever may stand in the log as a warning or an error can be looked up."""
    known = entries()
    missing = [f"{text}   ({module})" for text, module in said().items() if plain(text) not in known]

    assert missing == []


def test_classes_of_errors_have_entries() -> None:
    """So does every error by the name of its class, which is what a program or a dead letter shows."""
    known = entries()

    assert [name for name in errors.__all__ if name not in known] == []


def test_entries_are_of_something() -> None:
    """What is not said any more has no entry."""
    possible = {*map(plain, said()), *errors.__all__}

    assert [term for term in entries() if term not in possible] == []


def test_entries_name_the_next_step() -> None:
    """Each says why it is seen, and what to do: a cause and a next step, or that nothing has to be done."""
    short = [term for term, explanation in entries().items() if explanation.count(".") < 2]

    assert short == []


def test_reasons_are_given() -> None:
    """Each reason in the table stands in the source, or comes from the system."""
    table = RUNBOOK.read_text().partition("| reason |")[2].partition("\n\n")[0]
    reasons = [term for row in table.splitlines()[2:] for term in re.findall("`([^`]+)`", row.split("|")[1])]
    pieces = [piece.strip(" ;:()") for reason in reasons for piece in re.split("…|NAME|[;:] ", reason)]
    sources = "".join(
        path.read_text() for folder in ("core", "plugins") for path in ROOT.glob(f"{folder}/**/*.py")
    )
    system = {os.strerror(number).lower() for number in errno.errorcode}

    assert len(reasons) > 10
    assert [piece for piece in pieces if piece not in sources and piece not in system] == []


@pytest.mark.parametrize(
    "source,text",
    [
        ("log.warning('%s: down: %s', name, why)", "…: down: …"),
        ("_log.log(level, 'it is %.3g s late', late)", "it is … s late"),
        ("self._say('cause', f'{name}: closed' if x else 'open')", "open"),
        ("self._evict(connection, f'nothing within {x} s')", "nothing within … s"),
    ],
)
def test_what_is_said_is_found(source: str, text: str, tmp_path: Path) -> None:
    """The check sees each of the ways in which the product logs."""
    path = tmp_path / "module.py"
    path.write_text(source)

    assert text in list(texts(Module(path, "module")))
