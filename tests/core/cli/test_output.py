"""What goes to stdout."""

import json
import os
import threading

import pytest

from producer_pool.cli.output import JsonPrinter, print_json, print_table, write_all
from support.waiting import BOUND


def test_write_all_goes_on_after_a_part() -> None:
    """More than a pipe takes at once is written whole, also where the pipe does not block."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = os.urandom(1_000_000)
    got = bytearray()

    def collect() -> None:
        while chunk := os.read(read, 65536):
            got.extend(chunk)

    reader = threading.Thread(target=collect)
    reader.start()

    write_all(data, write)

    os.close(write)
    reader.join(BOUND)
    os.close(read)
    assert bytes(got) == data


def test_write_all_tells_that_nobody_reads() -> None:
    """A pipe without a reader is an error for whoever writes."""
    read, write = os.pipe()
    os.close(read)

    with pytest.raises(BrokenPipeError):
        write_all(b"x", write)
    os.close(write)


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A value is one line that any terminal and any encoding carries."""
    print_json({"a": "ü\n\udcff"})

    assert capsys.readouterr().out == '{"a": "\\u00fc\\n\\udcff"}\n'


def test_json_printer_makes_nobody_wait() -> None:
    """When nobody reads, values are left out, and whoever tells them goes on; the first ones are whole."""
    read, write = os.pipe()
    printer = JsonPrinter(write)

    for number in range(500):
        printer.tell({"number": number, "filling": "x" * 10_000})
    printer.finish(0.0)

    first = b""
    while b"\n" not in first:
        first += os.read(read, 65536)
    os.close(read)  # and the thread ends: nobody can read any more
    printer.finish(BOUND)
    os.close(write)
    assert json.loads(first.partition(b"\n")[0])["number"] == 0


def test_plain_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stdout is no terminal, a table is columns of plain text, without trailing blanks."""
    print_table(("name", "note"), [("one", ""), ("three", "x")])

    assert capsys.readouterr().out == "NAME   NOTE\none\nthree  x\n"


def test_text_of_several_lines_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row is a line: it has the first of them, and shows that there are more."""
    print_table(("name", "note"), [("one", "it said: this\nand that")])

    assert capsys.readouterr().out == "NAME  NOTE\none   it said: this ...\n"


def test_names_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a row is about stays in one piece, to be found and copied; the rest gives way."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    name = "listener-reads-nothing-while-paused"

    print_table(("rule", "why"), [(name, "a long reason " * 20)])

    assert name in capsys.readouterr().out


def test_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, it has lines; text that looks like markup stays text."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    print_table(("name",), [("[red]one",)])

    shown = capsys.readouterr().out
    assert "[red]one" in shown
    assert "─" in shown


def test_table_on_a_terminal_without_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rich, a terminal gets the plain table."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    print_table(("name",), [("one",)])

    assert capsys.readouterr().out == "NAME\none\n"
