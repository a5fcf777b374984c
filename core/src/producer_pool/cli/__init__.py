"""The command line: one module a command."""

from producer_pool.cli.entry import main

__all__ = ["main"]
