"""``producer-pool dead-letters`` list, show and drop."""

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer_pool.cli.group import cli
from producer_pool.storage.dead_letters import FILE, LetterFile
from support.letters import letter, messages_in


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["dead-letters", *map(str, arguments)], input=typed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with four letters."""
    with LetterFile(tmp_path) as file:
        file.add(
            [
                letter(b"one", b"two"),
                letter(b"three", producer_id="billing", reason="DeadlineExceeded"),
                letter(b"\xff\x00bell\a", error="evil \x1b[2J\ntext"),
                letter(b"four", given_up=2_000_000_000.0),
            ]
        )
    return tmp_path


def test_list(folder: Path) -> None:
    """A line for each letter, with nothing in it that a terminal would act on, and a sum."""
    done = run("list", folder)
    lines = done.stdout.splitlines()

    assert done.exit_code == 0
    assert " ".join(lines[0].split()) == "ID GIVEN UP PRODUCER MESSAGES BYTES ATTEMPTS REASON ERROR"
    assert " ".join(lines[1].split()) == "1 1970-01-01T00:16:40.000Z audit 2 6 1 Rejected no"
    assert len(lines) == 5
    assert r"evil \x1b[2J\ntext" in lines[3]
    assert done.stderr == "4 letters, 5 messages\n"


@pytest.mark.parametrize(
    "filters,ids",
    [
        (["--producer", "billing"], [2]),
        (["--reason", "Rejected"], [1, 3, 4]),
        (["--since", "2001-01-01"], [4]),
        (["--before", "1970-01-01T02:00:00+01:00", "--producer", "audit"], [1, 3]),
        (["--before", "1h"], [1, 2, 3]),
        (["--producer", "nobody"], []),
    ],
)
def test_filters(folder: Path, filters: list[str], ids: list[int]) -> None:
    """They all have to fit."""
    done = run("list", folder, "--json", *filters)

    assert [one["id"] for one in json.loads(done.stdout)] == ids


def test_list_as_json(folder: Path) -> None:
    """The same as objects."""
    first = json.loads(run("list", folder, "--json").stdout)[0]

    assert first == {
        "id": 1,
        "messages": 2,
        "bytes": 6,
        "dead_letter": 1,
        "producer": "audit",
        "role": "required",
        "outcome": "failed",
        "reason": "Rejected",
        "error": "no",
        "attempts": 1,
        "accepted": "1970-01-01T00:16:39.500Z",
        "given_up": "1970-01-01T00:16:40.000Z",
        "origin": "tcp://127.0.0.1:50123",
        "last": "1970-01-01T00:16:40.000Z",
    }


@pytest.mark.parametrize("moment", ["yesterday", "-1h", "2026-13-01"])
def test_no_time(folder: Path, moment: str) -> None:
    """The error says what would be one."""
    done = run("list", folder, "--since", moment)

    assert done.exit_code == 2
    assert "nor a time such as 2026-11-25T17:30:00Z" in done.stderr


@pytest.mark.parametrize("command", ["list", "show", "drop", "replay"])
def test_no_letters_there(tmp_path: Path, command: str) -> None:
    """The folder is not made by who only asks for it."""
    more = {"list": [], "show": ["1"], "drop": ["--all"], "replay": ["--all"]}[command]
    done = run(command, tmp_path / "nowhere", *more)

    assert done.exit_code == 1
    assert "nowhere: no dead letters there" in done.stderr
    assert done.stderr.endswith("; name the folder that dead-letters= names\n")
    assert not (tmp_path / "nowhere").exists()


def test_files_set_aside(folder: Path) -> None:
    """Who looks into the folder is told of them."""
    (folder / f"{FILE}.unreadable-1").touch()
    done = run("list", folder)

    assert done.exit_code == 0
    assert "were set aside that could not be read: dead-letters.sqlite3.unreadable-1" in done.stderr


def test_damaged_file(folder: Path) -> None:
    """The error says what becomes of it."""
    (folder / FILE).write_bytes(b"no database" * 1000)
    done = run("list", folder)

    assert done.exit_code == 1
    assert "is damaged; whoever next writes, replays or drops letters here sets it aside" in done.stderr


# -- show ------------------------------------------------------------------------------------------


def test_show(folder: Path) -> None:
    """All that is known, and the messages, safe to look at."""
    done = run("show", folder, 3)
    lines = done.stdout.splitlines()

    assert done.exit_code == 0
    assert "origin    tcp://127.0.0.1:50123" in lines
    assert r"error     evil \x1b[2J\ntext" in lines
    assert lines[-1] == r"\xff\x00bell\x07"


def test_show_as_it_is(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Raw has the bytes, and JSON all of them even where they are no text."""
    run("show", folder, 3, "--raw")
    (line,) = run("show", folder, 3, "--json").stdout.splitlines()

    assert capfdbinary.readouterr().out == b"\xff\x00bell\a\n"
    assert base64.b64decode(json.loads(line)["message"]) == b"\xff\x00bell\a"
    assert run("show", folder, 3, "--json", "--raw").exit_code == 2


def test_show_much(tmp_path: Path) -> None:
    """Long messages, and many, are cut."""
    with LetterFile(tmp_path) as file:
        file.add([letter(b"x" * 5000, *[b"y"] * 200)])
    lines = run("show", tmp_path, 1).stdout.splitlines()

    assert lines[-1] == "... and 101 more messages; --raw and --json have all"
    assert f"{'x' * 1000} ... (5,000 bytes)" in lines
    assert lines.count("y") == 99


def test_show_what_is_not_there(folder: Path) -> None:
    """The error says where to look."""
    done = run("show", folder, 9)

    assert done.exit_code == 1
    assert f"holds no letter 9; see: producer-pool dead-letters list {folder}" in done.stderr


def test_show_damaged(folder: Path) -> None:
    """No wrong message is shown."""
    path = folder / FILE
    path.write_bytes(path.read_bytes().replace(b"three", b"thrEE"))
    done = run("show", folder, 2)

    assert done.exit_code == 1
    assert "letter 2 is damaged" in done.stderr
    assert done.stdout == ""


# -- drop ------------------------------------------------------------------------------------------


def test_drop(folder: Path) -> None:
    """Those that are named, after they were confirmed."""
    asked = run("drop", folder, "1", "3-9", typed="n\n")

    assert asked.exit_code == 1
    assert "Drop 4 messages in 3 letters for good?" in asked.stderr
    assert len(messages_in(folder)) == 5

    done = run("drop", folder, "1", "3-9", typed="y\n")

    assert done.exit_code == 0
    assert "dropped 4 messages in 3 letters" in done.stderr
    assert messages_in(folder) == [b"three"]


@pytest.mark.parametrize("command", ["drop", "replay"])
def test_ids_that_are_not_there(folder: Path, command: str) -> None:
    """All of them are named, and nothing is done to those that are there."""
    more = {"drop": ["--yes"], "replay": ["--to", "audit=null:"]}[command]
    done = run(command, folder, "1", "5", "3-9", "7-8", *more)

    assert done.exit_code == 1
    assert f"{folder} holds no letter 5, 7-8; see: producer-pool dead-letters list {folder}" in done.stderr
    assert len(messages_in(folder)) == 5


@pytest.mark.parametrize("command", ["list", "drop", "replay"])
def test_filters_that_fit_nothing(folder: Path, command: str) -> None:
    """What is known is said. It is no error: that producer may have given nothing up."""
    more = {"list": [], "drop": ["--yes"], "replay": ["--to", "audit=null:"]}[command]
    done = run(command, folder, "--producer", "zz", "--reason", "Foo", *more)

    assert done.exit_code == 0
    assert "no letter has the producer 'zz'; known: audit, billing\n" in done.stderr
    assert "no letter has the reason 'Foo'; known: DeadlineExceeded, Rejected\n" in done.stderr
    fits = run(command, folder, "--producer", "audit", "--reason", "DeadlineExceeded", *more)
    assert "known" not in fits.stderr


def test_filters_where_nothing_is(tmp_path: Path) -> None:
    """Of no letters at all, the sum says enough."""
    with LetterFile(tmp_path) as file:
        file.add([letter(b"one")])
        file.remove([1])
    done = run("drop", tmp_path, "--reason", "Rejected", "--yes")

    assert (done.exit_code, done.stderr) == (0, "dropped 0 messages in 0 letters\n")


def test_drop_what_filters_fit(folder: Path) -> None:
    """Ids and filters go together."""
    assert run("drop", folder, "1-2", "--reason", "Rejected", "--yes").exit_code == 0
    assert messages_in(folder) == [b"three", b"\xff\x00bell\a", b"four"]


def test_drop_all(folder: Path) -> None:
    """All has to be said, and alone."""
    assert run("drop", folder, "--yes").exit_code == 2
    assert run("drop", folder, "1", "--all", "--yes").exit_code == 2
    assert run("drop", folder, "x", "--yes").exit_code == 2
    assert len(messages_in(folder)) == 5
    assert run("drop", folder, "--all", "--yes").exit_code == 0
    assert messages_in(folder) == []
