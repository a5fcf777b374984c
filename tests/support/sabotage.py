"""Testing the tests: a change for the worse is made to a copy of the sources; a named test has to notice."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

__all__ = ["Finding", "Sabotage", "Verdict", "report", "stale", "try_all"]

COPIED: Final = ("core/src", "plugins", "tests", "pyproject.toml")
UNUSED: Final = ("randomly", "xdist", "cov", "hypothesispytest", "cacheprovider", "sybil")
"""pytest's plugins that only cost time here."""
LONGEST: Final = 25
"""Seconds that one test may take. Those in the table take one or two, if nothing is wrong."""
BOUND: Final = 4
"""Seconds that a test waits for what does not come."""
GOOD: Final = 5
"""How many times as long that may be without a change: a busy machine is no reason to call a test broken."""
CLUMSY: Final = re.compile(
    r"\b(SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError|UnboundLocalError)\b"
)
"""Errors that show a change that does not even run. No test is needed to notice those."""


@dataclass(frozen=True)
class Sabotage:
    """One change for the worse, and the test that has to notice."""

    what: str
    file: str
    """Below the root of the tree."""
    old: str
    """Stands in the file exactly once."""
    new: str
    test: str
    """What pytest calls it, without its folder: ``test_x.py::test_y``. A story, or the test of a module."""


class Verdict(Enum):
    """What became of a sabotage."""

    NOTICED = "noticed"
    SURVIVED = "SURVIVED"
    """The test passes nevertheless."""
    STALE = "STALE"
    """The text to change is not there, or more than once."""
    CLUMSY = "CLUMSY"
    """The test fails, but because the changed sources do not run at all."""
    BROKEN = "BROKEN"
    """The test fails without the change, too, or there is none of this name."""


@dataclass(frozen=True)
class Finding:
    """One sabotage and what became of it."""

    sabotage: Sabotage
    verdict: Verdict
    seconds: float = 0.0
    output: str = ""
    """What pytest said, where that is of interest."""


def try_all(table: Sequence[Sabotage], root: Path, *, jobs: int = 2) -> list[Finding]:
    """
    Try each sabotage on a copy of the tree at *root*, and return what became of it, in their order.

    The named tests have to pass on a copy without any change first.
    """
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder, ThreadPoolExecutor(jobs) as executor:
        good = _copy(root, Path(folder, "good"))
        tests = sorted({sabotage.test for sabotage in table})
        lots = [tests[number::jobs] for number in range(jobs)]
        broken = {test for found in executor.map(lambda lot: _failing(lot, good), lots) for test in found}

        def attempt(number: int) -> Finding:
            if table[number].test in broken:
                return Finding(table[number], Verdict.BROKEN)
            return _attempt(table[number], good, Path(folder, str(number)))

        return list(executor.map(attempt, range(len(table))))


def stale(table: Sequence[Sabotage], root: Path) -> list[Finding]:
    """Return those whose text is not in the tree at *root*, or more than once, without trying any."""
    return [
        Finding(one, Verdict.STALE, output=f"{one.file} does not hold this exactly once:\n{one.old}")
        for one in table
        if (root / one.file).read_text().count(one.old) != 1
    ]


def report(findings: Sequence[Finding]) -> str:
    """Return the findings as a table, with what pytest said to those that are not as they should be."""
    lines = [
        f"{finding.verdict.value:9} {finding.seconds:5.1f} s  {finding.sabotage.what}"
        f"\n{'':19}{finding.sabotage.test}"
        for finding in findings
    ]
    lines += [
        f"\n== {finding.sabotage.what}\n{finding.output}"
        for finding in findings
        if finding.verdict is not Verdict.NOTICED and finding.output
    ]
    return "\n".join(lines)


def _attempt(sabotage: Sabotage, root: Path, folder: Path) -> Finding:
    if found := stale([sabotage], root):
        return found[0]
    # With all that is compiled: that takes longer than most tests.
    tree = shutil.copytree(root, folder, copy_function=os.link)
    source = tree / sabotage.file
    text = source.read_text()
    source.unlink()  # The others have the same file.
    source.write_text(text.replace(sabotage.old, sabotage.new))
    for compiled in source.parent.glob(f"__pycache__/{source.stem}.*"):
        compiled.unlink()  # It is taken for that of a text which is as long, and as old to the second.
    began = time.monotonic()
    code, output = _pytest([sabotage.test], tree)
    seconds = time.monotonic() - began
    shutil.rmtree(tree)
    if code == 0:
        verdict = Verdict.SURVIVED
    elif code != 1 or CLUMSY.search(output):
        verdict = Verdict.CLUMSY
    else:
        verdict = Verdict.NOTICED
    return Finding(sabotage, verdict, seconds, output)


def _copy(root: Path, target: Path) -> Path:
    """Copy what is needed to run the tests, and nothing that was made from it."""
    for name in COPIED:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "bench", ".*")
            shutil.copytree(root / name, target / name, ignore=ignored)
        elif (root / name).exists():
            shutil.copy(root / name, target / name)
    return target


def _failing(tests: Sequence[str], tree: Path) -> set[str]:
    """Return those of *tests* that fail on an unchanged copy, one by one if need be."""
    if not tests or _pytest(tests, tree, GOOD)[0] == 0:
        return set()
    return {test for test in tests if _pytest([test], tree, GOOD)[0] != 0}


def _place(test: str, tree: Path) -> str:
    """Return the path of *test* with its folder: names of test files are unique."""
    name = test.partition("::")[0]
    path = next(tree.glob(f"tests/**/{name}"), tree / "tests" / name)
    return f"{path.parent.relative_to(tree)}/{test}"


def _pytest(tests: Sequence[str], tree: Path, patience: int = 1) -> tuple[int, str]:
    """
    Run *tests* with the sources of *tree*; return pytest's exit code and what it said.

    With *patience*, they have so many times the time.
    """
    longest = LONGEST * patience
    sources = [tree / "core" / "src", *sorted((tree / "plugins").glob("*/src"))]
    packages = [path.name for source in sources for path in source.iterdir() if path.is_dir()]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, sources)),
        "TEST_BOUND": str(BOUND * patience),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _RUN, str(tree), ",".join(packages), "-q", "--no-header"]
    command += [word for plugin in UNUSED for word in ("-p", f"no:{plugin}")]
    command += [f"--timeout={longest}", *(_place(test, tree) for test in tests)]
    process = subprocess.Popen(
        command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=longest * (len(tests) + 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return 1, output.decode(errors="replace") + "\nit did not end\n"
    return process.returncode, output.decode(errors="replace")


_RUN: Final = """
import importlib, sys
import pytest
tree, packages, *arguments = sys.argv[1:]
for package in packages.split(","):
    module = importlib.import_module(package)
    if not module.__file__.startswith(tree):
        sys.exit(f"{package} comes from {module.__file__}, and not from the copy")
sys.exit(pytest.main(arguments))
"""
"""Makes sure that it is the copy that is tested."""
