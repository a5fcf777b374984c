"""A spool for people, and its messages for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from producer_pool.cli.output import printable
from producer_pool.model.text import format_count, format_size
from producer_pool.storage.dead_letters_document import iso_time, written

if TYPE_CHECKING:
    from producer_pool.storage.inspecting import Found
    from producer_pool.storage.record import Row

__all__ = ["facts", "faults", "in_json", "rows", "sync_in_words", "verdict"]


def facts(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what status() found, a line each."""
    yield f"folder    {printable(found['folder'])}"
    if found["pid"] is not None:
        told = "" if found["time"] is None else f", as of {max(0.0, time.time() - found['time']):.0f} s ago"
        yield f"in use    by process {found['pid']}{told}"
    else:
        yield "in use    no"
    if found["messages"] is not None:
        yield f"messages  {found['messages']:,}"
        yield f"size      {_mib(found['bytes'])} of {_limit(found['size'])}"
        yield f"sync      {sync_in_words(found['sync']) or '?'}"
    if found["trouble"]:
        yield f"trouble   {printable(found['trouble'])}"
    if found["damaged"]:
        yield f"damaged   {printable(found['damaged'])}; the next pool that uses it keeps what can be read"
    for path in found["set_aside"]:
        yield f"set aside {printable(path)}"


def _mib(nbytes: int | None) -> str:
    return "?" if nbytes is None else f"{nbytes / 1024 / 1024:,.1f} MiB"


def _limit(nbytes: int | None) -> str:
    """Return a size as its setting is written."""
    return "?" if nbytes is None else format_size(nbytes)


def sync_in_words(sync: object) -> str | None:
    """Return how a spool syncs, as its setting is written; None: it is not known."""
    if sync == 0:
        return "always"
    if isinstance(sync, int | float):
        return f"interval:{sync * 1000:g}ms"
    return None if sync is None else str(sync)


def rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each producer, the largest backlog first."""
    producers = sorted(found["producers"].items(), key=lambda item: -item[1]["bytes"])
    return [
        (
            printable(name),
            f"{one['messages']:,}",
            f"{one['bytes']:,}",
            "-" if one["oldest"] is None else f"{one['oldest']:,.0f} s",
            "not a producer now: producer-pool spool forget" if one["joined"] is False else "",
        )
        for name, one in producers
    ]


def verdict(found: Found) -> Iterator[str]:
    """Yield what verify() found, a line each."""
    yield f"{_batches(found.rows)} and {format_count(found.messages, 'message')} are whole"
    yield from faults(found)


def faults(found: Found) -> Iterator[str]:
    """Yield what is wrong with a spool, a line each."""
    if found.structure:
        yield f"the database is damaged: {printable(found.structure)}"
    if found.damaged_rows:
        more = ", ..." if found.damaged_rows > len(found.damaged) else ""
        numbers = ", ".join(map(str, found.damaged))
        yield f"{_batches(found.damaged_rows)} damaged: {numbers}{more}"
    if found.missing:
        yield f"{format_count(found.missing, 'message')} damaged or gone that somebody waits for"


def _batches(count: int) -> str:
    return format_count(count, "batch", "batches")


def in_json(row: Row, number: int, message: bytes) -> bytes:
    """Return a message as one line of JSON, with what is known of it."""
    described = {
        "number": number,
        "stored": iso_time(row.wall),
        "origin": row.origin or None,
        "producers": None if row.targets is None else json.loads(row.targets),
    }
    return json.dumps({**described, **written(message)}).encode() + b"\n"
