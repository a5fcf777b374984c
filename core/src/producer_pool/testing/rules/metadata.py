"""What a distribution says of itself, and what importing its plugin does."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from producer_pool.contract.hookspecs import PROJECT
from producer_pool.discovery.installed import TRANSPORTS, Provided, normalized
from producer_pool.model.errors import PluginError
from producer_pool.testing.rule import INSTALLED, RuleBroken, require, rule
from producer_pool.testing.trial import Trial

__all__ = ["hooks_are_marked", "imports_lightly", "metadata_is_valid"]

_CORE: Final = "producer-pool"
_EXAMPLE: Final = "producer-pool>=0.1,<0.2"
_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)")
"""The name in a requirement, and its bounds (PEP 508)."""
_SLOW: Final = 10.0
"""Times what importing all of producer_pool.plugin takes."""
_TRIES: Final = 3
"""Measurements of which the best counts: others may be at work on the machine."""
_BOUND: Final = 30.0
"""Seconds for one of them."""


@rule(INSTALLED)
async def metadata_is_valid(trial: Trial) -> None:
    """
    The metadata of the distribution says which schemes it serves, and which versions of core it fits.

    Each entry point in the group ``producer_pool.transports`` can be loaded. ``dependencies`` has core
    with both ends: ``producer-pool>=0.1,<0.2``; without a ceiling, pip installs the plugin beside a core
    that it does not fit, and without ``requires-python`` for a Python that it does not run on. A package
    has a file ``py.typed``, so that type checkers look into it.
    """
    provided = trial.subject.provided
    for scheme in _schemes(trial):
        require(
            re.fullmatch(r"[a-z][a-z0-9+-]*", scheme),
            f"the entry point {scheme.replace('+', '.')!r} stands for {scheme}, which is no scheme of a URL",
        )
        try:
            trial.subject.registry.load(scheme)
        except PluginError as error:
            raise RuleBroken(f"its entry point for {scheme} cannot be loaded: {error}") from None
    metadata = _metadata(provided)
    require(metadata["Requires-Python"], "the metadata has no Requires-Python; set requires-python")
    if normalized(provided.distribution) != _CORE:
        _check_bounds(metadata)
    module = sys.modules[provided.value.partition(":")[0].partition(".")[0]]
    if getattr(module, "__path__", None):
        typed = [Path(folder) / "py.typed" for folder in module.__path__]
        require(any(path.exists() for path in typed), f"the package {module.__name__} has no file py.typed")


@rule(INSTALLED)
async def imports_lightly(trial: Trial) -> None:
    """
    Importing the plugin does nothing that can be seen, and does it soon.

    A module is imported when its scheme is first asked for: in somebody's program, perhaps on its event
    loop. There it starts no thread or process, opens no socket, prints nothing, and changes neither
    logging nor signals. What takes long to import, such as a vendor's library, is imported in the
    function that needs it.
    """
    seen: dict[str, Any] = {}
    ratio = float("inf")
    for _ in range(_TRIES):
        seen = await asyncio.to_thread(_import_alone, trial.subject.provided)
        require(not seen["printed"], f"importing it prints {seen['printed'][:200]!r}")
        require(not seen["did"], f"importing it {', '.join(seen['did'])}")
        ratio = min(ratio, seen["seconds"] / seen["core"])
        if ratio <= _SLOW:
            return
    raise RuleBroken(
        f"importing it takes {seen['seconds'] * 1000:.0f} ms, {ratio:.0f} times as long as importing "
        f"all of producer_pool.plugin does; python -X importtime -c 'import {seen['module']}' says why"
    )


@rule()
async def hooks_are_marked(trial: Trial) -> None:
    """
    What is named like a hook is marked with @hookimpl, and is an ordinary function.

    A function without the mark is never called, and nothing says so; a coroutine function is called,
    and what it returns is never awaited.
    """
    plugin = trial.subject.loaded.plugin
    for name, function in _functions(plugin):
        require(
            getattr(function, f"{PROJECT}_impl", None) is not None,
            f"{name}() is not marked with @hookimpl, and so it is never called",
        )
        require(
            not inspect.iscoroutinefunction(function) and not inspect.isasyncgenfunction(function),
            f"{name}() is a coroutine function; hooks are called, and not awaited",
        )


# -- what is installed -----------------------------------------------------------------------------


def _schemes(trial: Trial) -> list[str]:
    """Return the schemes of the distribution's entry points."""
    own = trial.subject.provided
    found = {
        one.scheme
        for one in trial.subject.registry.installed()
        if (one.group, one.distribution, one.version) == (TRANSPORTS, own.distribution, own.version)
    }
    return sorted(found | {own.scheme})


def _metadata(provided: Provided) -> Message:
    for folder in Path(provided.location).glob("*-info"):
        for name in ("METADATA", "PKG-INFO"):
            if (folder / name).is_file():
                found = HeaderParser().parsestr((folder / name).read_text(encoding="utf-8"))
                if normalized(found["Name"] or "") == normalized(provided.distribution):
                    return found
    raise RuleBroken(f"{provided.location} has no metadata of {provided.distribution}")


def _check_bounds(metadata: Message) -> None:
    for text in metadata.get_all("Requires-Dist") or ():
        match = _REQUIREMENT.match(text)
        if match is not None and normalized(match[1]) == _CORE:
            exact = re.search("==|~=", match[2])
            require(exact or "<" in match[2], f"it requires {text}, without a ceiling; such as {_EXAMPLE}")
            require(exact or ">" in match[2], f"it requires {text}, without a floor; such as {_EXAMPLE}")
            return
    raise RuleBroken(f"it does not require {_CORE}; such as {_EXAMPLE}")


def _functions(plugin: object) -> Iterator[tuple[str, Any]]:
    """Yield what is named like a hook, and was made by the plugin."""
    holder = plugin if isinstance(plugin, ModuleType | type) else type(plugin)
    for name, function in inspect.getmembers(holder, inspect.isroutine):
        if name.startswith(f"{PROJECT}_") and function.__module__ != "producer_pool.contract.hookspecs":
            yield name, function


# -- in a process that does nothing else ------------------------------------------------------------

_PROGRAM: Final = """
import json, logging, signal, sys, threading, time
path, module, report = json.loads(sys.argv[1])
sys.path[:] = path
start = time.perf_counter()
from producer_pool.plugin import *
core = time.perf_counter() - start
words = {
    "socket.__new__": "opens a socket", "socket.getaddrinfo": "looks up a name",
    "socket.gethostbyname": "looks up a name", "socket.gethostbyaddr": "looks up a name",
    "subprocess.Popen": "starts a process", "os.fork": "starts a process", "os.system": "starts a process",
}
did, watching = [], True
sys.addaudithook(lambda event, args: did.append(words[event]) if watching and event in words else None)
started = threading.Thread.start
threading.Thread.start = lambda thread: (did.append("starts a thread"), started(thread))[1]
signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
root = logging.getLogger()
logs = root.level, root.handlers[:]
start = time.perf_counter()
__import__(module)
seconds = time.perf_counter() - start
watching = False
if signals != {number: signal.getsignal(number) for number in signals}:
    did.append("changes signal handlers")
if logs != (root.level, root.handlers):
    did.append("changes logging")
with open(report, "w") as file:
    json.dump({"module": module, "core": core, "seconds": seconds, "did": sorted(set(did))}, file)
"""


def _import_alone(provided: Provided) -> dict[str, Any]:
    """Import the plugin in a process of its own, and return what that did."""
    module = provided.value.partition(":")[0]
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        report = Path(folder) / "report"
        arguments = json.dumps([sys.path, module, str(report)])
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_BOUND,
            )
        except subprocess.TimeoutExpired:
            raise RuleBroken(f"a process that imports it does not end within {_BOUND:g} s") from None
        printed = done.stdout.decode(errors="replace")
        require(report.is_file(), f"a process that imports it ends with {done.returncode}: {printed[-500:]}")
        return {**json.loads(report.read_text()), "printed": printed}
