"""What the built wheels contain: editable installs hide what is missing from them."""

import configparser
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from support import faults
from support.tree import distributions, speedups

# One worker builds, once, perhaps beside others.
pytestmark = [pytest.mark.xdist_group("wheels"), pytest.mark.timeout(180)]

each_speedup = pytest.mark.parametrize("place", speedups(), ids=lambda place: place.parent.name)
each_distribution = pytest.mark.parametrize("place", distributions(), ids=lambda place: place.name)
each_of_all = pytest.mark.parametrize(
    "place", [*distributions(), *speedups()], ids=lambda place: f"{place.parent.name}-{place.name}"
)
MADE = ("*.so", "build", "*.egg-info", "__pycache__")
"""What building leaves behind where the sources are."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Build all wheels, and return them by the name of the distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    # What is compiled is built from a copy: what an earlier build left in its folder would be taken along.
    copies = [
        shutil.copytree(place, folder / place.parent.name, ignore=shutil.ignore_patterns(*MADE))
        for place in speedups()
    ]
    subprocess.run([*build, "--wheel-dir", folder, *map(str, (*distributions(), *copies))], check=True)
    return {path.name.split("-")[0].replace("_", "-"): zipfile.ZipFile(path) for path in folder.glob("*.whl")}


@pytest.fixture
def wheel(wheels: dict[str, zipfile.ZipFile], place: Path) -> zipfile.ZipFile:
    return wheels[described(place)["name"]]


def described(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    return found


def info(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(info(wheel, "METADATA"))


@each_of_all
def test_wheel_holds_the_sources_and_nothing_else(wheel: zipfile.ZipFile, place: Path) -> None:
    """Every file of src/ is in it, with py.typed; no tests, no stray folders."""
    sources = {
        path.relative_to(place / "src").as_posix()
        for path in (place / "src").rglob("*")
        if path.is_file() and not any(one.match(made) for one in (path, path.parent) for made in MADE)
    }
    packed = {path for path in wheel.namelist() if ".dist-info/" not in path and not path.endswith(".so")}

    assert packed == sources
    assert any(path.endswith("/py.typed") for path in packed)


@each_of_all
def test_wheel_tells_licence_and_readme(wheel: zipfile.ZipFile, place: Path) -> None:
    """The licence travels with the wheel, and the README is its description."""
    assert info(wheel, "licenses/LICENSE") == (place / "LICENSE").read_text()
    assert metadata(wheel).get_payload() == (place / "README.md").read_text()
    assert metadata(wheel)["License-Expression"] == "MIT"


@each_distribution
def test_wheel_has_the_entry_points(wheel: zipfile.ZipFile, place: Path) -> None:
    """Each scheme and command of pyproject.toml is there, and its module is in the wheel."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(info(wheel, "entry_points.txt"))
    found = {group: dict(parser[group]) for group in parser.sections()}
    wanted = dict(described(place)["entry-points"])
    if "scripts" in described(place):
        wanted["console_scripts"] = described(place)["scripts"]

    assert found == wanted
    for value in (value for group in found.values() for value in group.values()):
        path = value.partition(":")[0].replace(".", "/")
        assert {f"{path}.py", f"{path}/__init__.py"} & set(wheel.namelist()), value


@each_speedup
def test_wheel_of_what_is_compiled(wheel: zipfile.ZipFile) -> None:
    """It is one for all versions of Python, and holds what was compiled, unless nothing could be."""
    compiled = [path for path in wheel.namelist() if path.endswith(".so")]

    assert "Tag: cp311-abi3-" in info(wheel, "WHEEL")
    if not compiled:
        faults.lacks("needs a C compiler and the headers of Python, see requirements/apt.txt")
    assert [path.partition(".")[2] for path in compiled] == ["abi3.so"]


@each_of_all
def test_wheels_are_of_one_version(wheel: zipfile.ZipFile, wheels: dict[str, zipfile.ZipFile]) -> None:
    """All wheels of a build carry core's version."""
    assert metadata(wheel)["Version"] == metadata(wheels["producer-pool"])["Version"]
