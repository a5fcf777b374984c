"""Where the command line begins, also where what it needs is not installed."""
# Rule: nothing here may need click: it is an extra.

from __future__ import annotations

from producer_pool.cli.exits import CONFIGURATION, explained, leave
from producer_pool.cli.latecomers import let_come_late

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    let_come_late()
    with explained():
        try:
            from producer_pool.cli.group import cli
        except ModuleNotFoundError as error:
            if error.name != "click":
                raise
            why = "the command line needs click, which is not installed"
            leave(CONFIGURATION, [f'{why}; try: pip install "producer-pool[cli]"'])
        cli(prog_name="producer-pool")
