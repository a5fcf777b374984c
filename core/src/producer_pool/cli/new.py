"""``producer-pool plugins new``: a complete package for a protocol of one's own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from producer_pool.cli.exits import FAILED, explained, leave

__all__ = ["new"]


@click.command(
    epilog="""\b
Examples:
  producer-pool plugins new fifo
  producer-pool plugins new fifo --directory ~/src --author "Ada Lovelace"

\b
Exit codes: 0 done, 1 a file cannot be written, 2 usage."""
)
@click.argument("scheme")
@click.option(
    "--directory",
    default=".",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the new folder is put. Default: here.",
)
@click.option("--distribution", metavar="NAME", help="Default: producer-pool-SCHEME.")
@click.option("--author", metavar="NAME", help="Whom the licence names. Default: the project's contributors.")
def new(scheme: str, directory: Path, distribution: str | None, author: str | None) -> None:
    """
    Write a complete package for the protocol SCHEME.

    It has code for both ends, tests that pass at once, and all that is needed to publish it. What is
    yours to change is marked with EDIT.
    """
    from producer_pool import __version__
    from producer_pool.cli.scaffold.files import render, write
    from producer_pool.cli.scaffold.names import Names
    from producer_pool.discovery.registry import default_registry
    from producer_pool.model.errors import ConfigurationError

    with explained():
        installed = default_registry().installed()
    try:
        names = Names.of(scheme, distribution=distribution, author=author)
        names.check_free(installed)
        texts = render(names, __version__)
        folder = directory / names.distribution
        write(texts, folder)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        leave(FAILED, [f"cannot write {error.filename or directory}: {error.strerror}"])
    print(f"{folder} has {len(texts)} files; what is yours to change in them is marked with EDIT. Next:")
    print(f"  cd {shlex.quote(str(folder))}")
    print('  python -m pip install -e ".[test]"')
    print("  python -m pytest")
    sys.stdout.flush()
