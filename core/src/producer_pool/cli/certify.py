"""``producer-pool plugins check``: does an installed protocol keep the rules?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from producer_pool.cli.exits import DONE, FAILED, explained
from producer_pool.cli.kinds import PAIR
from producer_pool.cli.plugin_files import plugin_files

__all__ = ["certify"]


@click.command(
    name="check",
    short_help="Try a protocol: the conformance suite, and the real daemon.",
    epilog="""\b
Examples:
  producer-pool plugins check tcp
  producer-pool plugins check 'unix://{tmp}/consumer.sock' --json
  producer-pool plugins check fifo:{tmp}/pipe --plugin ./fifo.py
  producer-pool plugins check tcp --rule reconnects --rule loses-nothing-unconfirmed --seed 7
  producer-pool plugins check fifo:{tmp}/pipe --plugin ./fifo.py --fail-fast
  producer-pool plugins check tcp+tls --client-option tls-ca=ca.pem \\
      --listener-option tls-cert=here.pem --listener-option tls-key=here.key

\b
Exit codes:
  0   every rule that asks for something is kept
  1   a rule is broken
  2   the command line cannot be understood
  78  no plugin for it can be had, or the URL or an option cannot be used""",
)
@click.argument("place", metavar="SCHEME_OR_URL")
@plugin_files
@click.option("--rule", "names", multiple=True, metavar="NAME", help="Ask this rule only. May be repeated.")
@click.option(
    "--client-option",
    "client_options",
    multiple=True,
    type=PAIR,
    help="An option that each client's URL gets. May be repeated.",
)
@click.option(
    "--listener-option",
    "listener_options",
    multiple=True,
    type=PAIR,
    help="An option that each listener's URL gets. May be repeated.",
)
@click.option(
    "--seed", type=int, metavar="NUMBER", help="Repeat what a run left to chance: it names the number."
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first rule that is broken.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
def certify(
    place: str,
    files: Sequence[Path],
    names: Sequence[str],
    client_options: Sequence[tuple[str, str]],
    listener_options: Sequence[tuple[str, str]],
    seed: int | None,
    fail_fast: bool,
    as_json: bool,
) -> None:
    """
    Try a protocol, and say which rules of the conformance suite it keeps.

    SCHEME is tried where its plugin says that its ends can meet. A URL is used as it is given: {tmp} in it,
    and in options, is a folder that is new for each rule, and port 0 any free one. Messages are sent, over
    real connections of this machine, and through a daemon that is started for that.

    A rule that asks for what the protocol does not declare is skipped, and says why. Each waits for 20
    seconds for what does not come true; when three have waited in vain, the others wait less.
    """
    from producer_pool.cli.certifying import Progress, named, report, run, subject_for

    rules = named(names)
    with explained():
        subject = subject_for(place, files, dict(client_options), dict(listener_options))
        done = run(subject, rules, seed, Progress(len(rules)), fail_fast=fail_fast)
        report(done, as_json=as_json)
    sys.exit(DONE if done.ok else FAILED)
