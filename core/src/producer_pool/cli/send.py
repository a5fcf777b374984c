"""``producer-pool send``: messages to one consumer, and what became of them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from producer_pool.cli.exits import explained
from producer_pool.cli.kinds import RATE
from producer_pool.cli.plugin_files import plugin_files, registry_with

__all__ = ["send"]


@click.command(
    short_help="Send a text, or the lines of stdin, to one consumer.",
    epilog="""\b
Examples:
  producer-pool send tcp://127.0.0.1:9100 hello
  producer-pool send tcp://127.0.0.1:9100 tick --count 600 --rate 10/s
  seq 1000000 | producer-pool send tcp://127.0.0.1:9100
  tail -F app.log | producer-pool send tcp://127.0.0.1:9100
  producer-pool send 'tcp://127.0.0.1:9100?ack=written&timeout=2s' hello

\b
Exit codes: 0 all delivered, 1 something was not, 2 usage, 78 the URL cannot be used.""",
)
@click.argument("url")
@click.argument("text", required=False)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Send TEXT this often.  [default: 1]")
@click.option("--rate", type=RATE, metavar="N/s", help="Send no faster than this.")
@plugin_files
@click.option("--json", "as_json", is_flag=True, help="Write the summary to stdout, as JSON.")
def send(
    url: str,
    text: str | None,
    count: int | None,
    rate: float | None,
    files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """
    Send TEXT to URL, or each line of stdin where TEXT is - or missing.

    A last line without a newline is sent, too. Stdin is read no faster than the consumer takes it.
    Delivered means: as far as the URL's ack= asks, by default as far as the transport can tell without
    the consumer's help.
    """
    if text in (None, "-") and count is not None:
        raise click.UsageError("--count repeats a TEXT; what comes from stdin is sent once")
    from producer_pool.cli.sending import Pace, Sending, from_stdin, repeated
    from producer_pool.cli.signals import Interrupts
    from producer_pool.discovery.factory import ClientFactory

    with explained():
        interrupts = Interrupts()
        sending = Sending(url, ClientFactory(registry_with(files)), interrupts, as_json=as_json)
        pace = Pace(rate, interrupts)
        if text is None or text == "-":
            if sys.stdin is None:
                raise click.UsageError("stdin is closed; give a TEXT, or redirect something to stdin")
            if sys.stdin.isatty():
                print("reading lines from the terminal; Ctrl-D ends", file=sys.stderr)
            source = from_stdin(pace, interrupts, sending.waiting)
        else:
            source = repeated(text, count or 1, pace)
        sys.exit(sending.run(source))
