"""What the daemon cannot work with: its exit code, and words that a person can act on."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.consumers import reserved_port
from support.processes import run_command

TO = ("--to", "tcp://127.0.0.1:9000")
ANYWHERE = ("--listen", "tcp://127.0.0.1:0")


def refused(*arguments: str, code: int, env: Mapping[str, str] | None = None) -> str:
    """Run the daemon, which has to end at once with *code*, and return its one line."""
    ended = run_command("run", *arguments, env=env)
    text = ended.stderr.decode()

    assert ended.returncode == code, text
    assert ended.stdout == b""
    assert "Traceback" not in text
    (line,) = text.splitlines()
    assert line.startswith("producer-pool: ")
    return line


def test_port_is_taken() -> None:
    """It names the address, says that it is taken, and how to find out by whom."""
    with reserved_port() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--listen", f"tcp://127.0.0.1:{port}", *TO, code=1)

    assert f"tcp://127.0.0.1:{port}: address already in use" in line
    assert "ss -ltnp" in line
    assert "choose another port" in line


def test_one_of_two_ports_is_taken() -> None:
    """Nothing is left listening at the other one."""
    with reserved_port() as taken, reserved_port() as free:
        taken.listen()
        free_port = free.getsockname()[1]
        urls = [f"tcp://127.0.0.1:{port}" for port in (free_port, taken.getsockname()[1])]
        refused("--listen", urls[0], "--listen", urls[1], *TO, code=1)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", free_port)) != 0


@pytest.mark.parametrize(
    "url, said",
    [
        ("127.0.0.1:9000", "did you mean tcp://127.0.0.1:9000?"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:99999", "port"),
        ("tcp://127.0.0.1:9000?buffr=1MiB", "did you mean buffer?"),
        ("tcp://127.0.0.1:9000?buffer=many", "64MiB"),
        ("udp://127.0.0.1:9000?ack=app", "ack=app cannot be reached here"),
        ("tcp://127.0.0.1:9000?ack=peer", "ack=peer cannot be reached here, only "),
        ("tcp://127.0.0.1:9000?timeout=5s&timeout=6s", "timeout"),
    ],
)
def test_bad_url(url: str, said: str) -> None:
    """It says what is wrong with it, and what to write."""
    line = refused(*ANYWHERE, "--to", url, code=78)

    assert said in line


def test_required_plugin_is_missing() -> None:
    """Nothing is forwarded without it, and the daemon does not even listen."""
    line = refused(*ANYWHERE, *TO, env={"PRODUCER_POOL_REQUIRE_PLUGINS": "acme-filter"}, code=78)

    assert "acme-filter: it is not installed; it is required (PRODUCER_POOL_REQUIRE_PLUGINS)" in line


def test_unknown_scheme() -> None:
    """It names the schemes that are there, and for a near miss what was probably meant."""
    line = refused(*ANYWHERE, "--to", "tpc://127.0.0.1:9000", code=78)

    assert "no installed plugin handles tpc://" in line
    assert "tcp" in line
    assert "did you mean tcp" in line


@pytest.mark.parametrize("option", ["tls-cert", "tls-key"])
def test_unreadable_tls_file(option: str, tmp_path: Path) -> None:
    """It names the file and what is wrong with it."""
    missing = tmp_path / "missing.pem"
    other = tmp_path / "other.pem"
    other.write_text("not a certificate")
    files = {"tls-cert": other, "tls-key": other, option: missing}
    query = "&".join(f"{name}={path}" for name, path in files.items())
    line = refused("--listen", f"tcp+tls://127.0.0.1:0?{query}", *TO, code=78)

    assert str(missing) in line
    assert "no such file" in line


def test_tls_file_of_a_consumer(tmp_path: Path) -> None:
    """The same for the certificates that a consumer is checked against."""
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("not a certificate")
    line = refused(*ANYWHERE, "--to", f"tcp+tls://127.0.0.1:9000?tls-ca={nonsense}", code=78)

    assert str(nonsense) in line


def test_listener_that_others_can_reach() -> None:
    """It is refused unless somebody says that it is meant."""
    line = refused("--listen", "tcp://0.0.0.0:0", *TO, code=78)

    assert "allow-remote=yes" in line


def test_acknowledging_what_cannot_be_stored(tmp_path: Path) -> None:
    """A listener that is to answer after storing needs a spool, and the line says how to have one."""
    listen = ("--listen", "tcp://127.0.0.1:0?ack-after=stored")
    line = refused(*listen, *TO, code=78)

    assert "ack-after=stored needs a spool to store in: add --spool DIR to the daemon" in line


def test_usage() -> None:
    """An unknown option is a matter of usage, and the nearest one is named."""
    ended = run_command("run", "--listn", "tcp://127.0.0.1:0")

    assert ended.returncode == 2
    assert b"--listen" in ended.stderr
