"""``producer-pool sink``: a consumer to try things out with."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from producer_pool.cli.exits import explained
from producer_pool.cli.kinds import DURATION
from producer_pool.cli.plugin_files import plugin_files, registry_with
from producer_pool.cli.running import log_to_stderr
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError

__all__ = ["sink"]


@click.command(
    short_help="Listen, and print what arrives: a consumer to try things out.",
    epilog="""\b
Examples:
  producer-pool sink tcp://127.0.0.1:9000               prints each message in a line
  producer-pool sink tcp://127.0.0.1:9000 > record.txt  what is in the file has arrived, also after kill -9
  producer-pool sink tcp://127.0.0.1:0 --count 10       any free port; ends after ten messages
  producer-pool sink tcp://127.0.0.1:9000 --quiet       only counts
  producer-pool sink 'tcp://127.0.0.1:9000?framing=length4' --json
  producer-pool sink tcp://127.0.0.1:9000 --slow 50ms   is a slow consumer: 20 messages a second
  producer-pool sink 'tcp://127.0.0.1:9000?ack-after=delivered'  tells senders what it has printed

\b
Exit codes: 0 ended by --count, SIGTERM or Ctrl-C; 1 cannot listen or print; 2 usage; 78 bad URL.""",
)
@click.argument("url")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.option("--quiet", is_flag=True, help="Print no messages, only the summary.")
@click.option("--slow", type=DURATION, metavar="DURATION", help="Take this long for each message.")
@plugin_files
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print each message as {"text": ...} or, if it is no UTF-8, {"base64": ...}; '
    "with --quiet, the summary as an object.",
)
def sink(
    url: str,
    count: int | None,
    quiet: bool,
    slow: float | None,
    files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """
    Listen at URL and print what arrives, one line a message.

    The first line on stderr says where it really listens; the last one sums up. A message is written
    before the next one is read.
    """
    log_to_stderr("warning", "%(message)s")
    with explained():
        import asyncio

        from producer_pool.cli.sinking import Sinking
        from producer_pool.discovery.factory import ClientFactory

        listener = ClientFactory(registry_with(files)).listener(url)
        endpoint = Endpoint.parse(url)
        if endpoint.options.get("ack-after") == "stored":
            raise ConfigurationError(
                f"{endpoint.without(endpoint.options)}: ack-after=stored cannot be had here, as sink stores "
                "nothing; use ack-after=received or ack-after=delivered"
            )
        sinking = Sinking(count=count, quiet=quiet, slow=slow or 0.0, as_json=as_json)
        sys.exit(asyncio.run(sinking.run(listener)))
