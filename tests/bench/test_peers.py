"""What peers are told, where they come from, and what is said where one is missing."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import build
from bench.peers import supplies
from bench.peers.brokers import mosquitto_settings, nats_settings
from bench.peers.launch import Launch, UnavailableError, free_port, is_bound
from bench.peers.syslog import rsyslog_settings, syslog_ng_settings
from bench.places import unix_socket
from bench.process import BenchError
from bench.relays import RELAYS, SPEEDUPS, WITHOUT_SPEEDUPS, Relay
from bench.workloads import PEERS

CONSUMERS = [5001, 5002]
NEEDED = {
    "nats": "nats-server",
    "mosquitto": "mosquitto",
    "rsyslog": "rsyslogd",
    "rsyslog-disk": "rsyslogd",
    "rsyslog-udp": "rsyslogd",
    "syslog-ng": "syslog-ng",
    "syslog-ng-unix": "syslog-ng",
    "picows": "picows",
    "aiohttp": "aiohttp",
    "naive-websocket": "websockets",
    "node-ws": "ws",
}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with node and nothing else, and a folder into which nothing is unpacked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    put_program(programs / "node", "exit 0")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(supplies, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    # pip belongs to this Python: it would be there, and fetch.
    monkeypatch.setattr(supplies, "PARTS", (supplies.DEBIAN, supplies.NPM))
    return programs


def put_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# -- what they are told ----------------------------------------------------------------------------


def test_rsyslog_is_told_to_change_nothing() -> None:
    """Lines go out as they came in, to every consumer, and in order."""
    settings = rsyslog_settings("tcp", 5000, CONSUMERS)

    assert 'input(type="imptcp" address="127.0.0.1" port="5000"' in settings
    assert 'string="%rawmsg%\\n"' in settings
    assert re.findall(r'target="127.0.0.1" port="(\d+)" protocol="tcp" template="raw"', settings) == [
        "5001",
        "5002",
    ]
    assert 'main_queue(queue.workerThreads="1")' in settings
    assert "Disk" not in settings


def test_rsyslog_is_told_to_store(tmp_path: Path) -> None:
    """Everything lies on disk, synced, before it is forwarded."""
    settings = rsyslog_settings("tcp", 5000, CONSUMERS, tmp_path)

    assert 'queue.type="Disk"' in settings
    assert 'queue.syncQueueFiles="on"' in settings
    assert f'queue.spoolDirectory="{tmp_path}"' in settings


def test_rsyslog_is_told_of_datagrams() -> None:
    """A datagram goes out as it came in, without a newline."""
    settings = rsyslog_settings("udp", 5000, CONSUMERS)

    assert 'input(type="imudp" address="127.0.0.1" port="5000"' in settings
    assert 'string="%rawmsg%"' in settings
    assert settings.count('protocol="udp"') == len(CONSUMERS)
    assert "tcp" not in settings


@pytest.mark.parametrize(
    "wire, source, consumer",
    [
        (
            "tcp",
            'network(ip("127.0.0.1") transport("tcp") port(5000)',
            'network("127.0.0.1" transport("tcp") port(5002)',
        ),
        ("unix", f'unix-stream("{unix_socket(5000)}"', f'unix-stream("{unix_socket(5002)}"'),
    ],
)
def test_syslog_ng_is_told_to_drop_nothing(wire: str, source: str, consumer: str) -> None:
    """It waits for its consumers, and leaves the lines as they are."""
    settings = syslog_ng_settings(wire, "3.38", 5000, CONSUMERS)

    assert settings.startswith("@version: 3.38\n")
    assert f"source all {{ {source} flags(no-parse)" in settings
    assert f"destination to1 {{ {consumer}" in settings
    assert settings.count('template("$MSG\\n")') == len(CONSUMERS)
    assert "flags(flow-control)" in settings


def test_brokers_listen_on_loopback_only() -> None:
    """Nobody else can reach them."""
    assert 'host: "127.0.0.1"\nport: 5000\n' in nats_settings(5000)
    assert "listener 5000 127.0.0.1\n" in mosquitto_settings(5000)


# -- what is missing -------------------------------------------------------------------------------


def test_every_peer_is_known() -> None:
    """All whose losses are their own are tested for what is said when they are missing."""
    assert {name for name in PEERS if name in RELAYS} == set(NEEDED)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_missing_peer(name: str, bare: Path) -> None:
    """It is named, and so is the next step; nothing is fetched meanwhile."""
    with pytest.raises(
        UnavailableError, match=f"^{NEEDED[name]} is not .*; try: python tests/bench --set-up"
    ):
        RELAYS[name].start(CONSUMERS, core=None, bound=1)


def test_no_node(bare: Path) -> None:
    """Node is not fetched: it is named with what to install."""
    (bare / "node").unlink()

    with pytest.raises(UnavailableError, match=r"^node is not installed; try: apt install nodejs npm$"):
        RELAYS["node-ws"].start(CONSUMERS, core=None, bound=1)


def test_installed_program_comes_first(bare: Path) -> None:
    """One that is on the PATH is used as it is."""
    put_program(bare / "rsyslogd", "echo rsyslogd 8.1.2, compiled with")
    found = supplies.program("rsyslogd")

    assert found.command == (str(bare / "rsyslogd"),)
    assert found.version() == "8.1.2"


def test_program_that_does_not_run(bare: Path) -> None:
    """The last that it says is the reason why it is skipped."""
    put_program(bare / "mosquitto", "echo libcjson is missing >&2; exit 127")

    with pytest.raises(UnavailableError, match="mosquitto does not run here: libcjson is missing"):
        supplies.program("mosquitto").version()


# -- where they come from --------------------------------------------------------------------------


def test_changed_archive(bare: Path) -> None:
    """An archive with another hash than required is not unpacked, and the rest is set up all the same."""
    put_program(bare / "npm", 'echo changed > "${5%@*}-1.tgz"')
    (trouble,) = (line for line in supplies.set_up() if line.startswith("bench-npm.txt"))

    assert re.search(r"ws@\S+ is not what it was: its hash is sha512-\S+$", trouble)
    assert not list(build.CACHE.glob("npm-*"))


def test_no_package_manager(bare: Path) -> None:
    """Each source that cannot be used is one line, which says why."""
    troubles = "\n".join(supplies.set_up())

    assert "bench-npm.txt: npm is not installed; try: apt install npm" in troubles
    assert (
        "bench-apt.txt: there is no apt-get; install nats-server, rsyslog, syslog-ng-core, mosquitto"
        in troubles
    )


def test_everything_is_pinned() -> None:
    """Archives of PyPI and npm are pinned by hash, and no index is named."""
    pypi = (supplies.REQUIREMENTS / "bench.txt").read_text()
    npm = (supplies.REQUIREMENTS / "bench-npm.txt").read_text()

    assert re.findall(r"(?m)^\w[^\\\n]*$", pypi) == []
    assert re.findall(r"(?m)^[^#\s]+ (?!sha512-)", npm) == []
    assert "://" not in pypi + npm


# -- when they listen ------------------------------------------------------------------------------

LISTENS = """
import os, socket
with socket.create_server(("127.0.0.1", int(os.environ["WANTED"]))) as server:
    server.accept()
"""


def test_peer_that_is_told_its_port() -> None:
    """It has started when it listens there; it need not say so."""
    port = free_port("tcp", [])
    relay = Relay("test", lambda _: Launch([sys.executable, "-c", LISTENS], port, {"WANTED": str(port)}))
    child, listens = relay.start([], core=None, bound=30)
    with child, socket.create_connection(("127.0.0.1", listens), 10):
        pass

    assert listens == port


def test_peer_that_refuses_its_settings() -> None:
    """What it said last is what the bench says."""
    refuses = Launch([sys.executable, "-c", "raise SystemExit('unknown option')"], free_port("tcp", []))

    with pytest.raises(BenchError, match=r"ended too early; it said:\n  unknown option"):
        Relay("test", lambda _: refuses).start([], core=None, bound=30)


@pytest.mark.parametrize(
    "wire, kind", [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM), ("unix", socket.SOCK_STREAM)]
)
def test_somebody_listens(wire: str, kind: socket.SocketKind) -> None:
    """It is seen without a connection, from when one would be accepted to the end of the socket."""
    port = free_port(wire, [123_456_789])
    place = str(unix_socket(port)) if wire == "unix" else ("127.0.0.1", port)
    with ExitStack() as opened:
        opened.callback(unix_socket(port).unlink, missing_ok=True)
        before = is_bound(wire, port)
        server = opened.enter_context(
            socket.socket(socket.AF_UNIX if wire == "unix" else socket.AF_INET, kind)
        )
        server.bind(place)
        bound = is_bound(wire, port)
        if kind is socket.SOCK_STREAM:
            server.listen()

        assert before is False
        assert bound is (wire == "udp")
        assert is_bound(wire, port) is True
    assert is_bound(wire, port) is False


# -- the product, with something more --------------------------------------------------------------


def test_product_is_measured_as_it_is_by_default() -> None:
    """Where the speedups of websockets are installed, the relay that is called after nothing does without."""
    hidden, _, _ = WITHOUT_SPEEDUPS.partition("from ")
    asked = f"{hidden}from producer_pool_websocket import loops; print(loops.read_messages.__module__)"
    said = subprocess.run([sys.executable, "-P", "-c", asked], check=True, capture_output=True, text=True)

    assert said.stdout == "producer_pool_websocket.runs\n"
    for name in ("websocket", "to-all"):
        assert WITHOUT_SPEEDUPS in Launch.of(RELAYS[name].command(CONSUMERS * 2)).command


def test_speedups_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said why they take no part, and nothing else is measured in their place."""
    monkeypatch.setitem(sys.modules, SPEEDUPS, None)

    with pytest.raises(UnavailableError, match="was not compiled; install gcc"):
        RELAYS["websocket-speedups"].command(CONSUMERS)
