"""What installed distributions provide, read from their metadata; nothing is imported."""
# Rule: this is the cheap way. Where it could be wrong, it answers None, and importlib_metadata is asked.

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = [
    "PLUGINS",
    "TRANSPORTS",
    "Provided",
    "bounds_on_core",
    "entry_points",
    "is_editable",
    "normalized",
    "scan",
]

TRANSPORTS: Final = "producer_pool.transports"
"""The entry-point group whose names are schemes, with ``.`` for ``+``."""
PLUGINS: Final = "producer_pool.plugins"
"""The entry-point group of wiring plugins; their names say nothing."""

_ON_CORE: Final = r"(?mi)^Requires-Dist:\s*producer[-_.]pool\s*(?:\[.*?\])?\s*\(?\s*([<>=!~][^;)\n]*)"
_PIECE: Final = 1 << 16
"""Bytes that are read at once: nearly always all."""
_VALUE: Final = re.compile(r"([\w.]+(?:\s*:\s*[\w.]+)?)\s*(?:\[.*\])?\s*\Z")


class Provided(NamedTuple):
    """One entry point of an installed distribution, or something that the program registered itself."""

    group: str
    name: str
    distribution: str
    version: str
    value: str
    """``module`` or ``module:object``."""
    location: str = ""
    """The folder where it is installed."""
    direct_url: str = ""
    """What its ``direct_url.json`` says of where it was installed from (PEP 610); empty: from an index."""

    @property
    def scheme(self) -> str:
        """The URL scheme that the entry point stands for."""
        return self.name.replace(".", "+")

    @property
    def title(self) -> str:
        """Distribution and version, as errors and tables name it."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def editable(self) -> bool:
        """Whether it is installed from a source tree that may change."""
        return is_editable(self.direct_url)


def normalized(distribution: str) -> str:
    """Return the one spelling of a distribution's name by which two are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def scan(folders: Iterable[str]) -> tuple[Provided, ...] | None:
    """
    Return the entry points of both groups in *folders*, a sys.path, or None where this cannot be told.

    The first of two copies of a distribution counts, as with imports.
    """
    if any(_is_foreign(finder) for finder in sys.meta_path):
        return None
    found: list[Provided] = []
    seen: set[str] = set()
    for folder in folders:
        here: dict[str, list[str]] = {}
        try:
            names = os.listdir(folder or ".")
        except NotADirectoryError:
            return None  # a zip file
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                distribution = normalized(name.rpartition(".")[0].partition("-")[0])
                here.setdefault(distribution, []).append(name)
            elif name == "EGG-INFO":
                return None
        for distribution, copies in here.items():
            if distribution in seen:
                continue
            for name in copies:
                entries = _read_one(os.path.join(folder or ".", name))
                if entries is None or (entries and len(copies) > 1):
                    return None  # damaged, or the remains of an update
                found += entries
        seen |= here.keys()
    return tuple(found)


def _is_foreign(finder: object) -> bool:
    """Whether *finder* may know distributions that do not lie in the folders of sys.path."""
    usual = finder.__module__.startswith(("_frozen_importlib_external", "importlib_metadata"))
    return hasattr(finder, "find_distributions") and not usual


def _read_one(folder: str) -> list[Provided] | None:
    """Return what the distribution with this metadata provides; None if its metadata is damaged."""
    text = _read(folder, "entry_points.txt")
    if "[producer_pool." not in text:
        return []
    headers = (_read(folder, "METADATA") or _read(folder, "PKG-INFO")).partition("\n\n")[0]
    name, version = (re.search(rf"^{key}:\s*(\S+)", headers, re.M) for key in ("Name", "Version"))
    if name is None or version is None:
        return None
    direct_url = _read(folder, "direct_url.json")
    return [
        Provided(group, entry, name[1], version[1], value, os.path.dirname(folder), direct_url)
        for group, entry, value in entry_points(text)
    ]


def _read(folder: str, name: str) -> str:
    # Without open(): what it asks and builds costs more than the reading, once for every distribution.
    pieces: list[bytes] = []
    try:
        file = os.open(f"{folder}/{name}", os.O_RDONLY)
        try:
            while piece := os.read(file, _PIECE):
                pieces.append(piece)
        finally:
            os.close(file)
    except OSError:
        return ""
    return b"".join(pieces).decode(errors="replace").replace("\r\n", "\n")


def entry_points(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield group, name and value of the entry points of both groups in an ``entry_points.txt``."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif group in (TRANSPORTS, PLUGINS) and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if equals and (match := _VALUE.match(value.strip())):
                yield group, name.strip(), re.sub(r"\s", "", match[1])


def bounds_on_core(provided: Provided) -> str:
    """Return which versions of core a distribution asks for, such as ``<0.2,>=0.1``; empty: any."""
    try:
        names = os.listdir(provided.location)
    except OSError:
        return ""
    for name in names:
        stem, _, kind = name.rpartition(".")
        if kind in ("dist-info", "egg-info"):
            if normalized(stem.partition("-")[0]) == normalized(provided.distribution):
                metadata = os.path.join(provided.location, name)
                headers = _read(metadata, "METADATA") or _read(metadata, "PKG-INFO")
                if match := re.search(_ON_CORE, headers.partition("\n\n")[0]):
                    return match[1].strip()
    return ""


def is_editable(direct_url: str) -> bool:
    """Whether a ``direct_url.json`` (PEP 610) tells of an editable installation."""
    if not direct_url:
        return False
    import json

    try:
        return bool(json.loads(direct_url).get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return False
