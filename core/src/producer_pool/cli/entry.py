"""Where the command line begins, also where what it needs is not installed."""
# Rule: nothing here may need click: it is an extra, and a daemon that is started as usual never loads it.

from __future__ import annotations

import os
import sys
from typing import Any, Final

from producer_pool.cli.exits import CONFIGURATION, explained, leave
from producer_pool.cli.latecomers import let_come_late
from producer_pool.cli.memory import begin_without_collecting, collect_at_the_end

__all__ = ["main"]

_COMPLETION: Final = "_PRODUCER_POOL_COMPLETE"
"""In the environment: click is asked by a shell how a command might go on."""


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    begin_without_collecting()
    try:
        let_come_late()
        with explained():
            given = _plain_run(sys.argv[1:])
            if given is None:
                _ask_click()
            else:
                from producer_pool.cli.running import run_daemon

                run_daemon(given)
    finally:
        collect_at_the_end()


def _plain_run(arguments: list[str]) -> dict[str, Any] | None:
    """Return the options of ``run``, if that is what is asked for, and in plain words."""
    if arguments[:1] != ["run"] or _COMPLETION in os.environ:
        return None
    from producer_pool.cli.words import plain_options

    return plain_options(arguments[1:])


def _ask_click() -> None:
    try:
        from producer_pool.cli.group import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        why = "the command line needs click, which is not installed"
        leave(CONFIGURATION, [f'{why}; try: pip install "producer-pool[cli]"'])
    cli(prog_name="producer-pool")
