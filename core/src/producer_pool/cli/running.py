"""From the options of a daemon to its exit code."""
# Rule: nothing here needs click. A daemon that is started as usual never loads it.

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from producer_pool.cli.configuration import (
    Problems,
    factory_for,
    no_producers,
    read_settings,
    without_bad_letters,
)
from producer_pool.cli.exits import CONFIGURATION, explained, leave, start_code_for
from producer_pool.cli.mixtures import mixtures

__all__ = ["log_to_stderr", "run_daemon"]


def run_daemon(given: Mapping[str, Any]) -> None:
    """Run the daemon that the options in *given* describe, and exit with its code."""
    with explained(start_code_for):
        log_to_stderr("warning")  # for what is found out while the level is not known yet
        problems = Problems()
        settings = read_settings(given, problems)
        problems.errors += mixtures(settings)
        log_to_stderr(settings.log_level)
        factory = factory_for(settings, problems)
        if not settings.producers and not problems.errors:
            leave(CONFIGURATION, no_producers())
        settings = without_bad_letters(settings, factory, problems)
        import asyncio

        from producer_pool.cli.daemon import Daemon
        from producer_pool.direct import POSSIBLE, DirectLoop
        from producer_pool.sturdy import SturdyLoop

        with asyncio.Runner(loop_factory=DirectLoop if POSSIBLE else SturdyLoop) as runner:
            code = runner.run(Daemon(settings, factory, problems).run())
        sys.exit(code)


def log_to_stderr(level: str, layout: str = "%(asctime)s %(levelname)-7s %(message)s") -> None:
    """Write log lines of *level* and above to stderr."""
    logging.basicConfig(level=level.upper(), format=layout, stream=sys.stderr, force=True)
