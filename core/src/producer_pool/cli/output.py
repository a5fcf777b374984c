"""What goes to stdout: data, whole, and to whoever still reads it."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["print_json", "print_table", "write_all"]


def write_all(data: bytes, fd: int = 1) -> None:
    """
    Write all of *data* now, past every buffer: what was written survives the end of this process.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Somebody shares the other side of our stdout and made it non-blocking.
            select.select((), (fd,), ())


def print_json(value: Any) -> None:
    """Print one JSON value in one line."""
    write_all(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines and colours on a terminal, in plain columns elsewhere."""
    if sys.stdout.isatty():
        _print_rich(headings, rows)
        return
    lines = [[heading.upper() for heading in headings], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    sys.stdout.flush()


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, _style(text)) for text in row))
    Console().print(table)


def _style(text: str) -> str:
    word = text.partition(":")[0].partition(" ")[0]
    return {"error": "red", "unreachable": "red", "connected": "green"}.get(word, "")
