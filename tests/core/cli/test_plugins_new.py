"""``producer-pool plugins new``: names, files, and what is refused."""

import ast
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer_pool.cli.group import cli
from producer_pool.cli.scaffold.files import FILES, render
from producer_pool.cli.scaffold.names import Names, core_bounds
from producer_pool.discovery.factory import ClientFactory
from producer_pool.discovery.registry import Registry, default_registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.testing.rules import RULES
from support.distributions import Site, transports_module
from support.tree import CORE, ROOT


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def new(*arguments: str) -> Result:
    """Run ``producer-pool plugins new``."""
    return CliRunner().invoke(cli, ["plugins", "new", *arguments])


def found(folder: Path) -> dict[str, str]:
    """Return the text of each file in *folder*."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_help_teaches_by_example() -> None:
    """The examples begin with the command itself."""
    assert "  producer-pool plugins new fifo\n" in new("--help").output


def test_new_plugin(here: Path) -> None:
    """It is a whole package, and the commands that follow are printed."""
    done = new("fifo")

    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == [
        "  cd producer-pool-fifo",
        '  python -m pip install -e ".[test]"',
        "  python -m pytest",
    ]
    assert found(here).keys() == {
        "producer-pool-fifo/.github/workflows/test.yml",
        "producer-pool-fifo/.gitignore",
        "producer-pool-fifo/LICENSE",
        "producer-pool-fifo/README.md",
        "producer-pool-fifo/pyproject.toml",
        "producer-pool-fifo/src/producer_pool_fifo/__init__.py",
        "producer-pool-fifo/src/producer_pool_fifo/py.typed",
        "producer-pool-fifo/src/producer_pool_fifo/transport.py",
        "producer-pool-fifo/tests/test_conformance.py",
        "producer-pool-fifo/tests/test_fifo.py",
    }


def test_files_can_be_read_as_others_files_are(here: Path) -> None:
    """Nothing but the umask says who may read them."""
    new("fifo")
    mask = os.umask(0)
    os.umask(mask)

    for path in here.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_scheme_with_a_plus(here: Path) -> None:
    """Each place has it in the form that it needs there."""
    new("my-queue2+tls")
    texts = found(here / "producer-pool-my-queue2-tls")
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    code = texts["src/producer_pool_my_queue2_tls/transport.py"]

    assert project["entry-points"]["producer_pool.transports"] == {
        "my-queue2.tls": "producer_pool_my_queue2_tls.transport"
    }
    assert 'schemes=("my-queue2+tls",)' in code
    assert "class MyQueue2TlsClient(StreamClient):" in code
    assert "tests/test_my_queue2_tls.py" in texts
    assert 'url = "my-queue2+tls://127.0.0.1:0"' in texts["tests/test_conformance.py"]


def test_scheme_with_a_plus_can_be_used(tmp_path: Path) -> None:
    """The code for it makes both ends."""
    path = tmp_path / "my_queue2_tls.py"
    path.write_text(
        render(Names.of("my-queue2+tls"), "0.1.0")["src/producer_pool_my_queue2_tls/transport.py"]
    )
    registry = Registry(PluginSelection())
    registry.register_file(path)
    factory = ClientFactory(registry)

    assert factory.create("my-queue2+tls://127.0.0.1:9").protocol_name == "my-queue2+tls"
    assert type(factory.listener("my-queue2+tls://127.0.0.1:0")).__name__ == "MyQueue2TlsListener"
    del sys.modules["producer_pool_file_my_queue2_tls"]


def test_names_of_ones_own(tmp_path: Path) -> None:
    """The folder, the distribution and the licence may be called otherwise."""
    done = new(
        *("fifo", "--directory", str(tmp_path / "a place"), "--distribution", "acme.fifo"),
        *("--author", ' Ada "the first"  Lovelace\\Byron '),
    )
    texts = found(tmp_path / "a place" / "acme.fifo")
    project = tomllib.loads(texts["pyproject.toml"])["project"]

    assert f"  cd '{tmp_path}/a place/acme.fifo'\n" in done.output
    assert project["name"] == "acme.fifo"
    assert project["authors"] == [{"name": 'Ada "the first" Lovelace\\Byron'}]
    assert 'Ada "the first" Lovelace\\Byron\n' in texts["LICENSE"]
    assert "src/acme_fifo/transport.py" in texts


def test_licence_is_that_of_the_house(here: Path) -> None:
    """MIT, word for word, with a year and the author's name."""
    new("fifo", "--author", "Ada Lovelace")
    text = (here / "producer-pool-fifo/LICENSE").read_text()

    assert re.sub(r"\(c\) .*", "", text) == re.sub(r"\(c\) .*", "", (ROOT / "LICENSE").read_text())
    assert re.search(r"^Copyright \(c\) 20\d\d Ada Lovelace$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "version, bounds",
    [("0.1.0", ">=0.1,<0.2"), ("0.12.3", ">=0.12,<0.13"), ("1.4.0rc1", ">=1.4,<2"), ("2.0", ">=2.0,<3")],
)
def test_bounds_on_core(version: str, bounds: str) -> None:
    """From the running core's version up to the next one that may change what a plugin uses."""
    texts = render(Names.of("fifo"), version)
    project = tomllib.loads(texts["pyproject.toml"])["project"]

    assert core_bounds(version) == bounds
    assert project["dependencies"] == [f"producer-pool{bounds}"]
    assert project["optional-dependencies"]["test"][0] == f"producer-pool[cli,testing]{bounds}"


def test_python_versions_are_those_of_core() -> None:
    """A plugin needs no other Python than core does."""
    own = tomllib.loads(render(Names.of("fifo"), "0.1.0")["pyproject.toml"])["project"]
    core = tomllib.loads((CORE / "pyproject.toml").read_text())["project"]

    assert own["requires-python"] == core["requires-python"]


def test_what_is_to_be_edited_is_marked() -> None:
    """In the code, its own test and the README; and nothing is left to be filled in."""
    texts = render(Names.of("fifo"), "0.1.0")

    assert {name for name, text in texts.items() if "EDIT:" in text} == {
        "README.md",
        "src/producer_pool_fifo/transport.py",
        "tests/test_fifo.py",
    }
    assert [name for name, text in texts.items() if re.search(r"\$\w|\$\{(?!\{)", text)] == []


def test_code_is_short() -> None:
    """Both ends are read in a minute; and what the README says of guarantees is what is declared."""
    texts = render(Names.of("fifo"), "0.1.0")
    code = texts["src/producer_pool_fifo/transport.py"]
    declared = next(
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and "schemes" in ast.unparse(node)
    )

    assert len(code.splitlines()) <= 120
    assert {keyword.arg for keyword in declared.keywords} == {
        "schemes", "client", "listener", "options", "listener_options", "acks", "loopback",
    }  # fmt: skip
    assert all(f"| {word}" in texts["README.md"] for word in ("order", "`written`", "`kernel`", "longest"))


def test_templates_are_all_used() -> None:
    """No template lies there that nothing is made from, and none is missing."""
    folder = CORE / "src/producer_pool/cli/scaffold/templates"

    assert {path.name for path in folder.iterdir()} == {f"{name}.in" for name in FILES.values()}


def test_conformance_test_names_no_rule() -> None:
    """A rule that core gets later is a test of the plugin, too."""
    text = render(Names.of("fifo"), "0.1.0")["tests/test_conformance.py"]

    assert not any(name in text for name in RULES)


@pytest.mark.parametrize("others", [(), ("-p", "no:asyncio")], ids=["with pytest-asyncio", "without it"])
def test_its_tests_beside_plugins_of_pytest(here: Path, others: tuple[str, ...]) -> None:
    """They pass with pytest-asyncio, which warns unless it is configured, and where it is unknown."""
    new("fifo")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *others, "tests/test_fifo.py"],
        cwd=here / "producer-pool-fifo",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", *sys.path])},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme", ["Fifo", "2fifo", "fifo-", "+tls", "a--b", "a/b", "../x", "fifo:", "", "fïfo"]
)
def test_name_that_is_no_scheme(here: Path, scheme: str) -> None:
    """The error says what one looks like, and nothing is written."""
    done = new("--", scheme)

    assert done.exit_code == 2
    assert "is no scheme; one has small letters and digits" in done.output
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--distribution", "Acme Fifo", "is no name for a distribution"),
        ("--distribution", "../fifo", "is no name for a distribution"),
        ("--distribution", "producer_pool", "there is a producer_pool already"),
        ("--distribution", "producer-pool-tcp", "there is a producer-pool-tcp already"),
        ("--author", " ", "the author is empty"),
        ("--author", "Ada\x1b[31m", "cannot be printed"),
    ],
)
def test_other_name_that_cannot_be_used(here: Path, option: str, value: str, message: str) -> None:
    """The same for the names of the distribution and of the author."""
    done = new("fifo", option, value)

    assert done.exit_code == 2
    assert message in done.output
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("scheme, owner", [("stdout", "producer-pool"), ("tcp", "producer-pool-tcp")])
def test_scheme_that_is_taken(here: Path, scheme: str, owner: str) -> None:
    """The error names who has it, installed or built in."""
    done = new(scheme)

    assert done.exit_code == 2
    assert f"{scheme}:// is handled by {owner}" in done.output
    assert list(here.iterdir()) == []


def test_scheme_that_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that core knows of is taken, too, where it is not installed."""
    monkeypatch.setattr("sys.path", [])
    default_registry.cache_clear()
    try:
        done = new("tcp")
    finally:
        default_registry.cache_clear()

    assert done.exit_code == 2
    assert "tcp:// is handled by producer-pool-tcp, and" in done.output


def test_scheme_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is not imported to find out."""
    monkeypatch.syspath_prepend(tmp_path)
    Site(tmp_path).install("acme-pipes", transports={"fifo": "acme_pipes"}, modules={"acme_pipes": "1/0"})
    names = Names.of("fifo")

    with pytest.raises(Exception, match=r"fifo:// is handled by acme-pipes 1.0, and two plugins"):
        names.check_free(Registry(PluginSelection()).installed())


def test_distribution_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is taken, though its scheme is another one."""
    monkeypatch.syspath_prepend(tmp_path)
    Site(tmp_path).install(
        "Producer_Pool.Fifo", transports={"pipe": "x"}, modules={"x": transports_module("pipe")}
    )

    with pytest.raises(Exception, match="there is a producer-pool-fifo already"):
        Names.of("fifo").check_free(Registry(PluginSelection()).installed())


def test_folder_with_something_in_it(here: Path) -> None:
    """Nothing is overwritten, and the error says what to do."""
    new("fifo")
    mine = here / "producer-pool-fifo/src/producer_pool_fifo/transport.py"
    mine.write_text("mine")
    before = found(here)
    done = new("fifo")

    assert done.exit_code == 2
    assert "producer-pool-fifo is not empty, and nothing is overwritten" in done.output
    assert found(here) == before


def test_empty_folder(here: Path) -> None:
    """It is filled: somebody made it, as a clone of an empty repository."""
    (here / "producer-pool-fifo").mkdir()

    assert new("fifo").exit_code == 0
    assert (here / "producer-pool-fifo/pyproject.toml").is_file()


def test_file_in_the_way(here: Path) -> None:
    """It stays as it is."""
    (here / "producer-pool-fifo").write_text("mine")
    done = new("fifo")

    assert done.exit_code == 2
    assert "producer-pool-fifo is a file" in done.output
    assert (here / "producer-pool-fifo").read_text() == "mine"


def test_place_that_cannot_be_written(here: Path) -> None:
    """That is a failure, and not a mistake in the command."""
    (here / "a-file").write_text("")
    done = new("fifo", "--directory", "a-file/below")

    assert done.exit_code == 1
    assert "cannot write a-file/below/producer-pool-fifo" in done.output
    assert "Not a directory" in done.output
