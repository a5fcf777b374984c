"""On what is measured: the head of a report."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from bench.peers.launch import UnavailableError
from bench.peers.supplies import node, program, python

__all__ = ["describe"]

PROGRAMS = ("nats-server", "rsyslogd", "syslog-ng", "mosquitto")
LIBRARIES = ("websockets", "picows", "aiohttp", "pyzmq")


def describe() -> dict[str, str]:
    """What takes part, and its version or size. Peers that are not there are left out."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **_peers(),
    }


def _peers() -> dict[str, str]:
    versions = {name: _version(_of_program, name) for name in PROGRAMS}
    versions |= {name: _version(_of_library, name) for name in LIBRARIES}
    versions["node"] = _version(_of_node, "ws")
    return {name: version for name, version in versions.items() if version}


def _version(ask: Callable[[str], str], name: str) -> str:
    """Return the answer, empty if it is not installed."""
    with suppress(UnavailableError):
        return ask(name)
    return ""


def _of_program(name: str) -> str:
    return program(name).version()


def _of_node(library: str) -> str:
    return node(library).version()


def _of_library(name: str) -> str:
    folder = python("zmq" if name == "pyzmq" else name).variables["PYTHONPATH"]
    return next((found.version for found in distributions(name=name, path=[folder])), "")
