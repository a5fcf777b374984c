"""One run of one contestant, and how much is measured. Runs are kept as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.process import BenchError

CEILING = "ceiling"
"""The contestant that is no relay at all: the load alone."""
BOUND = 60.0


@dataclass(frozen=True)
class Settings:
    """How much is measured. None: as the workload says itself."""

    repetitions: int | None = None
    seconds: float | None = None
    python_load: bool = False
    only: tuple[str, ...] = ()

    def smaller(self) -> Settings:
        """Enough to see that everything works; too little to quote."""
        return replace(self, repetitions=self.repetitions or 2, seconds=self.seconds or 0.4)

    def wants(self, contestant: str) -> bool:
        return not self.only or contestant in self.only


@dataclass(frozen=True)
class Run:
    """One run of one contestant: figures for the table, and all that the load generator said."""

    workload: str
    contestant: str
    repetition: int
    intact: bool
    figures: dict[str, float]
    detail: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    """Why it was not made, where it was not."""

    @property
    def why(self) -> str:
        """The same in one line: of a program that failed, the last that it said."""
        *_, last = self.skipped.splitlines() or [""]
        return last.strip()


def read_runs(lines: Iterable[str]) -> tuple[dict[str, str], list[Run]]:
    """Read what --json wrote: of several sessions the last one, with the machine it was made on."""
    machine: dict[str, str] = {}
    runs: list[Run] = []
    for line in lines:
        value = json.loads(line)
        if "machine" in value:
            machine, runs = value["machine"], []
        else:
            runs.append(Run(**value))
    return machine, runs


def read_file(file: Path) -> tuple[dict[str, str], list[Run]]:
    """The same, from a file."""
    try:
        with file.open() as lines:
            return read_runs(lines)
    except (OSError, ValueError, TypeError) as error:
        raise BenchError(f"{file}: no runs can be read from it: {error}") from error
