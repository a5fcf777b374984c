"""Relays that one writes with a library, in Python and for node: one send per message and consumer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.peers.launch import Launch
from bench.peers.supplies import Program, node, python

__all__ = ["of_node", "of_python", "plain_python"]

PROGRAMS = Path(__file__).resolve().parent / "programs"


def of_python(name: str, library: str) -> Callable[[Sequence[int]], Launch]:
    """Return a relay that is a program of this folder, with a library from PyPI."""
    return lambda consumers: _launch(python(library), f"{name}.py", consumers)


def of_node(name: str, library: str) -> Callable[[Sequence[int]], Launch]:
    """Return a relay that is a program of this folder, with a library from npm."""
    return lambda consumers: _launch(node(library), f"{name}.js", consumers)


def plain_python(name: str) -> Callable[[Sequence[int]], Launch]:
    """Return a relay that needs nothing but Python."""
    return lambda consumers: _launch(Program((sys.executable,)), f"{name}.py", consumers)


def _launch(runs: Program, file: str, consumers: Sequence[int]) -> Launch:
    addresses = [f"127.0.0.1:{port}" for port in consumers]
    return Launch([*runs.command, str(PROGRAMS / file), *addresses], variables=runs.variables)
