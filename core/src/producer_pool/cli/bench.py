"""``producer-pool bench``: how fast is this here, with these settings?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from producer_pool.cli.exits import FAILED, explained, leave
from producer_pool.cli.kinds import PAIR, RATE, SIZE
from producer_pool.cli.plugin_files import plugin_files, registry_with
from producer_pool.model.errors import UsageError

if TYPE_CHECKING:
    from producer_pool.cli.benching.elsewhere import Elsewhere
    from producer_pool.cli.benching.plan import Plan
    from producer_pool.cli.benching.ways import Way

__all__ = ["bench"]


@click.command(
    short_help="Measure how fast it is on this machine.",
    epilog="""\b
Examples:
  producer-pool bench                                 tcp, 4 consumers, lines of 128 bytes
  producer-pool bench --over unix --consumers 16
  producer-pool bench --over udp --size 1KiB --seconds 30
  producer-pool bench --from tcp --over ws            lines come in, websockets go out
  producer-pool bench --rate 1000/s --rate 50000/s    how long a message takes, at two rates
  producer-pool bench --over 'tcp?ack=app' --against tcp
  producer-pool bench --spool /var/lib --json
  producer-pool bench --to tcp://10.0.0.7:9100 --listen 'tcp://10.0.0.5:9000?allow-remote=yes'
                                                      a daemon that runs, with its consumer here

\b
Exit codes:
  0   measured; every message arrived, once and in order
  1   one was lost, doubled, out of order or damaged; or it could not be measured, or was interrupted
  2   the command line cannot be understood
  78  no plugin for it can be had, or the URL or an option cannot be used""",
)
@click.option(
    "--over",
    default="tcp",
    show_default=True,
    metavar="SCHEME[?OPTIONS]",
    help="The protocol on both sides of the relay; each option goes to the ends that have it. A URL will do.",
)
@click.option(
    "--from", "into", metavar="SCHEME[?OPTIONS]", help="The protocol to the relay, if it is another."
)
@click.option(
    "--against", metavar="SCHEME[?OPTIONS]", help="Measure this in turn with --over, and show the ratio."
)
@click.option("--to", metavar="URL", help="Measure a daemon that runs already: send to where it listens.")
@click.option(
    "--listen", multiple=True, metavar="URL", help="With --to: be a consumer of it here. May be repeated."
)
@click.option("--consumers", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N")
@click.option("--producers", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N")
@click.option("--size", type=SIZE, default="128", show_default=True, metavar="SIZE", help="Of a message.")
@click.option(
    "--batch",
    type=click.IntRange(1, 65536),
    metavar="N",
    help="Messages in a write.  [default: 64 KiB of them flat out, 1 at a rate]",
)
@click.option("--flat-out", is_flag=True, help="Send as fast as it goes.")
@click.option(
    "--rate",
    "rates",
    type=RATE,
    multiple=True,
    metavar="N/s",
    help="Send by this schedule. May be repeated.  [default: flat out, and then 10000/s]",
)
@click.option(
    "--seconds", type=click.FloatRange(1, 86400), default=10, show_default=True, metavar="N", help="In all."
)
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False, exists=True, writable=True),
    metavar="DIR",
    help="Store all first, in a folder in this one that is removed at the end.",
)
@click.option("--spool-sync", metavar="always|interval:DURATION|os", help="As for run.  [default: always]")
@click.option("--client-option", "client_options", type=PAIR, multiple=True, help="For those who send only.")
@click.option(
    "--listener-option", "listener_options", type=PAIR, multiple=True, help="For those who listen only."
)
@plugin_files
@click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Draw the latencies."
)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
@click.pass_context
def bench(
    context: click.Context, /, files: tuple[Path, ...], svg: Path | None, as_json: bool, **given: Any
) -> None:
    """
    Measure how fast messages are forwarded on this machine.

    A relay, which is `producer-pool run` as it is, stands between a sender and consumers, all of them in
    processes of their own, on loopback and at free ports. Consumers hold each message against what was
    sent. The sender waits for them, so that no buffer overflows; with --rate, latency counts from when a
    message was due, whether it could be sent then or not.

    Sender and consumers take their part of the machine: the result says whether they or the relay were the
    limit. What else runs here changes it as well.

    With --to and --listen, the relay is a daemon that runs already, here or elsewhere, and is neither
    started nor ended. Its consumers have to be those URLs, and nobody else may send to it meanwhile.
    """
    from producer_pool.cli.benching.bar import Bar
    from producer_pool.cli.benching.conclusion import report
    from producer_pool.cli.benching.figures import Outcome
    from producer_pool.cli.benching.machine import divided, usable_cores
    from producer_pool.cli.benching.measuring import measure
    from producer_pool.cli.processes import ProcessError

    with explained():
        usable = usable_cores()
        if given["to"] is None and not given["listen"]:
            plan = _plan(files, given)
            cores = len(divided(usable)[1])
        else:
            _check_alone(context)
            plan = _plan_elsewhere(files, given)
            cores = len(usable)
        outcome = Outcome(plan, cores)
        # Whoever pipes an object into a program does not watch.
        shown = sys.stderr.isatty() and (sys.stdout.isatty() or not as_json)
        interrupted = False
        try:
            with Bar(shown=shown) as bar:
                measure(plan, outcome, bar)
        except KeyboardInterrupt:
            interrupted = True
        except ProcessError as error:
            leave(FAILED, [error])
        sys.exit(report(outcome, interrupted=interrupted, in_json=as_json, svg=svg))


_OF_OUR_RELAY: Final = (
    "over", "into", "against", "consumers", "spool", "spool_sync", "client_options", "listener_options",
)  # fmt: skip
"""What says how a relay is that bench starts itself."""


def _check_alone(context: click.Context) -> None:
    """Refuse options of a relay of ours, beside one that runs elsewhere."""
    if context.params["to"] is None:
        raise click.UsageError("--listen needs --to, too: the URL at which the daemon listens")
    if not context.params["listen"]:
        raise click.UsageError("--to needs --listen, too: the URL of each consumer that the daemon has")
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in _OF_OUR_RELAY and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} is for a relay that bench starts; the one of --to is as it is, and "
                "options of its ends go into the URLs of --to and --listen"
            )


def _plan_elsewhere(files: tuple[Path, ...], given: Mapping[str, Any]) -> Plan:
    from producer_pool.cli.benching.elsewhere import Elsewhere

    there = Elsewhere.of(given["to"], given["listen"], registry_with(files))
    return _made([there], None, len(there.listen), files, given)


def _plan(files: tuple[Path, ...], given: Mapping[str, Any]) -> Plan:
    from producer_pool.cli.benching.ways import Way

    if given["spool_sync"] is not None and given["spool"] is None:
        raise click.UsageError("--spool-sync needs --spool, too")
    registry = registry_with(files)
    only = dict(given["client_options"]), dict(given["listener_options"])

    def way(name: str, text: str) -> Way:
        try:
            return Way.of(text, registry, *only)
        except UsageError as error:
            raise click.BadParameter(str(error), param_hint=name) from None

    ways: list[Way | Elsewhere] = [way("--over", given["over"])]
    if given["against"] is not None:
        ways.append(way("--against", given["against"]))
    into = way("--from", given["into"]) if given["into"] is not None else None
    return _made(ways, into, given["consumers"], files, given)


def _made(
    ways: Sequence[Way | Elsewhere],
    into: Way | None,
    consumers: int,
    files: tuple[Path, ...],
    given: Mapping[str, Any],
) -> Plan:
    from producer_pool.cli.benching.plan import RATE as USUAL
    from producer_pool.cli.benching.plan import Plan

    rates = [None, *given["rates"]] if given["flat_out"] else [*given["rates"]] or [None, USUAL]
    return Plan.made(
        ways,
        into,
        size=given["size"],
        parties=(given["producers"], consumers),
        batch=given["batch"],
        rates=rates,
        seconds=given["seconds"],
        plugins=files,
        spool=(given["spool"], given["spool_sync"]) if given["spool"] is not None else None,
    )
