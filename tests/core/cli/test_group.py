"""The command that holds the others."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from producer_pool.cli.group import COMMANDS, cli
from support.distributions import Site
from support.processes import run_command

GREETER = """
import click
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_commands(cli):
    @cli.command()
    def greet():
        "Say hello."
        click.echo("hello from a plugin")

    @cli.command("run")
    def other_run():
        click.echo("not the daemon")
"""

BROKEN = """
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_commands(cli):
    raise RuntimeError("this plugin is broken")
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place for distributions, which a command sees by its PYTHONPATH."""
    return Site(tmp_path)


@pytest.mark.parametrize("command", [*COMMANDS, "plugins list", "plugins show"])
def test_help_teaches_by_example(command: str) -> None:
    """Each command's help has examples that begin with the command itself."""
    done = CliRunner().invoke(cli, [*command.split(), "--help"])

    assert done.exit_code == 0
    assert f"  producer-pool {command}" in done.output


def test_help_lists_the_commands() -> None:
    """The help of the whole shows each command with a whole sentence, and the exit codes."""
    done = CliRunner().invoke(cli, ["-h"])

    for command in COMMANDS:
        assert f"\n  {command} " in done.output
    assert "..." not in done.output.partition("Commands:")[2]
    assert "78 bad configuration" in done.output


def test_unknown_command_suggests_a_known_one() -> None:
    """A typo is a usage error that names the command which was meant."""
    done = CliRunner().invoke(cli, ["rum"])

    assert done.exit_code == 2
    assert "no such command: rum; there are: run, send, " in done.output
    assert done.output.endswith("; did you mean run?\n")


@pytest.mark.parametrize(
    "group,there",
    [("spool", "export, forget, "), ("dead-letters", "drop, "), ("plugins", "check, ")],
)
def test_unknown_command_of_a_group(group: str, there: str) -> None:
    """It is told in the same words, with those that there are."""
    done = CliRunner().invoke(cli, [group, "xyz"])

    assert done.exit_code == 2
    assert f"Error: no such command: xyz; there are: {there}" in done.output


def test_plugin_adds_a_command(site: Site) -> None:
    """A wiring plugin's command is found and listed; one that has the name of core's own is not used."""
    site.install("greeter", plugins={"x": "greeter"}, modules={"greeter": GREETER})
    env = {"PYTHONPATH": str(site.folder)}

    greeted = run_command("greet", env=env)
    listed = run_command("--help", env=env)
    run = run_command("run", "--help", env=env)

    assert greeted.stdout == b"hello from a plugin\n"
    assert re.search(rb"greet +Say hello\.", listed.stdout)
    assert b"not the daemon" not in run.stdout


def test_plugin_that_fails_is_left_out(site: Site) -> None:
    """A broken plugin is named on stderr, and everything else works."""
    site.install("broken", plugins={"x": "broken"}, modules={"broken": BROKEN})

    done = run_command("--help", env={"PYTHONPATH": str(site.folder)})

    assert done.returncode == 0
    assert b"broken" in done.stderr
    assert b"  run " in done.stdout


def test_help_survives_a_bad_environment() -> None:
    """What stands in a variable cannot take the help away."""
    done = run_command("--help", env={"PRODUCER_POOL_PLUGIN_TCP": ""})

    assert done.returncode == 0
    assert b"PRODUCER_POOL_PLUGIN_TCP is empty" in done.stderr
