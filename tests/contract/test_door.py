"""The door for plugins with distributions that were built and installed, seen through the program itself."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.distributions import transports_module
from support.environments import Environment, build, core_wheel, wheel_of

# One worker makes the environment, once, perhaps beside others.
pytestmark = [pytest.mark.xdist_group("door"), pytest.mark.timeout(180)]

BOOM = "raise RuntimeError('this module must not be imported')"

WIRING = """
import os
import click
from producer_pool.plugin import hookimpl

NAME = {name!r}

def say(*words):
    # In one call, so that the log does not come between.
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

class Watcher:
    def state_changed(self, health):
        say("watched by", NAME, health.producer_id, health.state.value)

    def settled(self, producer_id, outcome, count):
        say("settled by", NAME, producer_id, outcome.value, count)

@hookimpl
def producer_pool_stage(producer_id):
    def stage(batch):
        kept = batch.select([i for i, m in enumerate(batch.messages) if not m.startswith(b"DEBUG")])
        return kept.replace([m + b"-" + NAME.encode() for m in kept.messages])
    return stage

@hookimpl
def producer_pool_observer():
    return Watcher()

@hookimpl(wrapper=True)
def producer_pool_make_client(endpoint):
    client = yield
    say("wrapped by", NAME, endpoint)
    return client

@hookimpl
def producer_pool_commands(cli):
    @cli.command("greet-" + NAME)
    def greet():
        "Say hello."
        click.echo("hello from " + NAME)
"""

FAILING = """
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_stage(): 1/0

@hookimpl
def producer_pool_observer(): 1/0

@hookimpl
def producer_pool_commands(): 1/0
"""

DISTRIBUTIONS: dict[str, tuple[str, dict[str, str], str]] = {
    # name: (group, entry points, source of its module)
    "acme-fifo": (
        "transports",
        {"fifo": "acme_fifo", "fast": "acme_fifo"},
        transports_module("fifo", "fast"),
    ),
    "other-fifo": ("transports", {"fifo": "other_fifo"}, transports_module("fifo")),
    "acme-fine": ("transports", {"fine": "acme_fine"}, transports_module("fine")),
    "acme-broken": ("transports", {"broken": "acme_broken"}, "import not_there"),
    "acme-old": (
        "transports",
        {"old": "acme_old"},
        transports_module("old").replace("FakeClient)", "FakeClient, api=0)"),
    ),
    "acme-typo": (
        "transports",
        {"typo": "acme_typo"},
        transports_module("typo", more="@hookimpl\ndef producer_pool_stages(producer_id): ..."),
    ),
    "acme-denied": ("transports", {"denied": "acme_denied"}, BOOM),
    "acme-unasked": ("transports", {"unasked": "acme_unasked"}, BOOM),
    "wiring-a": ("plugins", {"x": "wiring_a"}, WIRING.format(name="a")),
    "wiring-b": ("plugins", {"x": "wiring_b"}, WIRING.format(name="b")),
    "wiring-c": ("plugins", {"x": "wiring_c"}, FAILING),
    "wiring-d": ("plugins", {"x": "wiring_d"}, "import not_there_either"),
}


def project(folder: Path, name: str, group: str, entries: Mapping[str, str], source: str) -> Path:
    """Write the project of a distribution with one module, and return its folder."""
    module = name.replace("-", "_")
    place = folder / name
    place.mkdir(parents=True)
    (place / f"{module}.py").write_text(source)
    lines = "".join(f'{key} = "{value}"\n' for key, value in entries.items())
    text = f"""
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "{name}"
        version = "1.0"

        [tool.hatch.build.targets.wheel]
        include = ["{module}.py"]

        [project.entry-points."producer_pool.{group}"]
    """
    (place / "pyproject.toml").write_text(textwrap.dedent(text) + lines)
    return place


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core, tcp, and all of these, good and bad."""
    folder = tmp_path_factory.mktemp("door")
    places = [project(folder / "projects", name, *rest) for name, rest in DISTRIBUTIONS.items()]
    environment = Environment(folder / "env")
    environment.install(core_wheel(), wheel_of("producer-pool-tcp"), *build(places, folder / "wheels"))
    return environment


DENIED = {"PRODUCER_POOL_DISABLE_PLUGINS": "acme-denied"}


def test_list(environment: Environment) -> None:
    """Every scheme is there with its distribution, also those that cannot be used; nothing is imported."""
    listed = environment.run("producer-pool", "plugins", "list", env=DENIED).stdout
    rows = {tuple(line.split()[:2]): line for line in listed.splitlines()}

    assert {
        ("fifo", "acme-fifo"),
        ("fifo", "other-fifo"),
        ("broken", "acme-broken"),
        ("-", "wiring-d"),
    } <= set(rows)
    assert "it is disabled (PRODUCER_POOL_DISABLE_PLUGINS)" in rows["denied", "acme-denied"]


FAULTS = {
    "fifo": "2 installed plugins handle fifo://: acme-fifo 1.0 (acme_fifo), other-fifo 1.0 (other_fifo); "
    "uninstall all but one, or choose one: PRODUCER_POOL_PLUGIN_FIFO=acme-fifo",
    "broken": "acme-broken 1.0 is installed but cannot be imported: No module named 'not_there'",
    "old": "acme-old 1.0 speaks version 0 of the plugin contract, and this producer-pool version 1; "
    "upgrade acme-old",
    "typo": "acme-typo 1.0 implements producer_pool_stages, which is no hook; "
    "did you mean producer_pool_stage?",
    "denied": "acme-denied 1.0 handles denied://, but it is disabled (PRODUCER_POOL_DISABLE_PLUGINS)",
    "fien": "no installed plugin handles fien://",
}


def test_check(environment: Environment) -> None:
    """All faults are named at once; the consumers between them are not disturbed."""
    schemes = [*FAULTS, "fast", "fine"]
    consumers = [part for scheme in schemes for part in ("--to", f"{scheme}={scheme}://h")]
    done = environment.run("producer-pool", "check", *consumers, env=DENIED, code=78)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}

    for scheme, fault in FAULTS.items():
        assert f"producer-pool: --to: {fault}" in done.stderr
        assert f"error: {fault}" in rows[scheme]
    assert "did you mean fine?" in rows["fien"]
    assert rows["fine"].endswith(" ok")
    assert rows["fast"].endswith(" ok"), "that another scheme of its module is contested does not matter"


def test_chosen_one_of_two(environment: Environment) -> None:
    """The variable that the error names decides."""
    chosen = {"PRODUCER_POOL_PLUGIN_FIFO": "other-fifo"}
    done = environment.run("producer-pool", "check", "--to", "x=fifo://h", env=chosen)

    assert "other-fifo 1.0" in done.stdout


def test_only_allowed_ones(environment: Environment) -> None:
    """What is not on the list takes part in nothing: not in a conflict, and not in a pool."""
    allowed = {"PRODUCER_POOL_PLUGINS": "acme-fifo,producer-pool-tcp"}
    done = environment.run("producer-pool", "check", "--to", "x=fifo://h", env=allowed)
    greeted = environment.run("producer-pool", "greet-a", env=allowed, code=2)

    assert "acme-fifo 1.0" in done.stdout
    assert done.stderr == ""
    assert "no such command: greet-a" in greeted.stderr


def test_commands(environment: Environment) -> None:
    """Those of both plugins are there; the one that fails and the one that is broken are named."""
    helped = environment.run("producer-pool", "--help")

    assert environment.run("producer-pool", "greet-b").stdout == "hello from b\n"
    assert re.search(r"greet-a +Say hello\.", helped.stdout)
    assert "  run " in helped.stdout
    assert (
        "wiring-d 1.0 is installed but cannot be imported: No module named 'not_there_either'"
        in helped.stderr
    )
    assert "plugin wiring-c:wiring_c: producer_pool_commands() failed; going on without it" in helped.stderr


def test_daemon_with_wiring(environment: Environment) -> None:
    """Stages, wrappers and observers act in the order of their plugins; those that fail stop nothing."""
    command = ("producer-pool", "run", "--listen", "tcp://127.0.0.1:0", "--to", "out=stdout:")
    with environment.started(*command) as daemon:
        listening = daemon.wait_for(r"^listen +(tcp://\S+)$")[1]
        environment.run("producer-pool", "send", listening, "DEBUG: nothing")
        environment.run("producer-pool", "send", listening, "one")
        printed = daemon.wait_for_printed(len(b"one-a-b\n"))
        daemon.ask()
        ended = daemon.ended()
        said = daemon.said

    assert printed == b"one-a-b\n"
    assert "out: 2 accepted, 1 delivered" in said
    assert ended == 0
    # What wraps first is asked first, and is the last to see what was made.
    assert said.index("wrapped by b stdout:") < said.index("wrapped by a stdout:")
    for watcher in "ab":
        assert f"watched by {watcher} out up" in said
        assert f"settled by {watcher} out delivered 1" in said
        assert f"settled by {watcher} out dropped 1" in said
    for hook in ("stage", "observer"):
        assert f"plugin wiring-c:wiring_c: producer_pool_{hook}() failed; going on without it" in said
    assert "wiring-d 1.0 is installed but cannot be imported" in said
