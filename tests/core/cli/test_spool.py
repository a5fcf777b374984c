"""``producer-pool spool``: status, verify, export, salvage and forget."""

import asyncio
import json
import math
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer_pool.cli.group import cli
from support.processes import daemon, run_command
from support.producers import send_lines
from support.spools import Desk, flip, scribble
from support.tree import ROOT
from support.waiting import eventually


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["spool", *map(str, arguments)], input=typed)


def exported(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``export``, which writes past what a runner replaces."""
    return run_command("spool", "export", str(folder), *arguments)


def salvaged(source: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return run_command("spool", "salvage", str(source), str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a spool for two producers, one of which has nothing to wait for."""

    async def fill() -> None:
        async with Desk(tmp_path / "spool", sync=0.05) as desk:
            desk.join("audit", "bill\x1b[2Jing")
            await desk.stored(b"one", b"two")
            await desk.stored(b"with\nnewline", b"\xff")
            last = await desk.stored(b"only audit", targets=["audit"])
            desk.store.move("bill\x1b[2Jing", last or 0)

    asyncio.run(fill())
    return tmp_path / "spool"


def test_status(folder: Path) -> None:
    """A line for each fact, and a row for each producer, with nothing in it that a terminal would act on."""
    done = run("status", folder)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]

    assert done.exit_code == 0
    assert lines[:3] == [f"folder {folder}", "in use no", "messages 4"]
    assert lines[3].endswith("of 4GiB")
    assert lines[4] == "sync interval:50ms"
    assert lines[6] == "PRODUCER MESSAGES BYTES OLDEST NOTE"
    assert lines[7].startswith("audit 5 221 ")
    assert lines[8] == r"bill\x1b[2Jing 0 0 -"


def test_status_in_json(folder: Path) -> None:
    """For programs."""
    found = json.loads(run("status", folder, "--json").stdout)

    assert found["folder"] == str(folder)
    assert found["producers"]["audit"]["messages"] == 5
    assert found["damaged"] is None
    assert found["sync"] == "interval:50ms"


@pytest.mark.parametrize("sync,word", [(0.0, "always"), (math.inf, "os"), (1.0, "interval:1000ms")])
def test_how_it_syncs_in_json(tmp_path: Path, sync: float, word: str) -> None:
    """As the setting is written."""

    async def make() -> None:
        async with Desk(tmp_path / "spool", sync=sync) as desk:
            desk.join("audit")
            await desk.stored(b"one")

    asyncio.run(make())

    assert json.loads(run("status", tmp_path / "spool", "--json").stdout)["sync"] == word


def test_fields_of_the_status_are_on_its_page(folder: Path) -> None:
    """Each of them, and those of a producer."""
    page = (ROOT / "docs" / "reference" / "spool.md").read_text()
    section = page.partition("## What `spool status --json` writes")[2].partition("\n## ")[0]
    found = json.loads(run("status", folder, "--json").stdout)
    names = {*found, *found["producers"]["audit"]}

    assert {name for name in names if f"`{name}`" not in section} == set()


def test_status_of_a_damaged_one(folder: Path) -> None:
    """It says so, and exits with 1."""
    scribble(folder / "spool.db")
    done = run("status", folder)

    assert done.exit_code == 1
    assert (
        "damaged   file is not a database; the next pool that uses it keeps what can be read" in done.stdout
    )


def test_in_use_by_a_daemon(tmp_path: Path) -> None:
    """Status shows what it has; the others name it."""
    folder = tmp_path / "spool"
    with daemon("--to", "gone=tcp://127.0.0.1:1", "--spool", str(folder)) as running:
        send_lines(running.port, [b"x"] * 100)

        def shown() -> bool:
            found = json.loads(run("status", folder, "--json").stdout)
            return bool(found["messages"] == 100)

        eventually(shown, "the daemon tells what it has")
        said = run("status", folder).stdout
        assert f"in use    by process {running.process.pid}, as of" in said
        for command in (["verify"], ["export"], ["forget", "gone"]):
            done = run(command[0], folder, *command[1:])
            assert done.exit_code == 1
            assert f"is in use by process {running.process.pid}; stop that first" in done.stderr
        assert running.terminate() == 0
    assert exported(folder).stdout == b"x\n" * 100


def test_verify(folder: Path) -> None:
    """One that is whole, and one that is not: which batches, and how many messages."""
    done = run("verify", folder)
    assert (done.exit_code, done.stdout) == (0, "3 batches and 5 messages are whole\n")

    path = folder / "spool.db"
    flip(path, path.read_bytes().index(b"with\nnewline"))
    done = run("verify", folder)
    assert done.exit_code == 1
    assert "1 batch damaged: " in done.stdout
    found = json.loads(run("verify", folder, "--json").stdout)
    assert (found["whole"], found["damaged"], found["structure"]) == (False, 1, None)


def test_verify_without_a_header(folder: Path) -> None:
    """What is wrong with the database is said in its words."""
    scribble(folder / "spool.db")
    done = run("verify", folder)

    assert done.exit_code == 1
    assert "the database is damaged: file is not a database" in done.stdout


def test_export(folder: Path) -> None:
    """As lines, without those that are none, which is said; with lengths, and in JSON, all of them."""
    lines = exported(folder)
    assert (lines.returncode, lines.stdout) == (1, b"one\ntwo\n\xff\nonly audit\n")
    assert b"1 message with a newline inside left out; use --framing length4 or --json" in lines.stderr

    framed = exported(folder, "--framing", "length4")
    assert framed.returncode == 0
    assert framed.stdout.startswith(b"\0\0\0\x03one\0\0\0\x03two\0\0\0\x0cwith\nnewline\0\0\0\x01\xff")
    told = [json.loads(line) for line in exported(folder, "--json").stdout.splitlines()]
    assert [one["message"] for one in told] == ["one", "two", "with\nnewline", "/w==", "only audit"]
    assert told[3]["encoding"] == "base64"
    assert told[4]["producers"] == ["audit"]


def test_export_for_one(folder: Path) -> None:
    """What it waits for; one that is not known is an error that names those that are."""
    assert exported(folder, "--producer", "audit", "--json").stdout.count(b"\n") == 5
    done = exported(folder, "--producer", "audti")

    assert done.returncode == 1
    assert b"nothing is kept there for 'audti'; known: audit, " in done.stderr


def test_salvage(folder: Path, tmp_path: Path) -> None:
    """What can be read is in a new spool, and the old one stays as it is."""
    scribble(folder / "spool.db")
    done = run("salvage", folder, tmp_path / "rescued")

    assert done.exit_code == 0
    assert "the database is damaged: file is not a database\n" in done.stderr
    assert done.stderr.endswith(f"3 batches, 5 messages in {tmp_path / 'rescued'}\n")
    assert run("verify", tmp_path / "rescued").exit_code == 0
    assert run("verify", folder).exit_code == 1


def test_what_is_no_spool(tmp_path: Path) -> None:
    """Noise and another file are told from an empty spool, and no new one is made of them."""
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "spool.db").write_bytes(os.urandom(100_000))
    (tmp_path / "letter.txt").write_text("dear all\n" * 10_000)
    for name in ("noise", "letter.txt"):
        for done in (exported(tmp_path / name), salvaged(tmp_path / name, tmp_path / "rescued")):
            assert done.returncode == 1
            assert done.stdout == b""
            assert b"not one batch can be recognised in it" in done.stderr
    assert not (tmp_path / "rescued").exists()


def test_empty_spool(tmp_path: Path) -> None:
    """It is whole: nothing is said, and nothing failed."""

    async def make() -> None:
        async with Desk(tmp_path / "spool") as desk:
            desk.join("audit")

    asyncio.run(make())
    done = exported(tmp_path / "spool")
    rescued = salvaged(tmp_path / "spool", tmp_path / "rescued")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert rescued.returncode == 0
    assert rescued.stderr.decode() == f"0 batches, 0 messages in {tmp_path / 'rescued'}\n"


def test_damaged_batch(folder: Path, tmp_path: Path) -> None:
    """All else comes out, and what does not is said, with an exit code of its own."""
    path = folder / "spool.db"
    flip(path, path.read_bytes().index(b"with\nnewline"))
    done = exported(folder)
    rescued = salvaged(folder, tmp_path / "rescued")

    assert (done.returncode, done.stdout) == (1, b"one\ntwo\nonly audit\n")
    assert rescued.returncode == 1
    for said in (done.stderr, rescued.stderr):
        assert b"1 batch damaged: 2\n" in said
    assert rescued.stderr.decode().endswith(f"2 batches, 3 messages in {tmp_path / 'rescued'}\n")


def test_export_of_a_damaged_database(folder: Path) -> None:
    """What can be read is written, and that it may not be all is said."""
    scribble(folder / "spool.db")
    done = exported(folder, "--framing", "length4")

    assert done.returncode == 0
    assert b"only audit" in done.stdout
    assert b"the database is damaged: file is not a database\n" in done.stderr
    assert b"5 messages could be read of it\n" in done.stderr


def test_forget(folder: Path) -> None:
    """It asks, with how much that is, and drops nothing until it is told to."""
    asked = run("forget", folder, "audit", typed="n\n")

    assert asked.exit_code == 1
    assert "Drop 5 messages kept for audit for good?" in asked.stderr
    assert "nothing was dropped" in asked.stderr
    assert run("forget", folder, "audit").exit_code == 1
    assert exported(folder).stdout.startswith(b"one\ntwo\n")

    done = run("forget", folder, "audit", typed="y\n")

    assert done.exit_code == 0
    assert done.stderr.endswith("5 messages dropped for audit\n")
    assert exported(folder).stdout == b""


def test_forget_without_a_question(folder: Path) -> None:
    """For scripts, and where there is nothing to lose."""
    done = run("forget", folder, "audit", "--yes")

    assert (done.exit_code, done.stderr) == (0, "5 messages dropped for audit\n")
    assert run("forget", folder, "bill\x1b[2Jing").stderr == "0 messages dropped for bill\\x1b[2Jing\n"


def test_no_spool(tmp_path: Path) -> None:
    """The error says what to name."""
    done = run("status", tmp_path)

    assert done.exit_code == 1
    assert "holds no spool; name the folder that spool= names" in done.stderr
