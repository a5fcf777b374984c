"""Numbered messages and records."""

from pathlib import Path

import pytest

from producer_pool.cli.demo.records import SIZE, Record, message, runs


def test_messages_have_one_size() -> None:
    """So the size of a record tells how many are in it."""
    assert {len(message(number)) for number in (1, 99_999_999)} == {SIZE}


def test_record_tells_its_numbers(tmp_path: Path) -> None:
    """A record is there from the start, and grows with the file."""
    record = Record(tmp_path / "a.txt")
    assert len(record) == 0

    record.path.write_bytes(message(1) + message(3))

    assert len(record) == 2
    assert list(record.numbers()) == [1, 3]


@pytest.mark.parametrize("line", [b"message 1\n", b"message 0000000x\n", b"massage 00000001\n", b"\n"])
def test_record_with_something_else(tmp_path: Path, line: bytes) -> None:
    """What is no message is an error."""
    record = Record(tmp_path / "a.txt")
    record.path.write_bytes(line)

    with pytest.raises(ValueError, match=r"invalid literal|no message"):
        list(record.numbers())


@pytest.mark.parametrize(
    "numbers,expected",
    [
        ([], []),
        ([5], [(5, 5)]),
        ([1, 2, 3], [(1, 3)]),
        ([1, 2, 5, 6], [(1, 2), (5, 6)]),
        ([1, 2, 2, 3], [(1, 2), (2, 3)]),
        ([2, 1], [(2, 2), (1, 1)]),
    ],
)
def test_runs(numbers: list[int], expected: list[tuple[int, int]]) -> None:
    """A gap, a repetition and a wrong order each begin a new run."""
    assert runs(numbers) == expected
