"""What of the reference the code itself writes: tables and listings, made when the documentation is built."""
# Rule: plain text in Markdown comes from here. Only setup(), at the end, knows Sphinx.

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import producer_pool
from producer_pool import plugin
from producer_pool.cli.daemon import STILL
from producer_pool.contract.delivery_options import delivery_defaults
from producer_pool.contract.delivery_options import delivery_options as of_delivery
from producer_pool.contract.options import describe
from producer_pool.contract.transport import Transport
from producer_pool.discovery.config import SETTINGS
from producer_pool.discovery.registry import default_registry
from producer_pool.model import errors
from producer_pool.model.errors import ProducerPoolError
from producer_pool.model.policies import (
    BATCH_OVERHEAD,
    DEFAULT_TIMEOUT,
    MESSAGE_OVERHEAD,
    DeliveryPolicy,
    Limits,
)
from producer_pool.model.text import format_duration, format_size
from producer_pool.server import CALLBACK_BYTES
from producer_pool.testing import rules
from producer_pool.testing.rules import RULES
from producer_pool.toolkit.acknowledging.answering import BEAT, WINDOW

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["GENERATORS", "expanded", "plugin_schemes", "setup"]


_COLON: Final = "\ue000"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return (
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        + "\n"
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _options(kind: type | None) -> str:
    if kind is None:
        return "None.\n"
    rows = [
        (
            _code(one.name),
            one.type,
            _code(one.default),
            one.help + (" (hidden wherever the URL is shown)" if one.secret else ""),
        )
        for one in describe(kind)
    ]
    return _table(("option", "value", "default", "meaning"), rows)


def _transport(scheme: str) -> Transport:
    return default_registry().transport(scheme)


def client_options(scheme: str) -> str:
    """Return the options that a consumer's URL of *scheme* may have of its own."""
    return _options(_transport(scheme).options)


def listener_options(scheme: str) -> str:
    """Return the options that a listener's URL of *scheme* may have."""
    transport = _transport(scheme)
    return _options(transport.listener_options or transport.options)


def plugin_schemes() -> list[str]:
    """Return the schemes of the plugins in this tree: one plugin more is nothing more here."""
    found = []
    for path in sorted(Path(__file__).parents[1].glob("plugins/*/pyproject.toml")):
        groups = tomllib.loads(path.read_text())["project"]["entry-points"]
        found += [name.replace(".", "+") for name in groups["producer_pool.transports"]]
    return found


def transports() -> str:
    """Return a section for each scheme of the plugins in this tree, with the options of both ends."""
    text = ""
    for scheme in plugin_schemes():
        loaded = default_registry().load(scheme)
        text += f"(scheme-{scheme.replace('+', '-')})=\n## {scheme}\n\n"
        text += f"From `{loaded.provided.distribution}`.\n\n"
        if loaded.transport.client is not None:
            text += f"A consumer's URL:\n\n{client_options(scheme)}\n"
        if loaded.transport.listener is not None:
            text += f"A listener's URL:\n\n{listener_options(scheme)}\n"
    return text


def guarantees() -> str:
    """Return what the transports of this tree declare."""
    rows = []
    for scheme in [*plugin_schemes(), "stdout", "null", "memory"]:
        one = _transport(scheme)
        ends = [end for end, there in (("sends", one.client), ("listens", one.listener)) if there]
        rows.append(
            (
                _code(scheme),
                " and ".join(ends),
                ", ".join(_code(ack.label) for ack in sorted(one.acks)),
                "yes" if one.ordered else "no",
                "any bytes" if one.binary_safe else "text only",
                f"{one.max_message:,} bytes" if one.max_message else "no limit of its own",
            )
        )
    return _table(
        ("scheme", "", "levels on this platform", "keeps order", "carries", "longest message"), rows
    )


def delivery_options() -> str:
    """Return the options that every consumer's URL may have, whatever its scheme."""
    return _table(
        ("option", "value", "meaning"),
        [(_code(one.name), one.type, one.help) for one in of_delivery()],
    )


def policies() -> str:
    """Return the two policies, field by field, with the options that set them."""
    direct, relay = map(delivery_defaults, (DeliveryPolicy.direct(), DeliveryPolicy.relay()))
    direct["deadline"] = "the client's `timeout`"
    rows = [(_code(name), *(_shown(name, one[name]) for one in (direct, relay))) for name in relay]
    return _table(("option", "`direct`", "`relay`"), rows)


def _shown(name: str, text: str) -> str:
    """Return a default; words that are written so in a URL look like that."""
    if not text:
        return "none"
    return _code(text) if name in ("overflow", "ack", "role") else text


def defaults() -> str:
    """Return the defaults that no policy has: of an attempt, of a pool, of tcp, of the daemon."""
    tcp = _transport("tcp")
    assert tcp.options is not None
    assert tcp.listener_options is not None
    limits = Limits()
    rows = [
        ("one attempt: connecting, and reaching the level", format_duration(DEFAULT_TIMEOUT), "`timeout`"),
        ("all batches of a pool together", format_size(limits.buffer), "`--buffer`, `Limits(buffer=...)`"),
        ("closing waits for what is queued", format_duration(limits.drain), "`--drain`, `Limits(drain=...)`"),
        *(
            (what, _code(SETTINGS[name].default), f"`--{name}`, `Spool({name.removeprefix('spool-')}=...)`")
            for name, what in (
                ("spool-sync", "a spool: when what was stored is safe from a power cut"),
                ("spool-size", "a spool: bytes on disk"),
                ("spool-age", "a spool: how old a message may become"),
            )
        ),
        (
            "a call that holds up all is named in the log",
            f"by the daemon after {format_duration(STILL)}, by a program never",
            "`Limits(watchdog=...)`",
        ),
        ("counted for each batch, on top of its bytes", f"{BATCH_OVERHEAD} bytes", "fixed"),
        ("counted for each further message that a program submits", f"{MESSAGE_OVERHEAD} bytes", "fixed"),
        ("bytes that may wait for `on_message`", format_size(CALLBACK_BYTES), "fixed"),
        ("`ack-after`: bytes of a connection that may be unacknowledged", format_size(WINDOW), "fixed"),
        ("`ack-after`: meanwhile, the last count is said again every", format_duration(BEAT), "fixed"),
        ("the daemon listens at", _code(SETTINGS["listen"].default), "`--listen`"),
        ("the policy of the daemon, and of a program", "`relay`, and `direct`", "`--policy`, `policy=`"),
    ]
    for what, options in (("a consumer's URL", tcp.options), ("a listener's URL", tcp.listener_options)):
        rows += [
            (f"tcp, {what}: `{one.name}`", one.default or "none", "in the URL") for one in describe(options)
        ]
    return _table(("what", "default", "where it is set"), rows)


def settings() -> str:
    """Return the settings with their names in each place."""
    rows = [
        (
            _code(f"{one.flag} {one.value}" if one.value != "yes|no" else one.flag),
            _code(one.variable),
            _code(one.name) if one.name != "config" else "",
            one.default if " " in one.default else _code(one.default),
            one.help,
        )
        for one in SETTINGS.values()
    ]
    return _table(("option", "variable", "key in `[pool]`", "default", "meaning"), rows)


def exit_codes() -> str:
    """Return the exit codes of the command line."""
    exits = importlib.import_module("producer_pool.cli.exits")
    rows = [
        (str(exits.DONE), "done; nothing failed, nothing remained"),
        (
            str(exits.FAILED),
            "something failed or remained: a delivery, a listener that could not be started, a spool that "
            "another process uses, a full disk; of `spool` and `dead-letters`, any folder of no use",
        ),
        (str(exits.USAGE), "the command line cannot be understood"),
        (
            str(exits.UNREACHABLE),
            "a consumer cannot be reached (`check --connect`); `EX_UNAVAILABLE` of sysexits.h",
        ),
        (
            str(exits.CONFIGURATION),
            "the configuration cannot be used: a URL, an option, a variable, a file, a plugin; of `run` and "
            "`check`, the folder of a spool or of dead letters, too; `EX_CONFIG`",
        ),
    ]
    return _table(("code", "meaning"), rows)


def error_tree() -> str:
    """Return the tree of exceptions as the module draws it."""
    assert errors.__doc__ is not None
    _, _, tree = errors.__doc__.partition("\n\n")
    return f"```text\n{tree.rstrip()}\n```\n"


def error_names() -> list[str]:
    """Return the exceptions, each after the one that it derives from."""

    def below(kind: type[ProducerPoolError]) -> Iterable[type[ProducerPoolError]]:
        yield kind
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from below(child)

    return [kind.__name__ for kind in below(ProducerPoolError)]


def error_entries() -> str:
    """Return an entry for each exception."""
    return "".join(
        _rst(f".. autoexception:: producer_pool.{name}\n   :show-inheritance:\n") for name in error_names()
    )


def hooks() -> str:
    """Return an entry for each hook."""
    module = importlib.import_module("producer_pool.contract.hookspecs")
    names = [name for name in module.__all__ if name.startswith("producer_pool_")]
    return "".join(_rst(f".. autofunction:: {module.__name__}.{name}\n") for name in names)


def plugin_names() -> str:
    """Return an entry for each name that producer_pool.plugin has and producer_pool has not."""
    sections: dict[str, list[str]] = {title: [] for title, _ in _PLUGIN_SECTIONS}
    for node in ast.walk(ast.parse(inspect.getsource(plugin))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("producer_pool."):
            place = node.module.removeprefix("producer_pool.")
            title = next(title for title, start in _PLUGIN_SECTIONS if place.startswith(start))
            sections[title] += [
                _plugin_entry(node.module, one.name)
                for one in node.names
                if one.name not in producer_pool.__all__
            ]
    return "".join(f"## {title}\n\n{''.join(entries)}" for title, entries in sections.items() if entries)


_PLUGIN_SECTIONS: Final = (
    ("Transport and options", ("contract.transport", "contract.options", "contract.hookspecs")),
    ("Ports", "contract.ports"),
    ("Framings", ("model.framing", "model.envelope", "model.decoders")),
    ("For protocols over sockets", "toolkit"),
    ("Values", ""),
)
"""Titles, and the modules whose names stand under them: the first that fits."""


def _plugin_entry(module: str, name: str) -> str:
    thing = getattr(plugin, name)
    if isinstance(thing, type):
        return _rst(f".. autoclass:: producer_pool.plugin.{name}\n")
    if inspect.isfunction(thing):
        return _rst(f".. autofunction:: producer_pool.plugin.{name}\n")
    # What is said of a value stands where it is defined.
    return _rst(f".. autodata:: {module}.{name}\n   :no-value:\n")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}```\n\n"


def conformance_rules() -> str:
    """Return a section for each family of rules of the conformance suite, and in it one for each rule."""
    text = ""
    family = ""
    for one in RULES.values():
        if one.family != family:
            family = one.family
            about = inspect.getdoc(importlib.import_module(f"{rules.__name__}.{family}")) or ""
            text += f"## {_FAMILIES.get(family, family.capitalize())}\n\n{about.partition(chr(10))[0]}\n\n"
        text += f"(rule-{one.name})=\n### `{one.name}`\n\n**{one.sentence}**\n\n{one.explanation}\n\n"
        if one.needs:
            text += f"Left out if it {'; or if it '.join(need.lacking for need in one.needs)}.\n\n"
    return text


_FAMILIES: Final = {"urls": "URLs"}
"""Headings that are not simply the names of their families."""


def command_line() -> str:
    """Return the help of every command."""
    import click

    from producer_pool.cli.group import cli

    def helps(command: click.Command, path: str, parent: click.Context | None) -> Iterable[str]:
        settings = {**command.context_settings, "terminal_width": 100}
        context = click.Context(command, info_name=path.split()[-1], parent=parent, **settings)
        level = "#" * (1 + len(path.split()))
        yield f"{level} `{path}`\n\n```text\n{command.get_help(context)}\n```\n\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from helps(below, f"{path} {name}", context)

    return "".join(helps(cli, "producer-pool", None))


GENERATORS: Final[dict[str, Callable[..., str]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        client_options,
        command_line,
        conformance_rules,
        defaults,
        delivery_options,
        error_entries,
        error_tree,
        exit_codes,
        guarantees,
        hooks,
        listener_options,
        plugin_names,
        policies,
        settings,
        transports,
    )
}


def generate(request: str) -> str:
    """Return what one request asks for, such as ``client-options stdout``."""
    name, *arguments = shlex.split(request)
    return GENERATORS[name](*arguments)


_REQUEST: Final = re.compile(r"^```\{generated\} (.+)\n```$", re.MULTILINE)


def expanded(page: str) -> str:
    """Return a page with what is generated in the place of each request."""
    return _REQUEST.sub(lambda match: generate(match[1]), page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Have Sphinx read pages as they are when all is generated, and docstrings as they are meant."""

    def expand(app: Sphinx, name: str, source: list[str]) -> None:
        source[0] = expanded(source[0])

    def hide_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            lines[:] = [line.replace(": ", _COLON) for line in lines]

    def show_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
        lines[:] = [line.replace(_COLON, ": ") for line in lines]

    def outdated(app: Sphinx, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
        """Have pages read again whose file did not change, but the code perhaps."""
        return [name for name in env.found_docs if _REQUEST.search(Path(env.doc2path(name)).read_text())]

    app.connect("env-get-outdated", outdated)
    app.connect("source-read", expand)
    # Before and after napoleon, which takes what stands before a colon for a type.
    app.connect("autodoc-process-docstring", hide_colons, priority=400)
    app.connect("autodoc-process-docstring", show_colons, priority=600)
    return {"parallel_read_safe": True}
