"""Documentation and code agree: what is public is in the reference, and what the pages name is there."""

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import producer_pool
from producer_pool import plugin, testing
from producer_pool.cli import exits
from producer_pool.cli.group import cli
from producer_pool.cli.report import Snapshot, in_json
from producer_pool.contract import hookspecs
from producer_pool.contract.options import DELIVERY_NAMES, describe
from producer_pool.discovery.config import SETTINGS
from producer_pool.discovery.registry import Registry, default_registry
from producer_pool.discovery.selection import ALLOW, CHOOSE, DENY, REQUIRE
from producer_pool.model import errors, framing
from producer_pool.model.stats import Health, ListenerStats, PoolStats, ProducerStats, State
from producer_pool.testing import fixtures
from producer_pool.testing.rules import FAMILIES, RULES
from support.pages import EXAMPLES, PAGES, Kind, items
from support.tree import ROOT

REFERENCE = ROOT / "docs" / "reference"
ENTRY = re.compile(
    r"^\.\. auto(?:class|data|exception|function):: producer_pool\.[\w.]*?(\w+)$", re.MULTILINE
)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of docs/ that writes parts of the reference."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("generated")


@pytest.fixture
def reference(generated: ModuleType) -> dict[str, str]:
    """Return the pages of the reference by name, with what is generated in its place."""
    return {page.stem: generated.expanded(page.read_text()) for page in REFERENCE.glob("*.md")}


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield *command* and all below it, with their paths."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


def test_public_names_have_entries(reference: dict[str, str]) -> None:
    """Everything that users and authors of plugins may import is described, and nothing else."""
    entries = {name for page in reference.values() for name in ENTRY.findall(page)}
    public = {*producer_pool.__all__, *plugin.__all__, *testing.__all__}

    assert public - entries == {"__version__"}
    assert entries - {*hookspecs.__all__, *fixtures.__all__} <= public


def test_errors_have_entries(reference: dict[str, str]) -> None:
    """Each exception is in the tree that is drawn, and has an entry."""
    page = reference["errors"]

    assert set(ENTRY.findall(page)) == set(errors.__all__)
    tree = page[page.index("```text") : page.index("## Each")]
    assert {name for name in errors.__all__ if not re.search(rf"\b{name}\b", tree)} == set()


def test_options_have_rows(generated: ModuleType, reference: dict[str, str]) -> None:
    """Each option of each transport in this tree has a row, as have those that every scheme shares."""
    page = reference["urls"]
    schemes = [*generated.plugin_schemes(), "stdout", "null", "memory"]
    kinds = [
        kind
        for transport in map(default_registry().transport, schemes)
        for kind in (transport.options, transport.listener_options)
        if kind is not None
    ]
    wanted = {one.name for kind in kinds for one in describe(kind)} | DELIVERY_NAMES

    assert {name for name in wanted if f"| `{name}` |" not in page} == set()
    assert {scheme for scheme in schemes if f"| `{scheme}` |" not in page} == set()


def test_framings_have_rows(reference: dict[str, str]) -> None:
    """Each framing that a URL may name has a row."""
    names = {value.name for value in vars(framing).values() if isinstance(value, framing.Framing)}

    assert len(names) >= 4
    assert {name for name in names if f"| `{name}` |" not in reference["urls"]} == set()


def test_variables_have_rows(reference: dict[str, str]) -> None:
    """Each variable is described, and none that does not exist."""
    page = reference["environment"]
    wanted = {setting.variable for setting in SETTINGS.values()} | {ALLOW, DENY, REQUIRE}

    assert {name for name in wanted if f"| `{name}` |" not in page} == set()
    assert f"`{CHOOSE}<SCHEME>`" in page
    named = {name for page in PAGES for name in re.findall(r"\bPRODUCER_POOL_[A-Z_]+\b", page.read_text())}
    known = {name for name in named if name in wanted or name.startswith(CHOOSE)}
    assert named - known <= {"PRODUCER_POOL_REQUIRE_SYSTEM"}


def test_keys_of_the_file_are_shown(reference: dict[str, str]) -> None:
    """The page of the configuration file has every key."""
    page = reference["configuration-file"]
    pool = {name for name in SETTINGS if name != "config"}
    producer = {"url", "url-file", "timeout", *DELIVERY_NAMES}

    missing = {key for key in pool | producer if not re.search(rf"^{key} = ", page, re.MULTILINE)}
    assert missing == set()


def test_rules_of_the_conformance_suite_have_sections(reference: dict[str, str]) -> None:
    """Each rule is there under its name, with its text and what it needs, below what its family is about."""
    page = reference["conformance"]
    sections = re.split(r"^\(rule-.+\)=\n### ", page, flags=re.MULTILINE)[1:]

    assert [section.partition("\n")[0] for section in sections] == [f"`{name}`" for name in RULES]
    for rule, section in zip(RULES.values(), sections, strict=True):
        assert section.startswith(f"`{rule.name}`\n\n**{rule.sentence}**\n\n{rule.explanation}\n\n")
        assert all(need.lacking in section for need in rule.needs)
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert [heading.lower() for heading in headings] == list(FAMILIES)


def test_exit_codes_have_rows(reference: dict[str, str]) -> None:
    """Each exit code has a row."""
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", reference["exit-codes"], re.MULTILINE)} == codes


def test_flags_are_shown(reference: dict[str, str]) -> None:
    """Each option of each command stands in the help of that command."""
    page = reference["command-line"]
    for path, command in commands(cli, "producer-pool"):
        _, found, section = page.partition(f" `{path}`\n")
        assert found, f"{path} has no section"
        section = section.partition("\n#")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert [flag for flag in parameter.opts if flag not in section] == [], path


def test_flags_that_pages_name_exist() -> None:
    """No page speaks of an option of ours that is none."""
    known = {
        flag for _, command in commands(cli, "") for parameter in command.params for flag in parameter.opts
    } | {"--help", "--version"}
    named = {
        flag
        for page in PAGES
        for line in page.read_text().splitlines()
        if "producer-pool " in line or line.startswith(("*", "|"))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)
    }

    assert named - known <= {"--now"}  # systemctl's


def test_hooks_have_entries(reference: dict[str, str]) -> None:
    """Each hook is described."""
    hooks = [name for name in hookspecs.__all__ if name.startswith("producer_pool_")]

    assert [name for name in hooks if f"hookspecs.{name}\n" not in reference["plugins"]] == []


def examples_in(thing: Any) -> Iterator[str]:
    """Yield the blocks of code in a docstring: what is indented behind ``::``."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    for number, line in enumerate(lines):
        if line.endswith("::"):
            block = []
            for following in lines[number + 1 :]:
                if following and not following.startswith(" "):
                    break
                block.append(following)
            yield textwrap.dedent("\n".join(block)).strip()


@pytest.mark.parametrize("name", [name for name in hookspecs.__all__ if name.startswith("producer_pool_")])
def test_hooks_come_with_a_whole_plugin(name: str) -> None:
    """The example in a hook's docstring is a plugin that can be registered, and implements that hook."""
    (example,) = examples_in(getattr(hookspecs, name))
    module = ModuleType(f"example_of_{name}")
    exec(compile(example, name, "exec", dont_inherit=True), vars(module))

    registry = Registry()
    registry.register(module, module.__name__)

    assert module.__name__ in {one.plugin.partition(":")[0] for one in registry.implementations(name)}


def test_examples_in_docstrings_can_be_typed() -> None:
    """Code in the docstrings of public names is Python."""
    homes = (producer_pool, plugin, testing)
    things = [getattr(home, name) for home in homes for name in home.__all__]
    found = [example for thing in things if callable(thing) for example in examples_in(thing)]

    assert len(found) >= 5
    for example in found:
        compile(example, "docstring", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*.py")), ids=lambda program: program.name)
def test_program_is_shown_and_run(program: Path) -> None:
    """Each program in docs/examples is included in a page which runs it."""
    shown = [
        item.page
        for page in PAGES
        for item in items(page)
        if item.kind == Kind.DIRECTIVE and item.language.endswith(f"/examples/{program.name}")
    ]
    run = [
        item.page
        for page in PAGES
        for item in items(page)
        if item.kind == Kind.RUN and re.search(rf"(python |\./){program.name}", item.text)
    ]

    assert set(shown) & set(run)


def test_links_of_readmes_lead_somewhere() -> None:
    """What Sphinx does not check: the links on the pages outside of docs/."""
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        if ROOT / "docs" not in page.parents
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_json_of_the_daemon_is_shown_as_it_is() -> None:
    """The page that shows what `run --json` writes has all of its keys, and no others."""
    producer, address = "billing", "tcp://127.0.0.1:9000"
    health = {producer: Health(producer, State.UP, 0.0, address=address)}
    now = Snapshot(0.0, [(address, ListenerStats())], PoolStats({producer: ProducerStats()}), health)
    objects = [json.loads(item.text) for page in PAGES for item in items(page) if item.language == "json"]
    (shown,) = [one for one in objects if "event" in one]

    assert keys(shown) == keys(in_json("status", now))


def keys(value: Any) -> set[str]:
    """Return the paths of all keys in a value of JSON, whatever consumers are called."""
    match value:
        case dict():
            return {f"{key}.{below}" for key, inner in value.items() for below in (keys(inner) or {""})}
        case list():
            return {below for inner in value for below in keys(inner)}
        case _:
            return set()


def test_places_that_contributors_are_sent_to_exist() -> None:
    """Each file and folder that the guide for contributors names is there."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)*/(?:[\w-]+\.\w+)?|[\w-]+\.(?:py|md|toml|txt))`", text))
    named |= {f"{name}/" for name in re.findall(r"^    (\w+)/ ", text, re.MULTILINE)}
    roots = (ROOT, ROOT / "core" / "src" / "producer_pool")

    assert len(named) > 20
    assert {name for name in named if not any((root / name).exists() for root in roots)} == set()
