"""What fault stories share: how often, what the machine has to be able to do, and where their figures go."""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import pytest

__all__ = [
    "FULL",
    "REQUIRE_SYSTEM",
    "collect_in",
    "figures_of",
    "keep",
    "lacks",
    "needs_loop_device",
    "needs_mounts",
    "needs_namespaces",
    "needs_root",
    "needs_strace",
    "report",
    "table",
    "times",
]

T = TypeVar("T")

FULL: Final = os.environ.get("PRODUCER_POOL_FAULTS") == "full"
"""Whether stories run with their full numbers, and their absolute times are asserted as they are."""

REQUIRE_SYSTEM: Final = os.environ.get("PRODUCER_POOL_REQUIRE_SYSTEM") == "1"
"""What a test needs of the machine and does not get: an error instead of a skip."""

PROPERTY: Final = "figures"
"""The name under which figures travel in a test's report, from whichever process ran it."""

_collected: list[tuple[str, object]] = []


def times(short: T, full: T) -> T:
    """Return *short*, or *full* when ``PRODUCER_POOL_FAULTS=full`` asks for the full figures."""
    return full if FULL else short


# -- figures ---------------------------------------------------------------------------------------


def report(story: str, **figures: object) -> None:
    """
    Have *figures* of the running test shown in the table at the end of the run.

    Call it before the asserts: then the figures of a story that fails are shown, too. Values are numbers or
    strings, and a unit belongs into the name: ``detected_s=1.7``.
    """
    shown = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    _collected.append((PROPERTY, {"story": story, **shown}))


def collect_in(properties: list[tuple[str, object]]) -> None:
    """Let *properties*, which are those of a test that begins, take what it reports from now on."""
    global _collected
    _collected = properties


def figures_of(reports: Iterable[pytest.TestReport]) -> list[dict[str, Any]]:
    """Return what the tests of *reports* reported, a story each, with the test's name and its outcome."""
    found = [
        {**figures, "test": report.nodeid, "outcome": report.outcome}
        for report in reports
        if report.when == "call"
        for name, figures in report.user_properties
        if name == PROPERTY and isinstance(figures, Mapping)
    ]
    return sorted(found, key=lambda figures: (figures["story"], figures["test"]))


def table(stories: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line a story."""
    lines = []
    for figures in stories:
        shown = [
            f"{name}={value}" for name, value in figures.items() if name not in ("story", "test", "outcome")
        ]
        mark = "" if figures["outcome"] == "passed" else f" ({figures['outcome'].upper()})"
        lines.append(f"{figures['story']}{mark}: {' '.join(shown)}")
    return lines


def keep(stories: Iterable[Mapping[str, Any]]) -> None:
    """In a full run, append *stories* as JSON lines to the file that PRODUCER_POOL_FAULTS_REPORT names."""
    path = os.environ.get("PRODUCER_POOL_FAULTS_REPORT")
    if FULL and path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(figures, default=str) + "\n" for figures in stories)


# -- what the machine can do -----------------------------------------------------------------------


def lacks(reason: str) -> NoReturn:
    """End the running test: it is skipped for *reason*, or fails where everything has to be there."""
    if REQUIRE_SYSTEM:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def needs_root() -> None:
    """Skip by name unless this process may do what root may."""
    if os.geteuid() != 0:
        lacks("needs root")


def needs_namespaces() -> None:
    """Skip by name unless network namespaces with nftables in them can be made here."""
    needs_root()
    _needs_programs("ip", "nft", "unshare")
    # A rule is tried in a namespace that is gone again when the command ends.
    script = "ip link set lo up && ip link add one type veth peer name two && nft add table inet t"
    if said := _fails("unshare", "--net", "sh", "-c", script):
        lacks(f"needs network namespaces, veth and nftables: {said}")


def needs_mounts() -> None:
    """Skip by name unless file systems can be mounted here."""
    needs_root()
    if said := _fails("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"):
        lacks(f"needs to mount file systems: {said}")


def needs_loop_device() -> None:
    """Skip by name unless a file can be mounted as an ext4 file system here."""
    needs_mounts()
    _needs_programs("losetup", "mkfs.ext4")
    if said := _fails("losetup", "--find"):
        lacks(f"needs a loop device: {said}")


def needs_strace() -> None:
    """Skip by name unless strace can trace a process here, and inject faults into it."""
    _needs_programs("strace")
    if said := _fails(
        "strace", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO", "-o", "/dev/null", "true"
    ):
        lacks(f"needs strace to be allowed to inject faults: {said}")


def _needs_programs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            lacks(f"needs the program {program}, see requirements/apt.txt")


@functools.cache
def _fails(*command: str) -> str:
    """Run *command*, and return what it said if it failed."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if ended.returncode == 0:
        return ""
    return " ".join(ended.stderr.split()) or f"{command[0]} ended with {ended.returncode}"
