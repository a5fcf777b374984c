"""``producer-pool dead-letters replay``: deliver after all what was given up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from producer_pool.cli.configuration import Problems, factory_for, settings_of
from producer_pool.cli.dead_letters_choice import FOLDER, NUMBERS, check_known, choice_options, chosen, opened
from producer_pool.cli.exits import explained
from producer_pool.cli.kinds import DURATION
from producer_pool.cli.options import pool_options
from producer_pool.cli.running import log_to_stderr

__all__ = ["replay"]

_NOT = (
    "listen",
    "buffer",
    "drain",
    "spool",
    "spool-sync",
    "spool-size",
    "spool-age",
    "dead-letters",
    "log-level",
)


@click.command(
    epilog="""\b
Examples:
  producer-pool dead-letters replay letters --all --config pool.toml
  producer-pool dead-letters replay letters 17 --to audit=tcp://127.0.0.1:9000
  producer-pool dead-letters replay letters --producer audit --since 2h
  PRODUCER_AUDIT=tcp://127.0.0.1:9000 producer-pool dead-letters replay letters --all --wait 5m

\b
Exit codes:
  0   all that was chosen is delivered
  1   something was not, and stays; or an id is no letter's, or the folder cannot be used
  2   the command line cannot be understood
  78  the configuration cannot be used"""
)
@click.argument("folder", type=FOLDER)
@click.argument("numbers", metavar="[ID|FROM-TO]...", nargs=-1, type=NUMBERS)
@choice_options
@click.option("--all", "everything", is_flag=True, help="Replay all that is there.")
@click.option(
    "--wait",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long each message has to be delivered.",
)
@pool_options(without=_NOT)
def replay(folder: Path, wait: float, **given: Any) -> None:
    """
    Deliver letters after all, each to the producer that gave it up, as the configuration has it now.

    Producers are named as for `run`: in the environment, in a file, or with --to ID=URL. The id decides, so
    letters can be sent elsewhere. What is delivered is removed, afterwards: whatever ends this command,
    nothing is lost, and some may arrive twice. All else stays, with its new reason. Stages of plugins are
    not applied again.
    """
    choice = chosen(given, must_choose="replay")
    log_to_stderr("error", "producer-pool: %(message)s")
    with explained():
        problems = Problems()
        settings = settings_of(given, problems)
        factory = factory_for(settings, problems)
        problems.leave_if_any()
        from producer_pool.cli.dead_letters_replaying import Replaying

        with opened(folder, change=True) as file:
            check_known(file, choice)
            sys.exit(Replaying(file, choice, settings, factory, wait=wait).run())
