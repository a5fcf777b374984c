"""``producer-pool run``: the daemon."""

from __future__ import annotations

from typing import Any

import click

from producer_pool.cli.options import PoolCommand, pool_options
from producer_pool.cli.running import run_daemon

__all__ = ["run"]


@click.command(
    cls=PoolCommand,
    short_help="Run the daemon: messages in, each to every consumer.",
    epilog="""\b
Examples:
  producer-pool run --to tcp://127.0.0.1:9000
  producer-pool run --listen tcp://127.0.0.1:9100 --to billing=tcp://10.0.0.5:9000 --to archive=tcp://10.0.0.6:9000
  producer-pool run --to 'tcp://127.0.0.1:9000?buffer=256MiB&overflow=drop-newest&deadline=1h'
  PRODUCER_CONSUMER1=tcp://127.0.0.1:9000 PRODUCER_CONSUMER2=tcp://127.0.0.1:9001 producer-pool run
  producer-pool run --config pool.toml

\b
Signals:
  SIGTERM, SIGINT  stop listening, read what has arrived, deliver what is queued for at most --drain,
                   report; the second one leaves at once
  SIGUSR1          write a status line now, and not only each minute
  SIGHUP           nothing

\b
Exit codes:
  0   ended as asked; nothing remained
  1   messages remained undelivered; or a listener could not be started, a spool is in use by another
      process, or its disk is full: what may have passed at the next start
  2   the command line cannot be understood
  78  the configuration cannot be used, names no producer, or a folder in it cannot be used: what
      only a person can change""",
)
@pool_options()
def run(**given: Any) -> None:
    """
    Run the daemon: take messages in, and forward each to every consumer.

    Consumers that are down get what was queued for them when they come back, oldest first. The command
    line comes before the environment, that before a file, and that before the defaults.
    """
    run_daemon(given)
