"""``producer-pool run``: what it is told, and what it says when it cannot."""

import json
import os
import re
import socket
from pathlib import Path

import pytest

from producer_pool.cli.configuration import NO_PRODUCERS
from producer_pool.storage.database import FORMAT, Database
from producer_pool.storage.folder import Folder
from support.consumers import RecordingConsumer
from support.processes import daemon, run_command
from support.producers import send_lines

FREE = "tcp://127.0.0.1:0"

PLUGIN = """
from producer_pool.plugin import Client, Transport, hookimpl

class AppendClient(Client):
    protocol_name = "append"

    def __init__(self, endpoint, options):
        self.address, self.path = str(endpoint), endpoint.path

    async def send(self, message):
        with open(self.path, "ab") as file:
            file.write(message + b"\\n")

@hookimpl
def producer_pool_transports():
    yield Transport(schemes=("append",), client=AppendClient)
"""


def test_without_producers_it_says_how_to_name_one() -> None:
    """There is nothing to do, which is an error of the configuration."""
    done = run_command("run")

    assert done.returncode == 78
    assert done.stderr.decode() == f"producer-pool: {NO_PRODUCERS}\n"


@pytest.mark.parametrize("command", ["run", "check"])
def test_consumer_without_its_option(command: str) -> None:
    """It is told what to write, and the URL, which may hold a password, is not shown."""
    url = run_command(command, "tcp://user:hunter2@127.0.0.1:9000")
    word = run_command(command, "--to", "null:", "nonsense")

    assert (url.returncode, word.returncode) == (2, 2)
    assert b"Error: a URL without an option; name a consumer with --to URL" in url.stderr
    assert b"Error: 'nonsense' without an option; name a consumer with --to URL" in word.stderr
    assert b"hunter2" not in url.stderr + url.stdout


@pytest.mark.parametrize(
    "arguments,text,code",
    [
        (["--to", "127.0.0.1:9000"], "--to: 127.0.0.1:9000 has no scheme; did you mean tcp://", 78),
        (["--to", "tpc://127.0.0.1:1"], "no installed plugin handles tpc://", 78),
        (["--to", "a=null:", "--to", "a=null:"], "both name the producer a", 78),
        (["--to", "null:", "--listen", "null:"], "only sends; it cannot listen", 78),
        (
            ["--to", "null:", "--dead-letters", "foo://x"],
            "--dead-letters: no installed plugin handles foo",
            78,
        ),
        (["--to", "a=null:?spool-quota=1GiB"], "--to: a: spool-quota= needs a spool: add --spool DIR", 78),
        (["--to", "null:?buffer=lots"], "option buffer: 'lots' is not a size", 78),
        (["--to", "null:", "--policy", "realy"], "--policy: 'realy' is none of", 78),
        (["--to", "null:", "--config", "/nowhere/pool.toml"], "/nowhere/pool.toml: cannot be read", 78),
        (["--to", "null:", "--plugin", "/nowhere/x.py"], "/nowhere/x.py cannot be imported", 78),
        (["--to", "tcp+tls://127.0.0.1:1?tls-ca=/nowhere/ca.pem"], "/nowhere/ca.pem", 78),
        (
            ["--to", "null:", "--listen", "tcp+tls://127.0.0.1:0?tls-cert=/nowhere/c&tls-key=/nowhere/k"],
            "/nowhere/",
            78,
        ),
        (["--to", "null:", "--listen", "tcp://0.0.0.0:0"], "can be reached from other machines", 78),
        (["--to", "tcp://localhost:1", "--listen", "tcp://127.0.0.1:1"], "listens itself (--listen)", 78),
        (["--to", "b=stdout:", "--json"], "--to: stdout: is where JSON is written, too (--json)", 78),
        (["--nonsense"], "No such option", 2),
    ],
)
def test_what_cannot_work(arguments: list[str], text: str, code: int) -> None:
    """Each mistake is one line, without a traceback, with the exit code of its kind."""
    done = run_command("run", "--listen", FREE, *arguments)

    said = done.stderr.decode()
    assert done.returncode == code
    assert text in said
    assert "Traceback" not in said
    assert said.count("\n") == 1 or code == 2


@pytest.mark.parametrize("option", ["--spool", "--dead-letters", "dead-letters="])
@pytest.mark.parametrize("place,text", [("file", "is no folder"), ("file/below", "cannot be made")])
def test_folder_that_cannot_be(option: str, place: str, text: str, tmp_path: Path) -> None:
    """Only a person can change that: whoever restarts the daemon is told to leave it."""
    (tmp_path / "file").touch()
    path = tmp_path / place
    to, asked = ("null:", [option, str(path)])
    if option.endswith("="):
        to, asked = (f"null:?{option}{path}", [])

    done = run_command("run", "--listen", FREE, "--to", to, *asked)

    said = done.stderr.decode()
    assert done.returncode == 78
    assert said.startswith(f"producer-pool: {path} {text}")
    assert said.count("\n") == 1


def test_spool_of_a_newer_version(tmp_path: Path) -> None:
    """It stays so at the next start."""
    database = Database(tmp_path / "spool.db", 0.0)
    database._connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.set_meta("format", FORMAT + 1)
    database.close()

    done = run_command("run", "--listen", FREE, "--to", "null:", "--spool", str(tmp_path))

    said = done.stderr.decode()
    assert done.returncode == 78
    assert f"has format version {FORMAT + 1}, and this Producer Pool knows {FORMAT}" in said
    assert said.count("\n") == 1


def test_spool_in_use(tmp_path: Path) -> None:
    """Who has it may end by itself: the exit code says that a retry may help."""
    folder = Folder(tmp_path)
    folder.lock()
    try:
        done = run_command("run", "--listen", FREE, "--to", "null:", "--spool", str(tmp_path))
    finally:
        folder.unlock()

    said = done.stderr.decode()
    assert done.returncode == 1
    assert f"{tmp_path} is in use by process {os.getpid()}; stop that first" in said
    assert said.count("\n") == 1


def test_port_that_is_taken() -> None:
    """It is one line that says how to find out who has it; the exit code says that a retry may help."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_command("run", "--to", "null:", "--listen", f"tcp://127.0.0.1:{port}")

    said = done.stderr.decode()
    assert done.returncode == 1
    assert f"tcp://127.0.0.1:{port}: address already in use" in said
    assert said.count("\n") == 1


def test_all_mistakes_are_named_at_once() -> None:
    """Whoever made several mistakes is told of each, with where it stands."""
    done = run_command(
        "run",
        "--to",
        "x=tpc://127.0.0.1:1",
        "--listen",
        "nowhere",
        env={"PRODUCER_Y": "what", "PRODUCER_POOL_DRAIN": "soon"},
    )

    said = done.stderr.decode()
    assert done.returncode == 78
    for text in (
        "--to: no installed",
        "--listen is no URL",
        "PRODUCER_Y is no URL; write PRODUCER_Y=tcp://",
        "PRODUCER_POOL_DRAIN: 'soon'",
    ):
        assert text in said
    assert said.count("\n") == 4


@pytest.mark.parametrize("scheme", ["tcp", "tcp+tls", "tpc"])
def test_no_error_shows_a_password(scheme: str) -> None:
    """Wherever the URL stands and whatever is wrong with it, its password stays hidden."""
    url = f"{scheme}://user:hunter2@127.0.0.1:1?colour=red"
    for arguments, env in (
        (["--to", url], {}),
        (["--to", "null:", "--listen", url], {}),
        ([], {"PRODUCER_X": url}),
    ):
        done = run_command("run", *arguments, env=env)

        assert done.returncode == 78
        assert b"hunter2" not in done.stderr + done.stdout


def test_environment_alone() -> None:
    """Two variables name two consumers, and another one the listener: no argument is needed."""
    with RecordingConsumer() as one, RecordingConsumer() as two:
        env = {
            "PRODUCER_CONSUMER1": one.url,
            "PRODUCER_CONSUMER2": two.url,
            "PRODUCER_POOL_LISTEN": FREE,
        }
        with daemon(env=env, listens=False) as relay:
            send_lines(relay.port, [b"hello"])

            assert one.wait_for(1) == two.wait_for(1) == [b"hello"]
            assert list(relay.last["consumers"]) == ["consumer1", "consumer2"]
            assert relay.terminate() == 0


def test_variables_of_kubernetes_are_no_producers() -> None:
    """What Kubernetes sets for a service of that name is ignored, with one warning in the log's own form."""
    env = {
        "PRODUCER_PORT": "tcp://10.0.0.11:6379",
        "PRODUCER_SERVICE_HOST": "10.0.0.11",
        "PRODUCER_SERVICE_PORT": "6379",
        "PRODUCER_CONSUMER1": "null:",
    }
    with daemon(env=env) as relay:
        assert list(relay.last["consumers"]) == ["consumer1"]
        relay.wait_for_line(r"^\d{4}-\S+ \S+ WARNING ignoring .*PRODUCER_PORT")
        assert len([line for line in relay.lines if "PRODUCER_PORT" in line]) == 1


def test_url_from_a_file(tmp_path: Path) -> None:
    """A consumer's URL may be in a file that a variable names."""
    file = tmp_path / "url"
    file.write_text("memory:secret\n")
    with daemon(env={"PRODUCER_ARCHIVE_FILE": str(file)}) as relay:
        assert relay.last["consumers"]["archive"]["address"] == "memory:secret"


def test_command_line_comes_before_environment_before_file(tmp_path: Path) -> None:
    """Of each setting, the nearest one counts; consumers of all three come together."""
    file = tmp_path / "pool.toml"
    file.write_text(
        '[pool]\npolicy = "direct"\nlog-level = "debug"\nlisten = "tcp://127.0.0.1:1"\n'
        '[producers.a]\nurl = "null:"\n[producers.b]\nurl = "null:"\n'
    )
    env = {"PRODUCER_POOL_CONFIG": str(file), "PRODUCER_POOL_POLICY": "relay", "PRODUCER_B": "memory:b"}

    with daemon("--to", "c=null:", "--log-level", "error", env=env) as relay:
        consumers = relay.last["consumers"]

        relay.wait_for_line("relay policy")
        assert {name: one["address"] for name, one in consumers.items()} == {
            "a": "null:",
            "b": "memory:b",
            "c": "null:",
        }
        assert relay.terminate() == 0
    assert "stopping" not in relay.said


def test_plugin_in_one_file(tmp_path: Path) -> None:
    """--plugin makes the scheme of one Python file known."""
    file = tmp_path / "append.py"
    file.write_text(PLUGIN)
    record = tmp_path / "record"
    with daemon("--plugin", str(file), "--to", f"append:{record}") as relay:
        send_lines(relay.port, [b"one", b"two"])
        relay.settled("consumer1", 2)

        assert record.read_bytes() == b"one\ntwo\n"
        assert relay.terminate() == 0


def test_banner_is_short() -> None:
    """Twelve consumers take no more than eight lines, and the program that reads JSON is told of all."""
    to = [f"--to=c{number}=null:" for number in range(12)]
    with daemon(*to) as relay:
        relay.wait_for_line("more consumers")
        banner = relay.lines[:8]

        assert banner[0].startswith("producer-pool ")
        assert f"pid {relay.process.pid}" in banner[0]
        # All are up, unless the machine was busy with others.
        head, counted = banner[-1].split("in all ")
        assert head == "... and 7 more consumers; "
        assert sum(map(int, re.findall(r"(\d+) (?:up|connecting|idle)", counted))) == 12
        assert len(relay.last["consumers"]) == 12
        assert relay.last["event"] == "ready"


def test_json_by_environment() -> None:
    """Each flag has a variable, --json too."""
    with daemon("--to", "null:", env={"PRODUCER_POOL_JSON": "yes"}) as relay:
        relay.terminate()
    told = relay.last
    assert told["event"] == "end"
    assert json.dumps(told)
