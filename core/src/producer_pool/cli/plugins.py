"""``producer-pool plugins``: what is installed, and what a scheme's URLs may say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer_pool.cli.certify import certify
from producer_pool.cli.declared import declared, lines
from producer_pool.cli.exits import explained
from producer_pool.cli.group import Group
from producer_pool.cli.new import new
from producer_pool.cli.output import print_json, print_table
from producer_pool.cli.plugin_files import plugin_files, registry_with

if TYPE_CHECKING:
    from producer_pool.contract.options import Option
    from producer_pool.discovery.registry import Loaded

__all__ = ["plugins"]


@click.group(
    cls=Group,
    short_help="Show the protocols that are installed, and their options.",
    epilog="""\b
Examples:
  producer-pool plugins list
  producer-pool plugins new fifo
  producer-pool plugins check tcp
  producer-pool plugins show tcp
  producer-pool plugins show tcp --json""",
)
def plugins() -> None:
    """Show the protocols that are installed, and what their URLs may say; write new ones, check them."""


plugins.add_command(certify)
plugins.add_command(new)


@plugins.command(
    name="list",
    epilog="""\b
Examples:
  producer-pool plugins list
  producer-pool plugins list --json

\b
Exit codes: 0 done, 2 usage, 78 PRODUCER_POOL_PLUGIN_... cannot be used.""",
)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array.")
def list_(as_json: bool) -> None:
    """
    List what is installed, by scheme. Imports no plugin.

    A plugin without a scheme adds something else: stages, observers, commands.
    """
    from producer_pool.discovery.installed import TRANSPORTS
    from producer_pool.discovery.registry import default_registry

    with explained():
        registry = default_registry()
        found: list[dict[str, Any]] = [
            {
                "scheme": one.scheme if one.group == TRANSPORTS else None,
                "distribution": one.distribution,
                "version": one.version,
                "module": one.value,
                "location": one.location,
                "editable": one.editable,
                "refused": registry.selection.refusal(one) or None,
            }
            for one in registry.installed()
        ]
        if as_json:
            print_json(found)
            return
        print_table(
            ("scheme", "distribution", "version", "note"),
            [
                (one["scheme"] or "-", one["distribution"], one["version"], one["refused"] or "")
                for one in found
            ],
        )


@plugins.command(
    epilog="""\b
Examples:
  producer-pool plugins show tcp
  producer-pool plugins show tcp+tls --json
  producer-pool plugins show queue --plugin ./queue.py

\b
Exit codes: 0 done, 2 usage, 78 no plugin for SCHEME can be had."""
)
@click.argument("scheme")
@plugin_files
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
def show(scheme: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Show what the URLs of SCHEME may say, and what its transport guarantees."""
    # Of a whole URL the scheme is enough, and the rest may hold a password.
    scheme = scheme.partition(":")[0].lower()
    if not re.fullmatch("[a-z][a-z0-9+-]*", scheme):
        raise click.BadParameter("write a scheme, such as tcp", param_hint="SCHEME")
    with explained():
        loaded = registry_with(files).load(scheme)
    described = _described(scheme, loaded)
    if as_json:
        print_json(described)
        return
    print("\n".join(lines(described)))
    for part, title in _TITLES.items():
        if part in described:
            print(f"\n{title}")
            policies = described[part] and described[part][0].get("defaults")
            rows = [
                (one["name"], one["type"], *_defaults(one, policies or ()), one["help"])
                for one in described[part]
            ]
            print_table(("option", "type", *(policies or ("default",)), "what it says"), rows)


def _defaults(option: dict[str, Any], policies: Iterable[str]) -> list[str]:
    """Return the default of an option, or that of each policy."""
    found = [option["defaults"][name] for name in policies] or [option["default"]]
    return [text or "-" for text in found]


def _described(scheme: str, loaded: Loaded) -> dict[str, Any]:
    from producer_pool.contract.delivery_options import delivery_defaults, delivery_options
    from producer_pool.contract.options import Option, describe
    from producer_pool.model.policies import DEFAULT_TIMEOUT, DeliveryPolicy
    from producer_pool.model.text import format_duration

    transport = loaded.transport
    parts: dict[str, list[dict[str, Any]]] = {}
    if transport.client is not None:
        own = list(describe(transport.options)) if transport.options else []
        if not any(option.name == "timeout" for option in own):
            text = "one attempt: connecting, and reaching the level"
            own.append(Option("timeout", "duration", format_duration(DEFAULT_TIMEOUT), text, False))
        parts["client_options"] = _plain(own)
        relay, direct = map(delivery_defaults, (DeliveryPolicy.relay(), DeliveryPolicy.direct()))
        parts["delivery_options"] = [
            {**one, "defaults": {"relay": relay[one["name"]], "direct": direct[one["name"]]}}
            for one in _plain(delivery_options())
        ]
    if transport.listener is not None:
        kind = transport.listener_options or transport.options
        parts["listener_options"] = _plain(describe(kind) if kind else ())
    return {**declared(scheme, loaded), **parts}


_TITLES = {
    "client_options": "A consumer's URL: what concerns the connection",
    "delivery_options": "A consumer's URL: what concerns the delivery, with the defaults of each policy",
    "listener_options": "A listener's URL",
}


def _plain(options: Iterable[Option]) -> list[dict[str, Any]]:
    return [option._asdict() for option in options]
