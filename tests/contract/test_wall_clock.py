"""Where the time of day is asked for: in what outlives the process or is for people, never for a timer."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tree import CORE, PLUGINS

# The clock of the wall jumps when somebody sets it. What waits, expires or is tried again goes by the loop's.
ALLOWED = {
    "storage": "a file says to people when something was put there; its age goes by another clock",
    "cli": "people name times of day",
    "dead_letter_office": "a letter says when its message was given up",
    "dead_letters": "a letter says when its message was given up",
}

READS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def readings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each use of the time of day in *source*."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if node.attr in READS.get(name, ()):
                yield node.lineno, f"{name}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            for alias in node.names:
                if alias.name in READS["time"] and node.module == "time":
                    yield node.lineno, f"from time import {alias.name}"


def sources() -> Iterator[tuple[str, Path]]:
    """Yield each module of the product, and by what name it is allowed something."""
    package = CORE / "src" / "producer_pool"
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).parts[0].removesuffix(".py"), path
    for path in sorted(PLUGINS.glob("*/src/**/*.py")):
        yield f"plugin {path.parts[-2]}", path


def test_nothing_waits_by_the_wall_clock() -> None:
    """Only what is in the table may ask for the time of day."""
    wrong = [
        f"{path.name}:{line}: {name}: use the loop's time, or say why not in {Path(__file__).name}"
        for place, path in sources()
        if place not in ALLOWED
        for line, name in readings(path.read_text())
    ]

    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ndeadline = time.time() + 5",
        "import time\nread = time.time_ns",
        "from time import time",
        "from time import monotonic, time as now",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.utcnow()",
        "from datetime import date\ndate.today()",
    ],
)
def test_uses_that_are_found(source: str) -> None:
    """However it is written."""
    assert len(list(readings(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["import time\ntime.monotonic()", "loop.time()", "self._loop.time()", "from time import monotonic"],
)
def test_uses_of_other_clocks(source: str) -> None:
    """They are nobody's business."""
    assert list(readings(source)) == []
