"""What the daemon loads: no more than its URLs and settings ask for."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.certificates import Authority
from support.processes import clean_environment
from support.waiting import BOUND

PROGRAM = """
import sys
from producer_pool.cli import main
sys.argv = ["producer-pool", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
from producer_pool.cli.latecomers import is_late
print(sorted(name for name, module in sys.modules.items() if not is_late(module)))
"""

OF_OTHERS = (
    "_ssl",
    "click",
    "concurrent.futures.thread",
    "datetime",
    "encodings.idna",
    "gettext",
    "importlib_metadata",
    "ipaddress",
    "json",
    "locale",
    "logging.handlers",
    "pathlib",
    "pickle",
    "platform",
    "random",
    "rich",
    "sqlite3",
    "textwrap",
    "tokenize",
    "tomllib",
    "urllib.parse",
    "uuid",
)
OF_OURS = (
    "cli.group",
    "cli.options",
    "cli.run",
    "cli.send",
    "cli.sink",
    "delivery.lane",
    "delivery.writeahead",
    "discovery.plugin_file",
    "discovery.tomlfile",
    "model.stored",
    "pool",
    "storage.database",
    "storage.dead_letters",
    "testing",
    "toolkit.datagrams.client",
    "toolkit.datagrams.listener",
    "toolkit.serving.client",
    "toolkit.streams.tls",
)
UNWANTED = {*OF_OTHERS, *(f"producer_pool.{name}" for name in OF_OURS)}
"""What a daemon has no use for that takes tcp in and sends tcp out."""


PLUGIN = """
from producer_pool.plugin import hookimpl

@hookimpl
def producer_pool_started(pool):
    pass
"""


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a daemon has loaded at its end, after its whole life."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", *arguments, "--to", "tcp://127.0.0.1:9"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        while "listen" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGTERM)
        printed, more = process.communicate(timeout=BOUND)
        assert process.returncode == 0, said + more
        return set(ast.literal_eval(printed.splitlines()[-1]))
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def test_tcp_to_tcp() -> None:
    """It loads nothing of TLS, disks, datagrams, files of settings, JSON, or what reads a command line."""
    assert loaded_by("--listen", "tcp://127.0.0.1:0") & UNWANTED == set()


@pytest.mark.parametrize(
    "arguments,wanted",
    [
        (["--listen", "tcp+tls://127.0.0.1:0?{tls}"], {"_ssl", "producer_pool.toolkit.streams.tls"}),
        (["--to", "tcp+serve://127.0.0.1:0"], {"producer_pool.toolkit.serving.client"}),
        (["--listen", "udp://127.0.0.1:0"], {"producer_pool.toolkit.datagrams.listener"}),
        (["--to", "udp://127.0.0.1:9"], {"producer_pool.toolkit.datagrams.client"}),
        (["--config", "{tmp}/pool.toml"], {"tomllib", "pathlib", "producer_pool.discovery.tomlfile"}),
        (["--plugin", "{tmp}/plugin.py"], {"pathlib", "producer_pool.discovery.plugin_file"}),
        (
            ["--spool", "{tmp}/spool"],
            {"sqlite3", "producer_pool.storage.database", "producer_pool.delivery.lane"},
        ),
        (["--dead-letters", "{tmp}/letters"], {"producer_pool.storage.dead_letters"}),
        (["--json"], {"json"}),
        (["--to", "tcp://127.0.0.1:9?dead-letters=stdout%3A"], {"urllib.parse"}),
        (["--to", "tcp://localhost:9"], {"encodings.idna"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_control_what_is_asked_for_is_loaded(arguments: list[str], wanted: set[str], tmp_path: Path) -> None:
    """Each of these options loads what the test above says is not there without it, and little else of it."""
    (tmp_path / "pool.toml").write_text("[pool]\ndrain = '30s'\n")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    here = Authority(tmp_path).issue() if "{tls}" in arguments[-1] else None
    words = [word.format(tmp=tmp_path, tls=here and here.query) for word in arguments]
    listen = [] if "--listen" in words else ["--listen", "tcp://127.0.0.1:0"]

    assert wanted <= loaded_by(*listen, *words) & UNWANTED


@pytest.mark.parametrize("name", sorted(UNWANTED))
def test_control_each_of_them_could_be_loaded(name: str) -> None:
    """No name in the list is misspelt, and none is of something that is not there any more."""
    assert find_spec(name) is not None
