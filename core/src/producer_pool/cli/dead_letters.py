"""``producer-pool dead-letters``: what was given up, and what to do with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer_pool.cli.dead_letters_choice import FOLDER, NUMBERS, check_known, choice_options, chosen, opened
from producer_pool.cli.dead_letters_replay import replay
from producer_pool.cli.exits import FAILED, explained, leave
from producer_pool.cli.group import Group
from producer_pool.cli.output import print_json, print_table, printable, write_all
from producer_pool.model.text import format_count

if TYPE_CHECKING:
    from producer_pool.storage.dead_letters_values import Letter

__all__ = ["dead_letters"]


@click.group(
    cls=Group,
    name="dead-letters",
    short_help="Show, replay or drop what was given up.",
    epilog="""\b
Examples:
  producer-pool run --to audit=tcp://127.0.0.1:9000 --dead-letters letters
  producer-pool dead-letters list letters
  producer-pool dead-letters show letters 17
  producer-pool dead-letters replay letters --all --to audit=tcp://127.0.0.1:9000
  producer-pool dead-letters drop letters 17""",
)
def dead_letters() -> None:
    """
    Show what was given up in FOLDER, deliver it after all, or drop it.

    A letter holds messages that one producer gave up in a row for one reason. A daemon may go on to use the
    folder meanwhile.
    """


dead_letters.add_command(replay)


@dead_letters.command(
    name="list",
    epilog="""\b
Examples:
  producer-pool dead-letters list letters
  producer-pool dead-letters list letters --producer audit --reason Rejected
  producer-pool dead-letters list letters --since 2h --json

\b
Exit codes: 0 done, 1 the folder cannot be read, 2 usage.""",
)
@click.argument("folder", type=FOLDER)
@choice_options
@click.option("--json", "as_json", is_flag=True, help="Write a JSON array.")
def list_(folder: Path, as_json: bool, **given: Any) -> None:
    """List the letters in FOLDER, the oldest first. Times are in UTC."""
    with explained(), opened(folder) as file:
        choice = chosen(given)
        check_known(file, choice)
        letters = list(file.letters(choice))
    if as_json:
        print_json([_in_json(letter) for letter in letters])
        return
    from producer_pool.storage.dead_letters_document import iso_time

    headings = ("id", "given up", "producer", "messages", "bytes", "attempts", "reason", "error")
    rows = [
        (
            str(letter.number),
            iso_time(letter.last),
            printable(letter.producer_id),
            f"{letter.count:,}",
            f"{letter.nbytes:,}",
            str(letter.attempts),
            printable(letter.reason),
            printable(letter.error),
        )
        for letter in letters
    ]
    print_table(headings, rows)
    messages = sum(letter.count for letter in letters)
    print(f"{format_count(len(letters), 'letter')}, {format_count(messages, 'message')}", file=sys.stderr)


def _in_json(letter: Letter) -> dict[str, Any]:
    from producer_pool.storage.dead_letters_document import described, iso_time

    counts = {"id": letter.number, "messages": letter.count, "bytes": letter.nbytes}
    return {**counts, **described(letter), "last": iso_time(letter.last)}


@dead_letters.command(
    epilog="""\b
Examples:
  producer-pool dead-letters show letters 17
  producer-pool dead-letters show letters 17 --json
  producer-pool dead-letters show letters 17 --raw > messages

\b
Exit codes: 0 done, 1 there is no such letter, or it is damaged, 2 usage.""",
)
@click.argument("folder", type=FOLDER)
@click.argument("number", metavar="ID", type=int)
@click.option("--raw", is_flag=True, help="Write the messages as they are, a line each, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object for each message, a line each.")
def show(folder: Path, number: int, raw: bool, as_json: bool) -> None:
    """
    Show one letter and its messages.

    What a terminal would take for more than text is spelt out, and long messages are cut; --raw and --json
    have all of it.
    """
    if raw and as_json:
        raise click.UsageError("--raw and --json are two ways to write the same; choose one")
    with explained(), opened(folder) as file:
        found = file.messages(number)
    if found is None:
        leave(FAILED, [f"{folder} holds no letter {number}; see: producer-pool dead-letters list {folder}"])
    letter, messages = found
    if messages is None:
        leave(FAILED, [f"letter {number} is damaged: its messages are not what was stored"])
    if raw:
        write_all(b"".join(message + b"\n" for message in messages))
    elif as_json:
        from producer_pool.storage.dead_letters_document import document

        for message in messages:
            print_json(document(letter, message))
    else:
        from producer_pool.cli.dead_letters_text import shown

        print("\n".join(shown(letter, messages)), flush=True)


@dead_letters.command(
    epilog="""\b
Examples:
  producer-pool dead-letters drop letters 17 20-25
  producer-pool dead-letters drop letters --producer audit --before 7d --yes
  producer-pool dead-letters drop letters --all

\b
Exit codes: 0 done, 1 not confirmed, no letter of an id, or the folder cannot be changed, 2 usage.""",
)
@click.argument("folder", type=FOLDER)
@click.argument("numbers", metavar="[ID|FROM-TO]...", nargs=-1, type=NUMBERS)
@choice_options
@click.option("--all", "everything", is_flag=True, help="Drop all that is there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(folder: Path, yes: bool, **given: Any) -> None:
    """Drop letters for good: those named, those that all filters fit, or all."""
    choice = chosen(given, must_choose="drop")
    with explained(), opened(folder, change=True) as file:
        check_known(file, choice)
        letters = list(file.letters(choice, latest=file.latest()))
        messages = sum(letter.count for letter in letters)
        text = f"{format_count(messages, 'message')} in {format_count(len(letters), 'letter')}"
        if letters and not yes and not click.confirm(f"Drop {text} for good?", err=True):
            leave(FAILED, ["nothing was dropped"])
        file.remove([letter.number for letter in letters])
        print(f"dropped {text}", file=sys.stderr)
