"""Every block on every page of the documentation is run, compared, or says why not."""

import os
import re
import sys
from codeop import compile_command
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil

from producer_pool.builtin import memory
from producer_pool.discovery.registry import default_registry
from support.pages import NOT_RUN, PAGES, Kind, items
from support.rehearsal import Rehearsal
from support.tree import ROOT

FOREIGN = ("nc", "openssl", "socat")
"""Programs of others that pages use."""


def on_page(page: Path) -> object:
    """Return *page* as a parameter, with the programs of others that it needs."""
    typed = " ".join(
        item.text for item in items(page) if item.kind == Kind.RUN and item.language == "console"
    )
    needed = [program for program in FOREIGN if re.search(rf"(\$|\|) {program} ", typed)]
    # Some have a dozen programs started, others build something, and have it tested by a whole suite.
    marks = [pytest.mark.needs(*needed), pytest.mark.timeout(240)]
    return pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


each_page = pytest.mark.parametrize("page", [on_page(page) for page in PAGES])


@pytest.fixture
def rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    """Return what runs a page, in a folder of its own."""
    for name in list(os.environ):
        if name.startswith("PRODUCER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # What one page registers is for its process, and must not be there on the next page.
    default_registry.cache_clear()
    # And no page sees what tests of this process put into its memory.
    monkeypatch.setattr(memory, "_places", {})
    rehearsal = Rehearsal(tmp_path)
    yield rehearsal
    rehearsal.close()
    default_registry.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.usefixtures("python_handles_interrupts")
@each_page
def test_page_does_what_it_says(page: Path, rehearsal: Rehearsal) -> None:
    """The blocks of a page work one after the other, in one interpreter, and print what it shows."""
    document = Sybil([rehearsal.regions]).parse(page)

    for example in document.examples():
        example.evaluate()

    todo = [item for item in items(page) if item.kind not in (Kind.DIRECTIVE, Kind.SHOWN)]
    assert rehearsal.done == todo
    assert rehearsal.left_out() == ""


def test_blocks_that_are_not_run_say_why() -> None:
    """There are few reasons, and no others; python is always run."""
    left_out = [item for page in PAGES for item in items(page) if item.kind == Kind.NOT_RUN]

    assert {item.notes["not run"] for item in left_out} <= NOT_RUN.keys()
    assert {item.language for item in left_out} <= {"console"}


def test_blocks_for_a_prompt_can_be_typed_there() -> None:
    """An empty line ends what is indented: it must not stand in the middle of a class."""
    told = [page for page in PAGES if "at one Python prompt" in page.read_text()]
    blocks = [item for page in told for item in items(page) if item.language == "python"]

    assert blocks
    for block in blocks:
        typed: list[str] = []
        for line in [*block.text.splitlines(), ""]:
            typed.append(line)
            if compile_command("\n".join(typed), str(block)) is not None:
                typed = []
        assert typed == [], block


def test_links_have_words() -> None:
    """Sphinx would fill in the title of the page; whoever reads the file itself would see nothing."""
    assert [str(page) for page in PAGES if "[](" in page.read_text()] == []


def test_every_fence_is_accounted_for() -> None:
    """As many blocks are known as there are fences, whatever stands before them."""
    kinds = Counter(item.kind for page in PAGES for item in items(page))
    fences = sum(line.strip().startswith("```") for page in PAGES for line in page.read_text().splitlines())

    del kinds[Kind.ACTION]
    assert kinds.total() * 2 == fences, kinds
