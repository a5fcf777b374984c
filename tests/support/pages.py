"""The pages of the documentation, and what stands on them: fenced blocks, and notes for whoever runs them."""
# Rule: nothing vanishes. A block of a language that nobody runs, and a note that nobody knows, are errors.

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.tree import ROOT, distributions, speedups

__all__ = ["EXAMPLES", "NOT_RUN", "PAGES", "Item", "Kind", "items", "pages"]

DOCS: Final = ROOT / "docs"
EXAMPLES: Final = DOCS / "examples"

NOT_RUN: Final = {
    "installs packages": "the tests change nothing outside of their own folders",
    "needs root": "it changes the system",
    "runs the tests": "this is one of them",
    "sets up the tree": "make test has done that already",
}
"""Why a block is not run: the only reasons that there are, and what they come from."""

RUN: Final = ("python", "console", "toml", "ini", "json")
"""Languages of blocks that are run, or parsed by whom they are for."""

_DIRECTIVES: Final = ("{eval-rst}", "{generated} ", "{literalinclude} ../examples/", "{toctree}")
_BLOCK_NOTES: Final = ("not run", "environment", "file", "output", "appears", "stays")
_ACTIONS: Final = ("ctrl-c", "kill")

_TOKEN: Final = re.compile(
    r"^[ ]*<!--(?P<note>.*?)-->[ ]*$"
    r"|^(?P<indent>[ ]*)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


class Kind:
    """What is done with a block."""

    RUN = "run"
    """It is run, or parsed by whom it is for."""
    COMPARED = "compared"
    """It is what something else printed."""
    SHOWN = "shown"
    """A picture, or text that no program wrote."""
    DIRECTIVE = "directive"
    """Sphinx makes it from something that is tested elsewhere."""
    NOT_RUN = "not run"
    """It cannot be run here; its note says why."""
    ACTION = "action"
    """No block: something that the reader is told to do."""


@dataclass(frozen=True)
class Item:
    """A block, with the notes before it; or a note that asks for something to be done."""

    page: Path
    start: int
    end: int
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{_shown(self.page)}:{self.line}"

    @property
    def kind(self) -> str:
        """What is done with it; AssertionError: nobody can tell."""
        if not self.language:
            return Kind.ACTION
        if "not run" in self.notes:
            return Kind.NOT_RUN
        if "output" in self.notes or "appears" in self.notes:
            return Kind.COMPARED
        if self.language.startswith(_DIRECTIVES):
            return Kind.DIRECTIVE
        if self.language == "text":
            return Kind.RUN if "file" in self.notes else Kind.SHOWN
        assert self.language in RUN, (
            f"{self}: nobody runs {self.language!r}; one of {', '.join(RUN)}, or text"
        )
        return Kind.RUN


def _shown(page: Path) -> Path:
    return page.relative_to(ROOT) if page.is_relative_to(ROOT) else page


def pages() -> list[Path]:
    """Return every page that people read: the READMEs, the guide for contributors, and docs/."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    readmes = [place / "README.md" for place in (*distributions(), *speedups())]
    built = DOCS / "_build"
    return [*top, *readmes, *sorted(page for page in DOCS.rglob("*.md") if built not in page.parents)]


PAGES: Final = pages()


def items(page: Path, text: str | None = None) -> Iterator[Item]:
    """Yield what stands on *page*, in its order."""
    text = page.read_text() if text is None else text
    notes: dict[str, str] = {}
    since = 0
    for match in _TOKEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        where = f"{_shown(page)}:{line}"
        if notes:
            between = text[since : match.start()]
            assert not between.strip(), f"{where}: no block follows the note {notes}"
        since = match.end()
        if match["note"] is not None:
            key, _, value = (part.strip() for part in match["note"].partition(":"))
            if key in _ACTIONS:
                yield Item(page, match.start(), match.end(), line, "", value, {key: value})
            else:
                assert key in _BLOCK_NOTES, f"{where}: there is no note {key!r}"
                notes[key] = value
        else:
            assert match["language"].strip(), f"{where}: a block says its language; text, if it has none"
            body = textwrap.dedent(match["body"])
            yield Item(page, match.start(), match.end(), line, match["language"].strip(), body, notes)
            notes = {}
    assert not notes, f"{page}: no block follows the note {notes}"
