"""``producer-pool spool``: what lies in a spool, whether it is whole, and how to get at it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from producer_pool.cli.exits import DONE, FAILED, complain, explained, leave
from producer_pool.cli.group import Group
from producer_pool.cli.output import print_json, print_table, printable, write_all
from producer_pool.model.text import format_count

if TYPE_CHECKING:
    from producer_pool.storage.inspecting import Found

__all__ = ["spool"]

# Whether it can be read is found out when it is: click's own word for it names no next step.
_PATH: Final = click.Path(path_type=Path, readable=False)
_FOLDER: Final = click.argument("folder", type=_PATH)
_PIECE: Final = 256 * 1024


@click.group(
    cls=Group,
    short_help="Look into a spool, check it, and get messages out of it.",
    epilog="""\b
Examples:
  producer-pool run --to audit=tcp://127.0.0.1:9000 --spool spool
  producer-pool spool status spool
  producer-pool spool verify spool
  producer-pool spool export spool --producer audit > messages
  producer-pool spool salvage spool/spool.db.damaged-1 rescued""",
)
def spool() -> None:
    """
    Look into FOLDER, where a pool with spool= keeps messages.

    `status` works while a daemon uses it. All others name the process that does, and end.
    """


@spool.command(
    epilog="""\b
Examples:
  producer-pool spool status spool
  producer-pool spool status spool --json

\b
Exit codes: 0 done, 1 there is no spool, or it is damaged or in trouble, 2 usage."""
)
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
def status(folder: Path, as_json: bool) -> None:
    """Show what lies in FOLDER, and for whom. Of one that is in use, as it was a moment ago."""
    from producer_pool.cli.spool_text import facts, rows, sync_in_words
    from producer_pool.storage.inspecting import status as look

    with explained(), _disk(folder):
        found = look(folder)
    if as_json:
        print_json({**found, "sync": sync_in_words(found["sync"])})
    else:
        print("\n".join(facts(found)))
        if found["producers"]:
            print()
            print_table(("producer", "messages", "bytes", "oldest", "note"), rows(found))
    sys.stdout.flush()
    sys.exit(FAILED if found["damaged"] or found["trouble"] else DONE)


@spool.command(
    epilog="""\b
Examples:
  producer-pool spool verify spool
  producer-pool spool verify spool --json

\b
Exit codes: 0 it is whole, 1 it is damaged, in use, or none, 2 usage."""
)
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
def verify(folder: Path, as_json: bool) -> None:
    """
    Read all of FOLDER, and compare each batch with its checksum. Changes nothing.

    A pool that finds damage goes on by itself: it sets the database aside, and keeps what can be read.
    """
    from producer_pool.storage.inspecting import verify as check

    with explained(), _disk(folder):
        found = check(folder)
    if as_json:
        print_json(
            {
                "whole": found.whole,
                "batches": found.rows,
                "messages": found.messages,
                "damaged": found.damaged_rows,
                "damaged_numbers": found.damaged,
                "missing_messages": found.missing,
                "structure": found.structure,
            }
        )
    else:
        from producer_pool.cli.spool_text import verdict

        print("\n".join(verdict(found)), flush=True)
    sys.exit(DONE if found.whole else FAILED)


@spool.command(
    epilog="""\b
Examples:
  producer-pool spool export spool > messages
  producer-pool spool export spool --producer audit --framing length4 > messages
  producer-pool spool export spool/spool.db.damaged-1 --json

\b
Exit codes: 0 done, 1 no spool, in use, something of it is lost, or a newline in a message, 2 usage."""
)
@click.argument("source", type=_PATH)
@click.option("--producer", metavar="ID", help="Only what this producer waits for.")
@click.option(
    "--framing",
    type=click.Choice(["lines", "length4"]),
    default="lines",
    help="How messages are marked off. Default: lines.",
)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object for each message, a line each.")
def export(source: Path, producer: str | None, framing: str, as_json: bool) -> None:
    """
    Write the messages in SOURCE to stdout, in their order. Changes nothing.

    SOURCE is a folder, or a database that was set aside; what is damaged is left out.
    """
    from producer_pool.cli.spool_text import in_json
    from producer_pool.model.framing import framing_named
    from producer_pool.storage.inspecting import Found, stored_in

    found = Found()
    chosen = framing_named(framing)
    piece = bytearray()
    misfits = 0
    with explained(), _disk(source):
        for row, stored in stored_in(source, producer, found):
            messages = list(stored.batch)
            if as_json:
                piece += b"".join(in_json(row, stored.number, message) for message in messages)
            else:
                wrong = set(chosen.misfits(messages, chosen.encode(messages)))
                misfits += len(wrong)
                piece += chosen.encode([one for at, one in enumerate(messages) if at not in wrong])
            if len(piece) >= _PIECE:
                write_all(bytes(piece))
                piece.clear()
        write_all(bytes(piece))
    if misfits:
        left_out = format_count(misfits, "message")
        complain(f"{left_out} with a newline inside left out; use --framing length4 or --json")
    _tell_faults(source, found)
    sys.exit(FAILED if misfits or found.lost else DONE)


@spool.command(
    epilog="""\b
Examples:
  producer-pool spool salvage spool/spool.db.damaged-1 rescued
  producer-pool run --spool rescued --to audit=tcp://127.0.0.1:9000

\b
Exit codes: 0 done, 1 SOURCE is none or in use, some of it is lost, or FOLDER cannot be used, 2 usage."""
)
@click.argument("source", type=_PATH)
@_FOLDER
def salvage(source: Path, folder: Path) -> None:
    """
    Read what can be read of SOURCE into a new spool in FOLDER.

    SOURCE, a folder or a database that was set aside, is not changed. Where it cannot be read any more who
    had got what, all of it is sent again by the pool that uses FOLDER.
    """
    from producer_pool.storage.inspecting import salvage as rescue

    with explained(), _disk(folder):
        found = rescue(source, folder)
    kept = f"{format_count(found.rows, 'batch', 'batches')}, {format_count(found.messages, 'message')}"
    _tell_faults(source, found)
    print(f"{kept} in {folder}", file=sys.stderr)
    sys.exit(FAILED if found.lost else DONE)


@spool.command(
    epilog="""\b
Examples:
  producer-pool spool forget spool audit
  producer-pool spool forget spool audit --yes

\b
Exit codes: 0 done, 1 not confirmed, no spool, in use, or no such producer in it, 2 usage."""
)
@_FOLDER
@click.argument("producer")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(folder: Path, producer: str, yes: bool) -> None:
    """
    Drop what is kept in FOLDER for PRODUCER, which will not come back.

    What was stored for a producer that is not configured any more waits until it comes back, or this is done.
    """
    from producer_pool.storage.inspecting import forget as drop

    def agreed(messages: int) -> bool:
        if yes or not messages:
            return True
        kept = format_count(messages, "message")
        return click.confirm(f"Drop {kept} kept for {printable(producer)} for good?", err=True)

    with explained(), _disk(folder):
        messages = drop(folder, producer, agreed)
    if messages is None:
        leave(FAILED, ["nothing was dropped"])
    print(f"{format_count(messages, 'message')} dropped for {printable(producer)}", file=sys.stderr)


def _tell_faults(source: Path, found: Found) -> None:
    from producer_pool.cli.spool_text import faults

    for fault in faults(found):
        complain(f"{printable(str(source))}: {fault}")
    if found.structure:
        complain(f"{printable(str(source))}: {format_count(found.messages, 'message')} could be read of it")


class _disk:
    """Makes one line of an error of the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import sqlite3

        from producer_pool.model.errors import StorageError

        if isinstance(error, OSError | sqlite3.Error) and not isinstance(error, StorageError):
            if isinstance(error, BrokenPipeError):
                return  # Who read what was written is gone: that is no matter of this disk.
            if isinstance(error, PermissionError):
                path = error.filename or self._folder
                raise StorageError(
                    f"{path} cannot be used: {error.strerror}; see its rights, or do this as its owner"
                ) from error
            raise StorageError(f"{self._folder} cannot be used: {error}; see the disk") from error
