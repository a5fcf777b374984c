"""Environments as users have them: built wheels, what those need, and nothing of this tree."""
# Rule: no network. What comes from others is borrowed from the environment that runs the tests.

import functools
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import importlib_metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.commands import Running
from support.processes import clean_environment
from support.tree import CORE, PLUGINS

__all__ = ["OFFLINE", "Environment", "build", "core_wheel", "wheel_of"]

OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # Which turns it off: pip takes it for the value of "isolation".
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INDEX": "1",
}
"""Variables with which pip asks nobody and leaves nothing behind."""

_BUILD = """
import os, sys
from hatchling.build import build_wheel
out, *places = sys.argv[1:]
for place in places:
    os.chdir(place)
    print(build_wheel(out))
"""


def build(places: Iterable[Path], into: Path) -> list[Path]:
    """Build the wheel of each of *places*, and return their paths."""
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _BUILD, str(into.resolve()), *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [into / name for name in done.stdout.split()]


@functools.cache
def _wheel(place: Path) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="wheels-")
    _kept.append(folder)
    (path,) = build([place], Path(folder.name))
    return path


_kept: list[tempfile.TemporaryDirectory[str]] = []
"""They go away with the process."""


def core_wheel() -> Path:
    """Return the wheel of core, built once in each process."""
    return _wheel(CORE)


def wheel_of(distribution: str) -> Path:
    """Return the wheel of one of our distributions, by its name; it is built once in each process."""
    name = distribution.removeprefix("producer-pool").removeprefix("-")
    return _wheel(PLUGINS / name if name else CORE)


class Environment:
    """A virtual environment in *folder*, empty at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        self._borrowed: set[str] = set()

    def install(self, *wheels: Path, extras: Iterable[str] = ("cli", "testing")) -> None:
        """Install *wheels*, and what they need, also for *extras* of any of them: ours from wheels, too."""
        self.pip("install", "--no-deps", *map(str, wheels))
        own = [path for path in self.packages.glob("*.dist-info") if not path.is_symlink()]
        names = {canonicalize_name(path.name.partition("-")[0]) for path in own}
        needed = {need for path in own for need in _needs(importlib_metadata.Distribution.at(path), extras)}
        ours = {need for need in needed if need.startswith("producer-pool")}
        self.borrow(*(needed - ours))
        if ours - names:
            self.install(*map(wheel_of, ours - names), extras=extras)

    def borrow(self, *names: str) -> None:
        """Make distributions of the running environment visible here, with all that they need."""
        for name in names:
            if name not in self._borrowed:
                self._borrowed.add(name)
                distribution = importlib_metadata.distribution(name)
                for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                    if not (self.packages / top).exists():
                        (self.packages / top).symlink_to(str(distribution.locate_file(top)))
                self.borrow(*_needs(distribution, ()))

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pip on it, offline, whatever the exit code of a command that only looks."""
        return self._run([sys.executable, "-m", "pip", "--python", str(self.python), "--quiet", *arguments])

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a shell uses it."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**OFFLINE, "PATH": path, "VIRTUAL_ENV": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def environment(self) -> dict[str, str]:
        """All variables of what runs in it."""
        kept = {
            name: value
            for name, value in clean_environment().items()
            if not name.startswith(("PYTEST_", "PYTHONPATH", "COV_", "COVERAGE_"))
        }
        return {**kept, **self.variables}

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        code: int | None = 0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of it to its end; fail with what it said unless it ends with *code*, None for any."""
        return self._run([str(self.folder / "bin" / command[0]), *command[1:]], cwd, env, code)

    def _run(
        self,
        command: list[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        code: int | None = 0,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
        )
        assert code is None or done.returncode == code, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done

    @contextmanager
    def started(self, *command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
        """Run a command of it until the end of the block."""
        folder = Path(tempfile.mkdtemp(prefix=f"{command[0]}-", dir=self.folder))
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [str(self.folder / "bin" / command[0]), *command[1:]],
                cwd=self.folder,
                env={**self.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        try:
            yield Running(process, folder)
        finally:
            process.kill()
            process.wait()


def _needs(distribution: Any, extras: Iterable[str]) -> list[str]:
    """Return what *distribution* requires here, and for those of *extras* that it has."""
    found: list[str] = []
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.append(canonicalize_name(requirement.name))
    return found
