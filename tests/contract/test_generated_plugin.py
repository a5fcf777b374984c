"""What `producer-pool plugins new` writes: made, built and used from wheels alone, as a stranger does it."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from producer_pool.testing.rules import RULES
from support.environments import Environment, build, core_wheel
from support.tree import ROOT

# One worker makes the environment, once. A whole conformance suite runs in it, perhaps beside others.
pytestmark = [pytest.mark.xdist_group("generated plugin"), pytest.mark.timeout(180)]

OWN_TESTS = 2


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core, which writes a plugin, and then with the wheel of that plugin."""
    environment = Environment(tmp_path_factory.mktemp("generated") / "env")
    environment.install(core_wheel())
    environment.run("producer-pool", "plugins", "new", "fifo", "--author", "Ada Lovelace")
    environment.install(*build([folder_in(environment)], environment.folder / "dist"))
    environment.borrow("mypy")
    return environment


def folder_in(environment: Environment) -> Path:
    return environment.folder / "producer-pool-fifo"


def summary(output: str) -> dict[str, int]:
    """Return what the last line of pytest says, by its words."""
    return {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", output.strip().splitlines()[-1])}


def test_it_keeps_every_rule(environment: Environment, tmp_path: Path) -> None:
    """Its own tests pass at once, with the installed wheel: each rule is a test, and none has vanished."""
    shutil.copytree(folder_in(environment) / "tests", tmp_path / "tests")
    done = environment.run("python", "-W", "error", "-m", "pytest", "-q", cwd=tmp_path, code=None)

    counted = summary(done.stdout)
    assert counted.keys() <= {"passed", "skipped"}, done.stdout
    assert sum(counted.values()) == len(RULES) + OWN_TESTS
    assert counted["passed"] > len(RULES) / 2


def test_rules_notice_a_mistake_in_it(environment: Environment, tmp_path: Path) -> None:
    """The control: one line that is wrong, and the conformance suite fails."""
    project = shutil.copytree(folder_in(environment), tmp_path / "wrong")
    code = project / "src/producer_pool_fifo/transport.py"
    wrong = code.read_text().replace("return envelope[4:]", "return envelope[4:-1]")
    assert wrong != code.read_text()
    code.write_text(wrong)

    done = environment.run(
        *("python", "-m", "pytest", "-q", "tests/test_conformance.py", "-k", "arrives"),
        cwd=project,
        env={"PYTHONPATH": str(project / "src")},
        code=None,
    )

    assert "FAILED tests/test_conformance.py::TestFifo::test_rule[arrives-before-the-end]" in done.stdout


def test_it_is_typed(environment: Environment) -> None:
    """A strict mypy finds nothing, in the code and in the tests, with the types that core's wheel has."""
    done = environment.run("python", "-m", "mypy", cwd=folder_in(environment), code=None)

    assert done.stdout == "Success: no issues found in 4 source files\n"


def test_it_is_tidy(environment: Environment) -> None:
    """With its own settings, ruff finds nothing and would format nothing."""
    for command in (("check",), ("format", "--check")):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        done = subprocess.run(ruff, cwd=folder_in(environment), capture_output=True, text=True)

        assert done.returncode == 0, done.stdout


def test_its_ci_file(environment: Environment, tmp_path: Path) -> None:
    """Each step can be run, one after the other; the conformance suite has a test of its own here."""
    project = shutil.copytree(folder_in(environment), tmp_path / "producer-pool-fifo")
    workflow = yaml.safe_load((project / ".github/workflows/test.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    clean = Environment(tmp_path / "env")
    clean.install(core_wheel())
    clean.borrow("pip", "hatchling", "editables", "mypy")
    brief = {"PYTEST_ADDOPTS": "--deselect tests/test_conformance.py"}
    for step in steps:
        done = subprocess.run(
            ["bash", "-c", step],
            cwd=project,
            env={**clean.environment, **brief},
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
    assert sum("pytest" in step for step in steps) == 2
    assert len(steps) == 6


def test_its_wheel(environment: Environment) -> None:
    """It holds the package with its types, the licence and the entry point, and no tests."""
    (path,) = (environment.folder / "dist").glob("*.whl")
    wheel = zipfile.ZipFile(path)
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    info = path.name.removesuffix("-py3-none-any.whl") + ".dist-info"

    assert names == {f"producer_pool_fifo/{name}" for name in ("__init__.py", "py.typed", "transport.py")}
    assert b"Ada Lovelace" in wheel.read(f"{info}/licenses/LICENSE")
    assert b"[producer_pool.transports]\nfifo = producer_pool_fifo.transport" in wheel.read(
        f"{info}/entry_points.txt"
    )
    assert b"Requires-Dist: producer-pool<0.2,>=0.1" in wheel.read(f"{info}/METADATA")


def test_it_says_what_it_guarantees(environment: Environment) -> None:
    """What `plugins show` prints is what its README says."""
    shown = environment.run("producer-pool", "plugins", "show", "fifo").stdout
    readme = (folder_in(environment) / "README.md").read_text()

    levels = re.search(r"^acks +(.*)$", shown, re.MULTILINE)
    assert levels is not None
    assert all(f"| `{level}`" in readme for level in levels[1].split(", "))
    assert re.search(r"^distribution +producer-pool-fifo$", shown, re.MULTILINE)
    assert re.search(r"^ordered +yes$", shown, re.MULTILINE)


@pytest.mark.parametrize("how", ["command line", "variable"])
def test_messages_go_through_it(environment: Environment, how: str) -> None:
    """A daemon listens and sends with it, by its scheme, wherever the consumer is named."""
    command = ["producer-pool", "run", "--listen", "fifo://127.0.0.1:0"]
    with environment.started("producer-pool", "sink", "fifo://127.0.0.1:0", "--count", "1") as sink:
        arguments, variables = ["--to", f"x={sink.url}"], {"PRODUCER_X": sink.url}
        if how == "command line":
            command, variables = [*command, *arguments], {}
        with environment.started(*command, env=variables) as daemon:
            listening = daemon.wait_for(r"^listen +(fifo://\S+)$")[1]
            environment.run("producer-pool", "send", listening, "one")
            ended = sink.ended()
            daemon.ask()
            left = daemon.ended()

        assert sink.printed == b"one\n"
        assert (ended, left) == (0, 0)
        assert "x: 1 accepted, 1 delivered (kernel); nothing remained" in daemon.said


def test_it_depends_on_nothing_of_this_tree(environment: Environment) -> None:
    """What is imported lies in the environment: nothing that only this tree has helped it to pass."""
    program = (
        "import producer_pool, producer_pool_fifo; print(producer_pool.__file__, producer_pool_fifo.__file__)"
    )
    places = environment.run("python", "-c", program).stdout.split()

    assert len(places) == 2
    assert all(Path(place).is_relative_to(environment.packages) for place in places)
    assert not any(str(ROOT / "core") in place for place in places)
