"""Where the command line begins, also where what it needs is not installed."""
# Rule: nothing here may need click: it is an extra.

from __future__ import annotations

import sys

from producer_pool.cli.exits import CONFIGURATION
from producer_pool.cli.latecomers import let_come_late

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    let_come_late()
    try:
        from producer_pool.cli.group import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print(
            "producer-pool: the command line needs click, which is not installed; "
            'try: pip install "producer-pool[cli]"',
            file=sys.stderr,
        )
        sys.exit(CONFIGURATION)
    cli(prog_name="producer-pool")
