"""The file of dead letters: what is stored is found again, and damage stops nothing."""

import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from producer_pool.model.errors import StorageError
from producer_pool.storage.dead_letters import FILE, LetterFile
from producer_pool.storage.dead_letters_values import Choice
from support.letters import letter, messages_in, stored


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LetterFile]:
    with LetterFile(tmp_path / "letters") as opened:
        yield opened


def test_round_trip(file: LetterFile, tmp_path: Path) -> None:
    """Everything known of a letter comes back, empty messages too, from another process's view as well."""
    made, payload = letter(b"one", b"", b"\0\xff\n", producer_id="bück", error="née \n no")
    file.add([(made, payload)])
    with LetterFile(tmp_path / "letters", new=False) as again:
        (found,) = again.letters()

        assert again.messages(1) == (found, [b"one", b"", b"\0\xff\n"])
    assert found == replace(made, number=1)


def test_modes(file: LetterFile) -> None:
    """Folder and file are their owner's, the journal as well."""
    file.add([letter(b"one")])

    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    for path in file.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_choices(file: LetterFile) -> None:
    """Letters are found by producer, reason and time, all of it together, in the order of storing."""
    file.add(
        [
            letter(b"1"),
            letter(b"2", producer_id="billing"),
            letter(b"3", reason="Full"),
            letter(b"4", given_up=2000.0),
        ]
    )

    assert stored(file) == [[b"1"], [b"2"], [b"3"], [b"4"]]
    assert stored(file, Choice(producer_id="billing")) == [[b"2"]]
    assert stored(file, Choice(reason="Full")) == [[b"3"]]
    assert stored(file, Choice(since=1500)) == [[b"4"]]
    assert stored(file, Choice(before=1500, producer_id="audit", reason="Rejected")) == [[b"1"]]
    assert stored(file, Choice(numbers=(range(1, 3), range(4, 10)))) == [[b"1"], [b"2"], [b"4"]]


def test_many(file: LetterFile) -> None:
    """More letters than are read at once come, each of them once, up to the latest that is asked for."""
    file.add([letter(b"%d" % number) for number in range(700)])

    assert [one.number for one in file.letters()] == list(range(1, 701))
    assert [one.number for one in file.letters(latest=300)] == list(range(1, 301))
    assert file.latest() == 700


def test_remove(file: LetterFile) -> None:
    """Numbers are not given a second time."""
    file.add([letter(b"1"), letter(b"2")])

    assert file.remove([2, 7]) == 1

    file.add([letter(b"3")])

    assert [one.number for one in file.letters()] == [1, 3]


def test_rewrite(file: LetterFile) -> None:
    """What is left of a letter keeps its number, and its counts fit."""
    file.add([letter(b"1", b"22", b"333")])
    (before,) = file.letters()
    file.rewrite([(replace(before, error="again", attempts=5), [b"22"])])
    found = file.messages(before.number)

    assert found is not None
    assert found[1] == [b"22"]
    assert (found[0].count, found[0].nbytes, found[0].error, found[0].attempts) == (1, 2, "again", 5)

    file.remove([1])
    file.rewrite([(before, [b"22"])])

    assert list(file.letters()) == []


def test_two_at_once(file: LetterFile, tmp_path: Path) -> None:
    """One reads, and removes, while another one writes."""
    file.add([letter(b"1")])
    with LetterFile(tmp_path / "letters", new=False) as reader:
        file.add([letter(b"2")])

        assert stored(reader) == [[b"1"], [b"2"]]

        reader.remove([1])
    file.add([letter(b"3")])

    assert stored(file) == [[b"2"], [b"3"]]


def test_folder_is_full(tmp_path: Path) -> None:
    """The oldest give way, are counted, and the newest stays however large it is."""
    with LetterFile(tmp_path, size=256 * 1024) as file:
        for number in range(20):
            file.add([letter(b"%02d" % number * 10_000)])
        kept = [int(one[0][:2]) for one in stored(file) if one]

        assert kept == list(range(20 - len(kept), 20))
        assert 8 <= len(kept) < 14
        assert file.dropped == 20 - len(kept)

        file.add([letter(b"x" * 10**6)])

        assert stored(file) == [[b"x" * 10**6]]


def test_nothing_there(tmp_path: Path) -> None:
    """Who only reads makes no folder, and is told that there is none."""
    with pytest.raises(StorageError, match="no dead letters there"):
        LetterFile(tmp_path / "nowhere", new=False)
    assert not (tmp_path / "nowhere").exists()


def test_before_the_first_letter(tmp_path: Path) -> None:
    """A folder that is in use and has had no letter yet is empty."""
    LetterFile(tmp_path).make()

    assert messages_in(tmp_path) == []


def test_folder_is_removed_meanwhile(file: LetterFile) -> None:
    """The next letter goes into a new one, and not into a file that nobody can find."""
    file.add([letter(b"1")])
    for path in file.path.parent.iterdir():
        path.unlink()
    file.path.parent.rmdir()
    file.add([letter(b"2")])

    assert messages_in(file.path.parent) == [b"2"]


# -- damage ----------------------------------------------------------------------------------------


def spoil(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)


def asides(file: LetterFile) -> list[str]:
    return sorted(path.name for path in file.path.parent.glob("*unreadable*") if "journal" not in path.name)


def test_no_database(file: LetterFile) -> None:
    """A file that cannot be read is set aside by who writes, and told of to who only reads."""
    file.add([letter(b"1")])
    file.close()
    file.path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageError, match=r"is damaged; whoever next writes, replays or drops"):
        LetterFile(file.path.parent, new=False)

    assert asides(file) == []

    file.add([letter(b"2")])

    assert stored(file) == [[b"2"]]
    assert asides(file) == [f"{FILE}.unreadable-1"]


def test_damaged_twice(file: LetterFile) -> None:
    """What was set aside before stays."""
    file.make()
    for number in (1, 2):
        file.close()
        file.path.write_bytes(b"damage %d" % number * 1000)
        file.add([letter(b"x")])

    assert asides(file) == [f"{FILE}.unreadable-1", f"{FILE}.unreadable-2"]
    assert b"damage 2" in file.path.with_name(f"{FILE}.unreadable-2").read_bytes()


def change(file: LetterFile, pragma: str) -> None:
    file.close()
    connection = sqlite3.connect(file.path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()


def test_newer_version(file: LetterFile, caplog: pytest.LogCaptureFixture) -> None:
    """What it wrote is kept for it, all of it, and once."""
    file.add([letter(b"1")])
    change(file, "user_version = 99")
    file.add([letter(b"2")])

    assert stored(file) == [[b"2"]]
    assert asides(file) == [f"{FILE}.unreadable-1"]
    assert "was written by a newer version of producer-pool" in caplog.text


def test_something_else(file: LetterFile, caplog: pytest.LogCaptureFixture) -> None:
    """Another program's file is set aside, too. Should letters be in it all the same, they are saved."""
    file.add([letter(b"1")])
    change(file, "application_id = 7")
    file.add([letter(b"2")])

    assert stored(file) == [[b"1"], [b"2"]]
    assert "holds something else than dead letters" in caplog.text


def test_damaged_message(file: LetterFile) -> None:
    """A wrong payload is never given out; its letter is still told of, and others are not concerned."""
    file.add([letter(b"A" * 500), letter(b"B" * 500)])
    file.close()
    offset = file.path.read_bytes().index(b"A" * 500)
    spoil(file.path, offset + 100, b"a")

    assert stored(file) == [None, [b"B" * 500]]
    assert len(list(file.letters())) == 2


def test_damaged_text(file: LetterFile) -> None:
    """The same for what is known of a letter, half characters included."""
    file.add([letter(b"A", error="refused by the consumer")])
    file.close()
    spoil(file.path, file.path.read_bytes().index(b"refused by") + 3, b"\xff\xfe")

    assert stored(file) == [None]


def test_damaged_tables(file: LetterFile) -> None:
    """Where no statement works any more, all that was in it stays there."""
    file.add([letter(b"%03d" % number * 1000) for number in range(60)])
    file.close()
    spoil(file.path, 100, b"\xff" * 50)
    file.add([letter(b"new")])

    assert stored(file) == [[b"new"]]
    assert asides(file) == [f"{FILE}.unreadable-1"]


def test_damage_in_the_middle(file: LetterFile, caplog: pytest.LogCaptureFixture) -> None:
    """Letters before and behind the damage survive, each once."""
    file.add([letter(b"%03d" % number * 300) for number in range(200)])
    file.close()
    spoil(file.path, file.path.stat().st_size // 2 // 4096 * 4096, b"\xff" * 4096)
    with pytest.raises(StorageError, match="damaged"):
        LetterFile(file.path.parent, new=False)
    file.add([letter(b"new")])
    found = [one[0][:3] for one in stored(file) if one]

    assert len(set(found)) == len(found)
    assert set(found) >= {b"000", b"050", b"199", b"new"}
    assert 150 < len(found) < 201
    assert "messages could be read, now in the new file" in caplog.text


def test_zeroed(file: LetterFile) -> None:
    """A file of zeros, as some file systems leave it after a power cut, is damage like any other."""
    file.add([letter(b"1")])
    file.close()
    file.path.write_bytes(bytes(16384))
    file.add([letter(b"2")])

    assert stored(file) == [[b"2"]]


@pytest.mark.parametrize("part", [0, 1, 100, 4096, 5000])
def test_cut_short(file: LetterFile, part: int) -> None:
    """However much of a file is left, the next letter is stored, and none is given out wrong."""
    file.add([letter(b"%d" % number * 500) for number in range(20)])
    file.close()
    with file.path.open("r+b") as opened:
        opened.truncate(part)
    file.add([letter(b"new")])
    whole = [[b"%d" % number * 500] for number in range(20)]

    assert [one for one in stored(file) if one not in whole and one is not None] == [[b"new"]]
