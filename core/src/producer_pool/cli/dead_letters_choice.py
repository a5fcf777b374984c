"""Which dead letters a command means, as it is said on the command line."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from producer_pool.cli.exits import FAILED, complain, leave
from producer_pool.cli.output import printable
from producer_pool.model.errors import ConfigurationError, StorageError
from producer_pool.model.text import parse_duration

if TYPE_CHECKING:
    from producer_pool.storage.dead_letters import LetterFile
    from producer_pool.storage.dead_letters_values import Choice

__all__ = ["FOLDER", "MOMENT", "NUMBERS", "check_known", "choice_options", "chosen", "opened"]

F = TypeVar("F", bound=Callable[..., Any])


class _Numbers(click.ParamType[range]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        match = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", value)
        if match is None:
            self.fail(f"{value!r} is no id such as 17, nor a range such as 17-20", param, ctx)
        return range(int(match[1]), int(match[2] or match[1]) + 1)


class _Moment(click.ParamType[float]):
    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return time.time() - parse_duration(value)
        except ConfigurationError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            text = "is neither a duration such as 2h, nor a time such as 2026-11-25T17:30:00Z"
            self.fail(f"{value!r} {text}", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


FOLDER: Final = click.Path(path_type=Path, readable=False)
"""Where letters are. Whether they can be read is said by opened(), with the next step."""
NUMBERS: Final = _Numbers()
"""Ids: ``17`` or ``17-20``."""
MOMENT: Final = _Moment()
"""Seconds since 1970, from how long ago it was, or from a time, which is in UTC unless it says otherwise."""


def choice_options(command: F) -> F:
    """Add the filters to *command*: what it is given goes to chosen()."""
    options = (
        click.option("--producer", metavar="ID", help="Only what this producer gave up."),
        click.option(
            "--reason", metavar="NAME", help="Only what was given up for this reason, such as Rejected."
        ),
        click.option(
            "--since", type=MOMENT, metavar="TIME", help="Only what was given up since then: 2h, or a time."
        ),
        click.option("--before", type=MOMENT, metavar="TIME", help="Only what was given up before then."),
    )
    return reduce(lambda made, option: option(made), reversed(options), command)


def chosen(given: Mapping[str, Any], *, must_choose: str = "") -> Choice:
    """
    Return what the filters and ids in *given* mean, all of them together.

    Raises:
        click.UsageError: nothing says which letters, and *must_choose* names what would be done to all.
    """
    from producer_pool.storage.dead_letters_values import Choice

    numbers = given.get("numbers") or ()
    filters = {name: given[name] for name in ("producer", "reason", "since", "before")}
    some = bool(numbers) or any(value is not None for value in filters.values())
    if must_choose and some == bool(given["everything"]):
        raise click.UsageError(
            "--all means all: leave out ids and filters"
            if some
            else f"which letters? name their ids, filter them, or {must_choose} --all"
        )
    choice = Choice(producer_id=filters["producer"], reason=filters["reason"], numbers=tuple(numbers) or None)
    return choice.between(filters["since"], filters["before"])


def check_known(file: LetterFile, choice: Choice) -> None:
    """
    End the process if *choice* names an id that no letter has, before anything is done.

    Where no letter has its producer or its reason, say which there are: that may be as it should.
    """
    if choice.numbers is None and choice.producer_id is None and choice.reason is None:
        return
    producers: set[str] = set()
    reasons: set[str] = set()
    unseen = list(choice.numbers or ())
    for letter in file.letters():
        producers.add(letter.producer_id)
        reasons.add(letter.reason)
        unseen = [numbers for numbers in unseen if letter.number not in numbers]
    folder = file.path.parent
    if unseen:
        names = ", ".join(_named(numbers) for numbers in unseen)
        leave(FAILED, [f"{folder} holds no letter {names}; see: producer-pool dead-letters list {folder}"])
    for what, name, known in (
        ("the producer", choice.producer_id, producers),
        ("the reason", choice.reason, reasons),
    ):
        # Where there is none at all, the sum says it.
        if name is not None and known and name not in known:
            names = ", ".join(sorted(known))
            complain(printable(f"no letter has {what} {name!r}; known: {names}"))


def _named(numbers: range) -> str:
    return str(numbers.start) if len(numbers) == 1 else f"{numbers.start}-{numbers.stop - 1}"


@contextmanager
def opened(folder: Path, *, change: bool = False) -> Iterator[LetterFile]:
    """
    Open the letters of *folder*, and tell of files there that could not be read once.

    Raises:
        StorageError: there are none, or they cannot be read.
    """
    from producer_pool.storage.dead_letters import FILE, LetterFile

    try:
        there = (folder / FILE).exists()
    except OSError as error:
        raise StorageError(_closed(folder, error.strerror)) from error
    if there and not os.access(folder / FILE, os.R_OK):
        raise StorageError(_closed(folder / FILE, os.strerror(errno.EACCES)))
    if not there:
        raise StorageError(
            f"{folder}: no dead letters there, as there is no {FILE} in it; "
            "name the folder that dead-letters= names"
        )
    with LetterFile(folder, new=change) as file:
        yield file
        aside = [path.name for path in folder.glob(f"{FILE}.unreadable-*")]
        if aside := sorted(name for name in aside if not name.endswith("-journal")):
            complain(f"in {folder}, files were set aside that could not be read: {', '.join(aside)}")


def _closed(path: Path, why: str | None) -> str:
    return f"{path} cannot be read: {why}; see its rights, or do this as its owner"
