"""What pip and core do where a plugin's bounds exclude the core that is there, as a page tells it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from producer_pool import __version__
from producer_pool.cli.scaffold.files import render, write
from producer_pool.cli.scaffold.names import Names, core_bounds
from support.environments import Environment, build, core_wheel
from support.tree import CORE

# One worker builds the wheels, once.
pytestmark = pytest.mark.xdist_group("version bounds")

NEWER = "99.0.0"
BOUNDS = ",".join(sorted(core_bounds(__version__).split(",")))
"""As pip writes them."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels: this core, a newer one, and a plugin that was made for this one."""
    folder = tmp_path_factory.mktemp("shelf")
    wheels = folder / "wheels"
    newer = shutil.copytree(CORE, folder / "core", ignore=shutil.ignore_patterns("__pycache__"))
    package = newer / "src/producer_pool/__init__.py"
    text = package.read_text().replace(f'__version__ = "{__version__}"', f'__version__ = "{NEWER}"')
    package.write_text(text)
    write(render(Names.of("queue"), __version__), folder / "queue")
    build([newer, folder / "queue"], wheels)
    shutil.copy(core_wheel(), wheels)
    return wheels


@pytest.fixture
def place(shelf: Path, tmp_path: Path) -> Callable[..., Environment]:
    """Make an environment with the wheels of these names from the shelf."""

    def made(*names: str) -> Environment:
        environment = Environment(tmp_path / "env")
        environment.install(*(next(shelf.glob(f"{name}-*")) for name in names))
        environment.borrow("pip")
        return environment

    return made


def pip(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip in *environment*, which does not say how it ends."""
    return environment.run("python", "-m", "pip", *arguments, code=None)


def version(environment: Environment) -> str:
    return environment.run("producer-pool", "--version").stdout.split()[-1]


def test_core_is_upgraded_past_the_bound(place: Callable[..., Environment], shelf: Path) -> None:
    """It is done, with a warning; `pip check` says so afterwards; core uses the plugin all the same."""
    environment = place(f"producer_pool-{__version__}", "producer_pool_queue")
    before = pip(environment, "check").returncode
    done = pip(environment, "install", "--find-links", str(shelf), "--upgrade", "producer-pool")
    checked = pip(environment, "check")

    assert (before, done.returncode, version(environment)) == (0, 0, NEWER)
    warning = f"producer-pool-queue 0.1.0 requires producer-pool{BOUNDS}, but you have producer-pool {NEWER}"
    assert warning in done.stderr
    assert checked.returncode == 1
    assert f"producer-pool-queue 0.1.0 has requirement producer-pool{BOUNDS}" in checked.stdout
    assert "queue" in environment.run("producer-pool", "plugins", "show", "queue").stdout


def test_plugin_is_installed_beside_a_newer_core(place: Callable[..., Environment], shelf: Path) -> None:
    """A core within the bounds takes the place of the newer one."""
    environment = place(f"producer_pool-{NEWER}")
    before = version(environment)
    done = pip(environment, "install", "--find-links", str(shelf), "producer-pool-queue")

    assert (before, done.returncode, version(environment)) == (NEWER, 0, __version__)


def test_no_core_within_the_bounds(place: Callable[..., Environment], shelf: Path, tmp_path: Path) -> None:
    """Nothing is installed, and what there is stays."""
    environment = place(f"producer_pool-{NEWER}")
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(next(shelf.glob("producer_pool_queue-*")), few)
    done = pip(environment, "install", "--find-links", str(few), "producer-pool-queue")

    assert done.returncode == 1
    assert f"No matching distribution found for producer-pool{BOUNDS}" in done.stderr
    assert version(environment) == NEWER
    assert "queue" not in environment.run("producer-pool", "plugins", "list").stdout
