"""``producer-pool check``."""

import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from producer_pool.cli.group import cli
from producer_pool.storage.folder import Folder
from support.consumers import reserved_port


def check(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    """Run ``producer-pool check``."""
    return CliRunner().invoke(cli, ["check", *arguments], env=env)


def test_good_configuration(tmp_path: Path) -> None:
    """Each listener and consumer has a row, with plugin, version, level, and where it stands."""
    file = tmp_path / "pool.toml"
    file.write_text('[producers.archive]\nurl = "tcp://127.0.0.1:1?ack=written"\n')

    done = check("--config", str(file), "--to", "null:", env={"PRODUCER_BILLING": "tcp://127.0.0.1:2"})

    assert done.exit_code == 0
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["ID", "URL", "PLUGIN", "ACK", "FROM", "RESULT"]
    assert rows[1][:4] == ["listen", "tcp://127.0.0.1:9100", "producer-pool-tcp", "0.1.0"]
    assert rows[1][-2:] == ["default", "ok"]
    by_id = {row[0]: row for row in rows}
    assert by_id["archive"][4] == "written"
    assert "[producers.archive]" in by_id["archive"]
    assert by_id["billing"][2:] == ["producer-pool-tcp", "0.1.0", "kernel", "PRODUCER_BILLING", "ok"]
    assert by_id["consumer1"][1:4] == ["null:", "producer-pool", "0.1.0"]


def test_all_faults_are_named() -> None:
    """Nobody has to come back for the second mistake; what is right is shown, too."""
    done = check(
        *("--to=a=tpc://127.0.0.1:1", "--to=b=udp://127.0.0.1:1?ack=app", "--to=c=null:"),
        *("--listen=tcp://127.0.0.1", "--policy=both"),
        env={"PRODUCER_D": "nonsense", "PRODUCER_POOL_BUFFER": "huge"},
    )

    assert done.exit_code == 78
    for text in (
        "--to: no installed plugin handles tpc://",
        "--to: udp://127.0.0.1:1: ack=app cannot be reached",
        "--listen: tcp://127.0.0.1 names no port",
        "--policy: 'both'",
        "PRODUCER_D is no URL",
        "PRODUCER_POOL_BUFFER: 'huge'",
    ):
        assert text in done.stderr
    assert done.stderr.count("\n") == 6
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("c ")] == ["ok"]


def test_nothing_to_forward_to() -> None:
    """A configuration without producers is one that `run` refuses."""
    done = check()

    assert done.exit_code == 78
    assert "no producers are configured" in done.stderr


def test_nothing_but_misspelled_variables() -> None:
    """Who has misspelled a name is told so, and the URL, which may hold a password, is not shown."""
    done = check(env={"PRODUCERS_BILLING": "tcp://user:hunter2@127.0.0.1:9000"})
    besides = check(env={"PRODUCERS_BILLING": "tcp://127.0.0.1:9000", "PRODUCER_AUDIT": "null:"})

    assert done.exit_code == 78
    assert done.stderr.splitlines()[1:] == [
        "producer-pool: PRODUCERS_BILLING is not read; did you mean PRODUCER_BILLING?"
    ]
    assert "hunter2" not in done.output
    assert (besides.exit_code, besides.stderr) == (0, "")


def test_connect() -> None:
    """Each consumer is tried, and one that cannot be reached is an exit code of its own."""
    with socket.create_server(("127.0.0.1", 0)) as there, reserved_port() as nobody:
        good = f"tcp://127.0.0.1:{there.getsockname()[1]}"
        bad = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        fine = check("--connect", "--to", good, "--to", "null:")
        mixed = check("--connect", "--to", good, "--to", bad, "--json")
        both = check("--connect", "--to", bad, "--to", "tpc:x")

    assert fine.exit_code == 0
    assert "connected in " in fine.stdout
    assert mixed.exit_code == 69
    told = {row["id"]: row for row in json.loads(mixed.stdout)["rows"]}
    assert (told["consumer1"]["state"], told["consumer2"]["state"]) == ("connected", "unreachable")
    assert "connection refused" in told["consumer2"]["detail"]
    assert both.exit_code == 78


def test_what_is_not_connected_to(tmp_path: Path) -> None:
    """Neither a listener, which may well be in use, nor a URL for dead letters is said to be all right."""
    settings = ("--to", "null:", "--spool", str(tmp_path / "spool"), "--dead-letters", "tcp://127.0.0.1:1")
    shown = check("--connect", *settings)
    tried, looked_at = (
        {row["id"]: row["state"] for row in json.loads(check("--json", *more, *settings).stdout)["rows"]}
        for more in (["--connect"], [])
    )

    assert shown.exit_code == 0
    assert re.search("^listen .* default +not tried$", shown.stdout, re.MULTILINE)
    assert (tried["listen"], tried["dead-letters"]) == ("not tried", "not tried")
    assert (tried["consumer1"], tried["spool"]) == ("connected", "ok")
    assert {*looked_at.values()} == {"ok"}


@pytest.mark.parametrize("arguments", [("--config", "none.toml"), ("--listen", "tcp:x y")])
def test_listener_that_is_not_known(arguments: tuple[str, ...]) -> None:
    """The daemon would not start; so where it would listen by default is not shown."""
    done = check("--to", "null:", *arguments)

    assert done.exit_code == 78
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ID", "consumer1"]


def test_nothing_that_is_known() -> None:
    """There is no table without a row."""
    done = check("--config", "none.toml")

    assert done.exit_code == 78
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize("role,code", [("shadow", 0), ("best-effort", 69), ("required", 69)])
def test_connect_by_role(role: str, code: int) -> None:
    """A shadow that cannot be reached is shown like any other, and is no failure; the others are."""
    with reserved_port() as nobody:
        url = f"tcp://127.0.0.1:{nobody.getsockname()[1]}?role={role}&overflow=reject"
        shown = check("--connect", "--to", url)
        told = json.loads(check("--connect", "--to", url, "--json").stdout)["rows"][1]

    assert shown.exit_code == code
    assert ("unreachable (shadow): " in shown.stdout) == (role == "shadow")
    assert (told["role"], told["state"]) == (role, "unreachable")


def test_shadow_that_would_block() -> None:
    """It is a fault of the configuration, which says why."""
    done = check("--to", "null:?role=shadow&overflow=block")

    assert done.exit_code == 78
    assert "overflow=block would have a shadow slow its source" in done.stderr


def test_messages_among_json() -> None:
    """What `run` would refuse is a fault; but --json is for this command, which sends nothing."""
    asked = check("--to=stdout:", env={"PRODUCER_POOL_JSON": "yes"})
    shown = check("--to=stdout:", "--json")

    assert asked.exit_code == 78
    assert "--to: stdout: is where JSON is written, too (PRODUCER_POOL_JSON)" in asked.stderr
    assert (shown.exit_code, shown.stderr) == (0, "")


def test_stored_nowhere(tmp_path: Path) -> None:
    """What `run` would refuse once it listens is a fault here, at the row of the listener."""
    asked = ("--to=null:", "--listen=tcp://127.0.0.1:9100?ack-after=stored")
    without = check(*asked)
    there = check(*asked, f"--spool={tmp_path / 'spool'}")

    assert without.exit_code == 78
    assert without.stderr == (
        "producer-pool: --listen: tcp://127.0.0.1:9100: ack-after=stored needs a spool to store in: add "
        "--spool DIR, or use ack-after=delivered\n"
    )
    assert "error: tcp://127.0.0.1:9100: ack-after=stored needs a spool" in without.stdout
    assert (there.exit_code, there.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place,fault",
    [
        ("tpc://127.0.0.1:1", "no installed plugin handles tpc://"),
        ("udp://127.0.0.1:1?ack=app", "ack=app cannot be reached here"),
        ("tcp://127.0.0.1:1?dead-letters=d", "dead letters that are given up are not kept"),
        ("tcp://127.0.0.1:1", ""),
        ("folder", ""),
    ],
)
def test_dead_letters(place: str, fault: str) -> None:
    """Where they go is looked at as any consumer is, and the fault is told of whoever named it."""
    asked = quote(place, safe="")
    for_all = check("--to=a=null:", "--to=b=null:", f"--dead-letters={place}")
    for_one = check(f"--to=a=null:?dead-letters={asked}", "--to=b=null:?role=shadow")

    for done, origin in ((for_all, "--dead-letters"), (for_one, "--to")):
        assert done.exit_code == (78 if fault else 0)
        lines = done.stderr.splitlines()
        assert [line for line in lines if fault not in line] == []
        assert [line.split(": ")[1] for line in lines] == ([origin] if fault else [])


def test_folders(tmp_path: Path) -> None:
    """A row each says where messages are kept; nothing is made, though it could be."""
    spool, letters, own = (str(tmp_path / name / "below") for name in ("spool", "letters", "own"))
    done = check(
        *("--to=a=null:", f"--to=b=null:?dead-letters={own}", f"--to=c=null:?dead-letters={letters}"),
        *(f"--spool={spool}", f"--dead-letters={letters}", "--json"),
    )

    rows = [row for row in json.loads(done.stdout)["rows"] if row["kind"] in ("spool", "dead-letters")]
    assert done.exit_code == 0
    assert [(row["kind"], row["url"], row["origin"], row["state"], row["detail"]) for row in rows] == [
        ("spool", spool, "--spool", "ok", None),
        ("dead-letters", letters, "--dead-letters", "ok", None),
        ("dead-letters", own, "--to", "ok", None),
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--spool", "--dead-letters"])
def test_folder_that_cannot_be(option: str, tmp_path: Path) -> None:
    """What `run` would refuse is a fault here, too, at a row of its own."""
    file = tmp_path / "file"
    file.touch()
    done = check("--to=null:", f"{option}={file}")

    assert done.exit_code == 78
    assert done.stderr.startswith(f"producer-pool: {option}: {file} is no folder; name one that is")
    assert f"error: {file} is no folder" in done.stdout


def test_spool_in_use(tmp_path: Path) -> None:
    """A daemon that runs is no fault of the configuration; who it is is told."""
    folder = Folder(tmp_path)
    folder.lock()
    try:
        done = check("--to=null:", f"--spool={tmp_path}")
    finally:
        folder.unlock()

    assert (done.exit_code, done.stderr) == (0, "")
    assert f"ok: in use by process {os.getpid()}" in done.stdout


def test_connect_in_no_time() -> None:
    """The limit is told as it is written."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        done = check("--connect", "--to", f"tcp://127.0.0.1:{there.getsockname()[1]}?timeout=1us")

    assert done.exit_code == 69
    assert "unreachable: not within 1us (timeout=)" in done.stdout


def test_connect_sends_nothing() -> None:
    """The consumer sees a connection that ends without a byte."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        check("--connect", "--to", f"tcp://127.0.0.1:{there.getsockname()[1]}")
        there.settimeout(5)
        connection, _ = there.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_secrets_stay_hidden(json_flag: list[str]) -> None:
    """A password is shown neither in a table nor in an error."""
    url = "tcp://user:hunter2@127.0.0.1:1"
    done = check(*json_flag, env={"PRODUCER_A": url})

    assert done.exit_code == 78
    assert "***@127.0.0.1:1" in done.output
    assert "hunter2" not in done.output


def test_plugin_that_fails_to_load(tmp_path: Path) -> None:
    """A --plugin file that cannot be used is a fault like the others."""
    file = tmp_path / "broken.py"
    file.write_text("import nothing_of_this_name\n")

    done = check("--plugin", str(file), "--to", "null:")

    assert done.exit_code == 78
    assert "nothing_of_this_name" in done.stderr
