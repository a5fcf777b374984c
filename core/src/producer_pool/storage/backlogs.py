"""What lies in a database for one producer: how much it is, the batches themselves, and what is missing."""
# Rule: an open database is read, and nothing is changed: who called this writes down what follows.

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from producer_pool.model.policies import Spool
from producer_pool.model.stored import Backlog, StoredBatch
from producer_pool.storage.database import Database, Totals
from producer_pool.storage.positions import NEVER, Position, Span, free
from producer_pool.storage.record import Row, checked, part_nbytes, parts_in, stored, targets_of

__all__ = ["Missing", "backlog_of", "oldest_age", "passed", "read_batches", "shown_of", "skipped"]


class Missing(NamedTuple):
    """Messages and bytes that were stored and cannot be read any more."""

    messages: int
    nbytes: int

    def up_to(self, expected: Totals | None, found: Totals) -> Missing:
        """Return this and what is missing between *expected* and *found*."""
        if expected is None or found[0] <= expected[0]:
            return self
        return Missing(self.messages + found[0] - expected[0], self.nbytes + max(0, found[1] - expected[1]))


def backlog_of(database: Database, producer_id: str, position: Position, totals: Totals) -> Backlog:
    """Return what lies there for *producer_id*; *totals* are those of all that is stored."""
    until = NEVER if position.until is None else position.until
    end = totals if position.until is None else database.totals_at(until)
    messages, nbytes = 0, 0
    last = position.number
    for span in _open_spans(position, until):
        begins = database.totals_at(span[0])
        # Where a span ends because the next one was skipped, the totals of what follows hold that, too.
        ends = end if span[1] >= until else database.totals_up_to(span[1]) or begins
        some, size, number = database.targeted(producer_id, span)
        messages += max(0, ends[0] - begins[0]) + some
        nbytes += max(0, ends[1] - begins[1]) + size
        last = max(last, number, database.last_for_all(span))
    return Backlog(position.number, last if messages else position.number, messages, nbytes)


def _open_spans(position: Position, until: int) -> list[Span]:
    """Return the spans that *position* has not settled, up to *until*."""
    spans = []
    begin = position.number
    for after, upto in position.skipped:
        spans.append((begin, min(after, until)))
        begin = upto
    spans.append((begin, until))
    return [span for span in spans if span[0] < span[1]]


def oldest_age(
    database: Database, producer_id: str, position: Position, age: Callable[[Row], float | None]
) -> float | None:
    """Return the age of the oldest batch for *producer_id* behind *position*."""
    with closing(database.heads(position.number, producer_id)) as heads:
        columns = next(heads, None)
    return None if columns is None else age(Row(*columns))  # type: ignore[arg-type]


def shown_of(
    database: Database,
    spool: Spool,
    positions: Mapping[str, Position],
    joined: Collection[str],
    totals: Totals,
    age: Callable[[Row], float | None],
) -> dict[str, Any]:
    """Return what people are told about a spool."""
    producers: dict[str, dict[str, Any]] = {}
    for name, position in positions.items():
        backlog = backlog_of(database, name, position, totals)
        producers[name] = {
            "messages": backlog.messages,
            "bytes": backlog.nbytes,
            "oldest": oldest_age(database, name, position, age) if backlog.messages else None,
            "joined": name in joined,
        }
    first = min((position.number for position in positions.values()), default=0)
    return {
        "pid": os.getpid(),
        "sync": spool.sync if spool.sync < math.inf else "os",
        "size": spool.size,
        "bytes": database.nbytes(),
        "messages": totals[0] - database.totals_at(first)[0],
        "producers": producers,
    }


def passed(positions: Mapping[str, Position], targets: str | None) -> list[Span]:
    """Return what nobody waits for any more, of rows for *targets*."""
    return free(positions, None if targets is None else targets_of(targets))


def read_batches(
    rows: Iterable[tuple[object, ...]],
    position: Position,
    after: int,
    most: int,
    expected: Totals | None,
    age: Callable[[Row], float],
) -> tuple[list[StoredBatch], int | None, Missing, Totals | None]:
    """
    Return batches behind *after*, how far that is, what is missing between them, and the totals there.

    About *most* bytes are read, one row at the least. None for how far: there is nothing behind it.
    """
    batches: list[StoredBatch] = []
    lost = Missing(0, 0)
    size = 0
    at = after
    for columns in rows:
        row = checked(columns)
        if row is None:
            continue  # The totals of the next one tell what it held.
        if row.targets is None:
            if row.first > at and not _skips(position, at, row.first):
                lost = lost.up_to(expected, (row.total, row.total_nbytes))
            expected = row.total + row.messages, row.total_nbytes + row.nbytes
        batches += [one for one in stored(row, after, age(row)) if position.wants(one.number)]
        at = row.number
        size += row.nbytes
        if size >= most and batches:
            return batches, at, lost, expected
    return batches, None, lost, None if _skips(position, at, NEVER) else expected


def _skips(position: Position, after: int, upto: int) -> bool:
    """Return whether something between these numbers was skipped: then totals do not say what is lost."""
    # What was skipped is joined to what is settled in front of it as soon as all up to there is.
    return any(begin < upto and end > after for begin, end in position.settled())


def skipped(
    heads: Iterable[tuple[object, ...]],
    position: Position,
    after: int,
    stop: Callable[[Row, int], bool],
) -> tuple[int, int, int]:
    """Return up to where *heads* are dropped until *stop*, asked with the bytes so far; messages; bytes."""
    upto, messages, nbytes = after, 0, 0
    for columns in heads:
        row = Row(*columns)  # type: ignore[arg-type]
        if stop(row, nbytes):
            break
        upto = row.number
        if row.parts is None:
            if position.wants(row.number):
                messages += row.messages
                nbytes += row.nbytes
            continue
        for number, some, size in parts_in(row.parts, row.number, row.messages, 0):
            if number > after and position.wants(number):
                messages += some
                nbytes += part_nbytes(row.framing, some, size)
    return upto, messages, nbytes
