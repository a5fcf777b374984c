"""Terminals as a reader has them open: each runs the commands of one console block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["BOUND", "Terminal", "agrees", "eventually"]

BOUND: Final = 40.0
"""Seconds after which something that does not come fails its page."""

_MARK: Final = "\x01"
_PROMPT: Final = "$ "
_PROGRESS: Final = re.compile(r"^\[\d+/\d+\] .+; \d+ broken so far\n", re.MULTILINE)


def eventually(condition: Callable[[], object], bound: float = BOUND) -> bool:
    """Wait until *condition* holds, at most *bound* seconds; say whether it does."""
    until = time.monotonic() + bound
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def agrees(expected: str, actual: str) -> bool:
    """
    Whether *actual* is what a page shows: ``...`` stands for anything, alone in a line for any lines.

    Columns may have other widths, because ports have. How far a command is, it says on slow machines only.
    """
    actual = _PROGRESS.sub("", actual)
    expected, actual = (re.sub(r"   +", "  ", text) for text in (expected, actual))
    lines = [
        re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + "\n" for line in expected.strip().splitlines()
    ]
    pattern = "".join(r"(?:.*\n)*?" if line == ".*\n" else line for line in lines)
    found = "".join(f"{line.rstrip()}\n" for line in actual.strip().splitlines())
    return re.fullmatch(pattern, found) is not None


class Terminal:
    """One shell with the commands of one block, one after the other."""

    def __init__(self, block: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.commands: list[str] = []
        self.expected: list[str] = []
        """What the page shows after each command."""
        for line in block.splitlines(keepends=True):
            if line.startswith(_PROMPT):
                self.commands.append(line.removeprefix(_PROMPT))
                self.expected.append("")
            elif self.commands and self.commands[-1].endswith("\\\n"):
                self.commands[-1] += line.removeprefix("> ")
            else:
                assert self.commands, f"what is printed stands after a command: {line!r}"
                self.expected[-1] += line
        script = "".join(
            f'{command}\n__s=$?; printf "{_MARK}%d{_MARK}" $__s; (exit $__s)\n' for command in self.commands
        )
        self._output = folder / f".terminal-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=folder,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def shown(self) -> list[str]:
        """What each command has printed until now; those that have not begun are missing."""
        return re.split(f"{_MARK}[0-9]+{_MARK}", self._text())

    @property
    def codes(self) -> list[int]:
        """The exit codes of the commands that ended."""
        return [int(code) for code in re.findall(f"{_MARK}([0-9]+){_MARK}", self._text())]

    def _text(self) -> str:
        return self._output.read_text(errors="backslashreplace")

    @property
    def ended(self) -> bool:
        """Whether the last command has."""
        return self.process.poll() is not None

    @property
    def waits(self) -> bool:
        """Whether what runs in it now, and is no shell, waits for something; as Linux tells."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            stats = [Path(f"/proc/{pid}/stat").read_text() for pid in children.read_text().split()]
        except OSError:  # it ended between two looks
            return False
        states = [(stat.partition("(")[2].rpartition(") ")) for stat in stats]
        return any(name != "bash" and rest[0] == "S" for name, _, rest in states)

    def send(self, number: int) -> None:
        """Send a signal to all that runs in it, as Ctrl-C does."""
        if not self.ended:
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """End what still runs in it."""
        # To the second one, a daemon leaves at once.
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
            self.send(number)
            if eventually(lambda: self.ended, bound=2.0):
                break
        self.process.wait()
