"""What is printed: data to stdout, whole, to whoever still reads it; and talk that makes nobody wait."""

from __future__ import annotations

import importlib.util
import logging
import os
import select
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Final

__all__ = [
    "JsonPrinter",
    "LinePrinter",
    "log_through",
    "print_json",
    "print_table",
    "printable",
    "write_all",
]


_BEHIND: Final = 1000
"""Lines that may wait to be printed."""
_COLOURS: Final = {
    "error": "red",
    "unreachable": "red",
    "connected": "green",
    "broken": "red",
    "kept": "green",
    "skipped": "yellow",
}
"""Of words that stand at the beginning of a cell."""


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


def printable(text: str) -> str:
    """Return *text* with all that would be more than text to a terminal spelt out."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def print_json(value: Any) -> None:
    """Print one JSON value in one line."""
    import json

    print(json.dumps(value), flush=True)


class LinePrinter:
    """Prints lines on a thread of its own: a reader that does not read makes nobody wait."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        # A daemon: a write that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=f"print-{fd}", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Print *text* and a line end, unless so many wait already that nobody seems to read."""
        if self._lines.qsize() < _BEHIND:
            self._lines.put(text.encode(errors="backslashreplace") + b"\n")

    def finish(self, wait: float) -> None:
        """Print what waits, for at most *wait* seconds."""
        self._lines.put(None)
        self._thread.join(wait)

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                write_all(line, self._fd)
            except OSError:
                return  # Who read this is gone.


class JsonPrinter(LinePrinter):
    """Prints JSON values, each in one line, on a thread of its own."""

    def __init__(self, fd: int = 1) -> None:
        super().__init__(fd)
        from json import dumps

        self._dumps = dumps

    def tell(self, value: Any) -> None:
        """Print *value*, unless so many wait already that nobody seems to read."""
        self.put(self._dumps(value))


class _PrinterHandler(logging.Handler):
    """Writes log lines through a LinePrinter."""

    def __init__(self, printer: LinePrinter, like: logging.Handler) -> None:
        super().__init__(like.level)
        self.setFormatter(like.formatter)
        self._printer = printer

    def emit(self, record: logging.LogRecord) -> None:
        self._printer.put(self.format(record))


@contextmanager
def log_through(printer: LinePrinter) -> Iterator[None]:
    """Have log lines written by *printer* instead of the handlers that there are."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers[:] = [_PrinterHandler(printer, handler) for handler in handlers]
    try:
        yield
    finally:
        root.handlers[:] = handlers


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """
    Print a table: with lines and colours on a terminal, in plain columns elsewhere, or without rich.

    Of a text of several lines, it has the first. What stands in the first column is never cut.
    """
    rows = [[_first_line(text) for text in row] for row in rows]
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
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
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=not number)
    for row in rows:
        table.add_row(*(Text(text, _style(text)) for text in row))
    Console().print(table)


def _first_line(text: str) -> str:
    first, more, _ = text.partition("\n")
    return f"{first} ..." if more else first


def _style(text: str) -> str:
    word = text.partition(":")[0].partition(" ")[0]
    return _COLOURS.get(word, "")
