"""The daemon in a trial: a process of its own, with the transport at both of its ends."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from producer_pool.discovery.selection import ALLOW, CHOOSE, DENY, REQUIRE
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError
from producer_pool.testing.rule import Need, RuleBroken, not_applicable
from producer_pool.testing.subject import Subject
from producer_pool.testing.trial import Trial

__all__ = ["COMMAND", "LOADABLE", "TrialDaemon"]

COMMAND: Final = Need(
    lambda subject: importlib.util.find_spec("click"),
    'needs the command line for this, which is not installed; try: pip install "producer-pool[cli]"',
)
LOADABLE: Final = Need(
    lambda subject: subject.provided.version or _file(subject),
    "is an object of this program, which a daemon cannot load",
)

_OTHER: Final = "tcp"
"""Through which a daemon gets its messages where the transport on trial cannot bring them."""


class TrialDaemon:
    """
    ``producer-pool run``, from its start until the end of the block, which it does not outlive.

    It listens with the transport on trial, at a place of its own; where that is not possible, over tcp.
    With *env*, that is all that configures it.
    """

    def __init__(self, trial: Trial, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._trial = trial
        self._folder = trial.folder / "daemon"
        self._folder.mkdir(exist_ok=True)
        self.own, listen = _source(trial, self._folder)
        """Whether its messages come through the transport on trial."""
        file = _file(trial.subject)
        self._command = [sys.executable, "-m", "producer_pool", "run", "--json", *arguments]
        self._command += ["--plugin", file] if file else []
        self._env = _environment()
        if env is None:
            self._command += ["--listen", listen]
        else:
            self._env.update({"PRODUCER_POOL_LISTEN": listen, **env})
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        process = self._start()
        try:
            await self._trial.until(lambda: self._events or self._ended, "the daemon is ready")
            if not self._events:
                raise RuleBroken(f"the daemon ended with {process.returncode}; it said: {self.said}")
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    @property
    def address(self) -> str:
        """Where it listens."""
        address: str = self._events[0]["listeners"][0]["address"]
        return address.partition("?")[0]

    @property
    def consumers(self) -> list[str]:
        """What its consumers are called."""
        return list(self._events[0]["consumers"])

    @property
    def said(self) -> str:
        """The end of what it said on stderr."""
        return (self._folder / "stderr").read_text(errors="replace")[-1000:].strip() or "nothing"

    async def breaks(self) -> int:
        """Return how often the connection to its consumer broke, or could not be made."""
        assert self._process is not None
        before = len(self._events)
        self._process.send_signal(signal.SIGUSR1)
        await self._trial.until(lambda: len(self._events) > before, "the daemon says how things are")
        return sum(consumer["breaks"] for consumer in self._events[-1]["consumers"].values())

    async def end(self) -> int:
        """Ask it to end, as systemd does, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await self._trial.until(lambda: self._ended, "the daemon ends after SIGTERM")
        return int(self._process.returncode)

    @property
    def _events(self) -> list[dict[str, Any]]:
        """What it printed so far: whole lines of JSON."""
        lines = (self._folder / "stdout").read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise RuleBroken(
                f"the daemon printed {lines[0][:200]!r} among its JSON; does the plugin print?"
            ) from None

    @property
    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "stdout").open("wb") as stdout, (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        atexit.register(self._process.kill)  # for a rule that hangs, and is left behind
        return self._process

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
            atexit.unregister(self._process.kill)


def _file(subject: Subject) -> str:
    """Return the file that the plugin comes from; empty: from none, or it is installed."""
    return subject.provided.value if Path(subject.provided.value).is_file() else ""


def _source(trial: Trial, folder: Path) -> tuple[bool, str]:
    """Return where the daemon is to listen, and whether that is with the transport on trial."""
    subject = trial.subject
    if subject.transport.listener is not None and not _is_taken(subject.url):
        return True, subject.listener_url(subject.place(folder), trial.folder)
    if _OTHER in subject.registry.schemes():
        return False, f"{_OTHER}://127.0.0.1:0"
    return not_applicable(
        f"cannot bring the daemon its messages: its listener is at {Endpoint.parse(subject.url)} already, "
        f"or there is none, and {_OTHER} is not installed"
    )


def _is_taken(url: str) -> bool:
    """Whether *url* is one place, at which the consumer is."""
    if "{tmp}" in url:
        return False
    try:
        return Endpoint.parse(url).port != 0
    except ConfigurationError:
        return True


def _environment() -> dict[str, str]:
    """Return this process's environment, in which nothing configures a pool; and where its modules are."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PRODUCER_") or name in (ALLOW, DENY, REQUIRE) or name.startswith(CHOOSE)
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
