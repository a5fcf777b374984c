"""Where the command line begins."""

import ast
import subprocess
import sys

import pytest

from support.processes import run_command

LOADED = """
import sys
from producer_pool.cli import main
sys.argv = ["producer-pool", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted(sys.modules))
"""


INTERRUPTED = """
import signal
import sys
from producer_pool.cli import main

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

_, module, *sys.argv[1:] = sys.argv
sys.meta_path.insert(0, Interrupts())
main()
"""


def loaded_by(*arguments: str) -> list[str]:
    """Return the modules that a command loads."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True
    )
    names: list[str] = ast.literal_eval(done.stdout.splitlines()[-1])
    return names


def test_version_costs_little() -> None:
    """The version is printed without asyncio, plugins, the plugin system, rich, or a command's module."""
    names = loaded_by("--version")

    unwanted = (
        "asyncio",
        "rich",
        "pluggy",
        "importlib_metadata",
        "producer_pool_",
        "producer_pool.discovery",
    )
    assert [name for name in names if name.startswith(unwanted)] == []
    assert not {"producer_pool.cli.run", "producer_pool.cli.send"}.intersection(names)


def test_listing_plugins_imports_none() -> None:
    """What is installed is read from metadata."""
    names = loaded_by("plugins", "list")

    assert "producer_pool.cli.plugins" in names
    assert not [name for name in names if name.startswith("producer_pool_")]


def test_without_the_extra_the_command_names_it() -> None:
    """A missing click is one line with the command that installs it, and no traceback."""
    code = "import sys; sys.modules['click'] = None; from producer_pool.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 78
    assert done.stderr == (
        "producer-pool: the command line needs click, which is not installed; "
        'try: pip install "producer-pool[cli]"\n'
    )


@pytest.mark.parametrize(
    "module,command",
    [
        ("producer_pool.cli.words", "run"),
        ("producer_pool.cli.configuration", "run"),
        ("click", "check"),
        ("producer_pool.cli.check", "check"),
        ("producer_pool.cli.options", "check"),
    ],
)
def test_interrupted_while_it_begins(module: str, command: str) -> None:
    """Ctrl-C in the middle of an import is told as it is later: in one line, and not by click."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr == "producer-pool: interrupted\n"


def test_module_is_the_command() -> None:
    """``python -m producer_pool`` is the same command."""
    done = run_command("--version")

    assert done.returncode == 0
    assert done.stdout.startswith(b"producer-pool ")
