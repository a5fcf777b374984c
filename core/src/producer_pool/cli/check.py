"""``producer-pool check``: is the configuration right, and are the consumers there?"""

from __future__ import annotations

import sys
from typing import Any

import click

from producer_pool.cli.configuration import Problems, factory_for, no_producers, read_settings
from producer_pool.cli.exits import CONFIGURATION, DONE, UNREACHABLE, complain, explained
from producer_pool.cli.mixtures import mixtures
from producer_pool.cli.options import PoolCommand, pool_options
from producer_pool.cli.running import log_to_stderr
from producer_pool.discovery.config import SETTINGS

__all__ = ["check"]


@click.command(
    cls=PoolCommand,
    short_help="Check a configuration; perhaps try to reach each consumer.",
    epilog="""\b
Examples:
  producer-pool check
  producer-pool check --config pool.toml --connect
  producer-pool check --to tcp://127.0.0.1:9000 --json

\b
Exit codes: 0 all is well, 2 usage, 69 a consumer cannot be reached, 78 the configuration cannot be used.""",
)
@pool_options(without=("buffer", "drain", "log-level"))
@click.option("--connect", is_flag=True, help="Try to reach each consumer, with its timeout. Sends nothing.")
def check(connect: bool, **given: Any) -> None:
    """
    Check the configuration that `run` would use, and print what it comes to.

    Each URL, folder and setting that cannot be used is named with its first fault. Listeners are not opened:
    a daemon may be using them. Folders of a spool and of dead letters are looked at, and not made.
    """
    log_to_stderr("warning", "producer-pool: %(message)s")
    from producer_pool.cli.checking import Checked, connected, show

    with explained():
        problems = Problems()
        settings = read_settings(given, problems)
        # The option asks for JSON from this command, which sends nothing.
        if settings.origins.get("json") != SETTINGS["json"].flag:
            problems.errors += mixtures(settings)
        checked = Checked(settings, factory_for(settings, problems), problems)
        if not settings.producers and not problems.errors:
            problems.errors += no_producers()
        unreachable = connected(checked) if connect else 0
        show(checked, as_json=settings.json)
    complain(*problems.errors)
    if problems.errors:
        sys.exit(CONFIGURATION)
    sys.exit(UNREACHABLE if unreachable else DONE)
