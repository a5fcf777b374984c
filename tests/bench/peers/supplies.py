"""
Peers from Debian, PyPI and npm, unpacked into the directory that git ignores.

Nothing is installed on the machine, nothing is started, and no rights are needed. Every archive is checked by
its hash: in requirements/, or in the signed lists of Debian.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import build
from bench.peers.launch import UnavailableError

__all__ = ["Program", "node", "program", "python", "set_up"]

ROOT = build.HERE.parent.parent
REQUIREMENTS = ROOT / "requirements"
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons are, whether or not they are on the PATH of a user."""
PATIENCE = 300.0
"""Seconds for one command of a package manager."""
VERSION_OPTIONS = {"rsyslogd": "-v", "mosquitto": "-h"}
MODULES = {"rsyslogd": ("usr/lib/*/rsyslog",), "syslog-ng": ("usr/lib/syslog-ng/*.*/",)}
"""Folders with modules of unpacked programs that load some."""
NEXT_STEP = "try: python tests/bench --set-up"


@dataclass(frozen=True)
class Program:
    """How an installed or unpacked program is run."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[Path, ...] = ()
    """Where it finds its modules, if that is not where it looks."""
    version_option: str = "--version"

    def version(self) -> str:
        """Return the first dotted number that it says about itself."""
        asked, variables = [*self.command, self.version_option], {**os.environ, **self.variables}
        said = subprocess.run(
            asked,
            capture_output=True,
            text=True,
            env=variables,
            timeout=30,
            check=False,
        )
        found = re.search(r"\d+\.\d[\d.]*", said.stdout + said.stderr)
        if found is None:
            raise UnavailableError(f"{self.command[0]} does not run here: {_last_line(said.stderr)}")
        return found[0].rstrip(".")


def program(name: str) -> Program:
    """
    Return the installed program, else the unpacked one.

    Raises:
        UnavailableError: it is neither; says what to do.
    """
    option = VERSION_OPTIONS.get(name, "--version")
    installed = _installed(name)
    if installed:
        return Program((installed,), version_option=option)
    root = DEBIAN.folder
    path = next((path for folder in ("sbin", "bin") if (path := root / "usr" / folder / name).exists()), None)
    if path is None:
        raise UnavailableError(f"{name} is not installed, and not unpacked from Debian; {NEXT_STEP}")
    libraries = {str(library.parent) for library in root.glob("**/lib/**/*.so.*")}
    variables = {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    modules = tuple(found for pattern in MODULES.get(name, ()) for found in root.glob(pattern))
    return Program((str(path),), variables, modules, option)


def python(library: str) -> Program:
    """
    Return this Python with *library* from PyPI.

    Raises:
        UnavailableError: it is not there; says what to do.
    """
    folder = PYPI.folder
    if not (folder / library).is_dir():
        raise UnavailableError(f"{library} is not unpacked from PyPI; {NEXT_STEP}")
    return Program((sys.executable,), {"PYTHONPATH": str(folder)})


def node(library: str) -> Program:
    """
    Return node with *library* from npm.

    Raises:
        UnavailableError: one of both is not there; says what to do.
    """
    installed = _installed("node")
    if installed is None:
        raise UnavailableError("node is not installed; try: apt install nodejs npm")
    modules = NPM.folder
    if not (modules / library).is_dir():
        raise UnavailableError(f"{library} is not unpacked from npm; {NEXT_STEP}")
    return Program((installed,), {"NODE_PATH": str(modules)})


def set_up() -> list[str]:
    """Fetch what is missing, and return a line for each part that could not be had."""
    return [trouble for part in PARTS if (trouble := _fetch(part))]


@dataclass(frozen=True)
class Part:
    """All that comes from one place; *fetch* puts it into an empty folder."""

    name: str
    file: Path
    fetch: Callable[[Path], None]
    about: Callable[[], str] = str
    """What it depends on besides the file."""

    @property
    def folder(self) -> Path:
        """Where it lies: another one if another thing is required."""
        content = self.file.read_bytes() + self.about().encode()
        return build.CACHE / f"{self.name}-{hashlib.sha256(content).hexdigest()[:16]}"


def _fetch(part: Part) -> str:
    if part.folder.is_dir():
        return ""
    # Renamed when complete, so that half of it is never used.
    with tempfile.TemporaryDirectory(prefix=f"{part.name}-", dir=build.made_cache()) as unfinished:
        folder = Path(unfinished) / "complete"
        folder.mkdir()
        try:
            part.fetch(folder)
        except UnavailableError as error:
            return f"{part.file.name}: {error}"
        try:
            folder.rename(part.folder)
        except OSError:
            if not part.folder.is_dir():  # else another bench was faster
                raise
    return ""


def _fetch_pypi(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--target", str(folder)]
    _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS / "bench.txt")])


def _fetch_npm(folder: Path) -> None:
    npm = _installed("npm")
    if npm is None:
        raise UnavailableError("npm is not installed; try: apt install npm")
    for name, wanted in _lines("bench-npm.txt"):
        _run([npm, "pack", "--silent", "--fetch-retries", "1", name], folder)
        (archive,) = folder.glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if wanted != f"sha512-{digest}":
            raise UnavailableError(f"{name} is not what it was: its hash is sha512-{digest}")
        _run(["tar", "--extract", "--file", str(archive)], folder)
        archive.unlink()
        (folder / "package").rename(folder / name.rpartition("@")[0])


def _fetch_debian(folder: Path) -> None:
    wanted = _not_installed()
    if not wanted:
        return
    if not _installed("apt-get"):
        raise UnavailableError(f"there is no apt-get; install {', '.join(wanted)} in another way")
    # Asked for one by one: two of them exclude each other, as a machine has one log daemon.
    archives: set[str] = set()
    for package in wanted:
        archives.update(_needed(package))
    _run(["apt-get", "download", *sorted(archives)], folder)
    for archive in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(folder)])
        archive.unlink()


def _not_installed() -> list[str]:
    return [package for package, name in _lines("bench-apt.txt") if not _installed(name)]


def _needed(package: str) -> list[str]:
    """Return *package* and what it needs and is not installed, with versions."""
    simulated = ["apt-get", "--simulate", "--no-install-recommends", "install", package]
    try:
        said = _run(simulated)
    except UnavailableError:
        if os.geteuid():
            raise
        _run(["apt-get", "update"])  # a new machine has no list of packages yet
        said = _run(simulated)
    return [f"{name}={version}" for name, version in re.findall(r"(?m)^Inst (\S+) \((\S+) ", said)]


DEBIAN = Part("debian", REQUIREMENTS / "bench-apt.txt", _fetch_debian, lambda: " ".join(_not_installed()))
PYPI = Part("pypi", REQUIREMENTS / "bench.txt", _fetch_pypi, lambda: sys.version)
NPM = Part("npm", REQUIREMENTS / "bench-npm.txt", _fetch_npm)
PARTS = (DEBIAN, PYPI, NPM)


def _lines(file: str) -> list[tuple[str, str]]:
    """Return the two words of each line that says something."""
    pairs = [line.partition("#")[0].split() for line in (REQUIREMENTS / file).read_text().splitlines()]
    return [(first, second) for first, second in filter(None, pairs)]


def _installed(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SYSTEM_FOLDERS))


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error
    if done.returncode:
        raise UnavailableError(f"{Path(command[0]).name} failed: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
