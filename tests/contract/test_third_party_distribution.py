"""The distribution in docs/examples, from outside of the workspace: what a third party can do."""

import ast
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

import producer_pool
from producer_pool import plugin, testing
from producer_pool.testing.rules import RULES
from support.commands import Running
from support.environments import Environment, build, core_wheel
from support.pages import EXAMPLES, items
from support.tree import ROOT, modules

# One worker makes the environments, once. A whole conformance suite runs in one of them.
pytestmark = [pytest.mark.xdist_group("third party"), pytest.mark.timeout(180)]

PLACE = EXAMPLES / "producer-pool-signed"
CODE = PLACE / "src" / "producer_pool_signed" / "transport.py"
KEY = "only-for-tests-and-never-shown"

INJECTED = """
import sys
from pathlib import Path
from producer_pool import ProducerPool
from producer_pool.plugin import Endpoint
from {module} import SignedClient, SignedClientOptions

client = SignedClient(Endpoint.parse(sys.argv[1]), SignedClientOptions(key_file=Path("signed.key")))
with ProducerPool() as pool:
    pool.add_producer("x", client)
    print(pool.forward_to("x", "hello").check().outcome.value)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core alone, and a key."""
    environment = Environment(tmp_path_factory.mktemp("bare") / "env")
    environment.install(core_wheel())
    (environment.folder / "signed.key").write_text(KEY)
    return environment


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core and the wheel of the distribution, and a key."""
    folder = tmp_path_factory.mktemp("signed")
    environment = Environment(folder / "env")
    environment.install(core_wheel(), *build([PLACE], folder / "wheels"))
    (environment.folder / "signed.key").write_text(KEY)
    return environment


def test_it_keeps_every_rule(environment: Environment, tmp_path: Path) -> None:
    """Its tests pass with the installed wheel: each rule is a test, and none has vanished."""
    shutil.copytree(PLACE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    command = ("python", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = environment.run(*command, cwd=tmp_path, code=None)
    counted = {
        word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", done.stdout.splitlines()[-1])
    }
    listed = environment.run(*command, "--collect-only", cwd=tmp_path).stdout

    assert done.returncode == 0, done.stdout
    assert counted.keys() <= {"passed", "skipped"}
    assert listed.count("::test_rule[") == len(RULES)
    assert counted["passed"] > len(RULES) / 2


def test_it_is_typed(environment: Environment, tmp_path: Path) -> None:
    """A strict mypy finds nothing, with the types that core's wheel has."""
    environment.borrow("mypy")
    done = environment.run("python", "-m", "mypy", "--cache-dir", str(tmp_path), cwd=PLACE, code=None)

    assert done.stdout == "Success: no issues found in 4 source files\n"


def test_it_is_small() -> None:
    """Both ends, with options, a key and its errors, are read in a few minutes."""
    lines = [line for line in CODE.read_text().splitlines() if line.strip()]

    assert len(lines) < 100


def test_tutorial_arrives_at_it() -> None:
    """The file on the page is the one of the distribution; what the page shows first is in it, unchanged."""
    page = ROOT / "docs/tutorial/protocol-plugin.md"
    first, last = [item.text for item in items(page) if item.notes.get("file") == "signed.py"]
    classes = [
        ast.get_source_segment(first, node)
        for node in ast.parse(first).body
        if isinstance(node, ast.ClassDef)
    ]

    assert last == CODE.read_text()
    assert len(classes) == 4
    assert all(text is not None and f"{text}\n" in last for text in classes)


def test_it_knows_public_names_only() -> None:
    """It imports what everybody may, and nothing below that."""
    found = [
        imported.target
        for folder in ("src", "tests")
        for module in modules(PLACE / folder)
        for imported in module.imports()
        if imported.target.startswith("producer_pool.")
    ]
    public = {f"{home.__name__}.{name}" for home in (producer_pool, plugin, testing) for name in home.__all__}

    assert len(found) > 20
    assert set(found) <= public


def test_it_is_no_part_of_the_workspace() -> None:
    """No setting of this tree names it; only the documentation, and tests of it, do."""
    named = [
        path
        for place in ("core", "plugins", "requirements", "tests")
        for path in (ROOT / place).rglob("*")
        if path.suffix in {".py", ".toml", ".txt", ".in"} and "producer-pool-signed" in path.read_text()
    ]

    assert named == [Path(__file__)]
    assert (PLACE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("rung", ["injected", "file", "package"])
def test_ladder(bare: Environment, environment: Environment, rung: str) -> None:
    """The same code, unchanged, is an object in a script, a file given to a command, and a package."""
    place = environment if rung == "package" else bare
    shutil.copy(CODE, bare.folder / "signed.py")
    given = () if rung == "package" else ("--plugin", "./signed.py")
    daemon = ("producer-pool", "run", *given, "--listen", "signed://127.0.0.1:0?key-file=signed.key")
    with ExitStack() as stack:
        consumer = stack.enter_context(place.started(*daemon, "--to", "stdout:"))
        last, url = consumer, listening(consumer)
        if rung != "injected":
            last = stack.enter_context(place.started(*daemon, "--to", f"x={url}"))
            url = listening(last)
        module = "producer_pool_signed" if rung == "package" else "signed"
        script = INJECTED.format(module=module)
        told = place.run("python", "-c", script, url.partition("?")[0]).stdout
        printed = consumer.wait_for_printed(len(b"hello\n"))
        last.ask()
        ended = last.ended()

        assert (told, printed, ended) == ("delivered\n", b"hello\n", 0)
        assert KEY not in consumer.said + last.said


def listening(daemon: Running) -> str:
    """Return where a daemon listens, as soon as it says so."""
    return daemon.wait_for(r"^listen +(signed://\S+)$")[1]
