"""A page done as its reader would: python typed in, commands run in terminals, output compared."""
# Rule: the addresses that a page shows are mapped to others that are free here, and back in what is printed.
# Nothing is got from the network: where a page makes an environment, it is made from wheels of this tree.

from __future__ import annotations

import configparser
import contextlib
import io
import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from click import Context
from sybil import Document, Region
from sybil.example import Example

from producer_pool.cli.group import cli
from producer_pool.discovery.config import SETTINGS, Settings
from producer_pool.discovery.factory import ClientFactory
from support.environments import Environment, build, wheel_of
from support.pages import EXAMPLES, Item, Kind, items
from support.terminals import Terminal, agrees, eventually

__all__ = ["Ports", "Rehearsal"]

_SHOWN: Final = re.compile(
    r"(?P<host>127\.0\.0\.1|localhost)(?P<between>:|\", |', | |/)(?P<port>[0-9]{4,5})\b"
)
_LOOPBACK: Final = ipaddress.IPv4Address("127.64.0.0")
"""Where addresses begin, one for each process: a number of one has 22 bits at the most."""
_LISTEN: Final = SETTINGS["listen"]
_LEFT_OVER: Final = shutil.ignore_patterns("__pycache__", ".*_cache", "dist")
_KILLS: Final = {"ctrl-c": signal.SIGINT, "kill": signal.SIGKILL}


_PATIENCE: Final = 90.0
"""Seconds for commands that end: one may be a whole test suite."""
_SHORT: Final = re.compile(r"\b(timeout|wait)=5\b")
"""What a page of python gives to something that takes no time, unless the machine stands still."""
_PATIENT: Final = """
import importlib.util
import sys

class Patient:
    def find_spec(self, name, path=None, target=None):
        if name != "producer_pool.cli.daemon":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_patiently(module):
            execute(module)
            module._FIRST_LOOK = 15.0

        spec.loader.exec_module = execute_patiently
        return spec

sys.meta_path.insert(0, Patient())
"""
"""
Has the daemon's banner wait for consumers that are there, however long a busy machine takes for that.

Pages show what it says on a machine that has nothing else to do: as sitecustomize.py, on PYTHONPATH.
"""
_TOOLS: Final = ("pip", "hatchling", "editables", "mypy")
"""What pip needs in an environment to build there, and what the extras of the examples name."""


def _patient(text: str) -> str:
    """Return *text* with time for a machine that stands still."""
    return _SHORT.sub(r"\1=60", text)


class Ports:
    """
    Free ports for the ones that a page shows, at a loopback address that no other process uses.

    A port that is free may have been that of another test a moment ago, whose clients go on trying there.
    They do so at 127.0.0.1, and all of 127.0.0.0/8 is this machine.
    """

    def __init__(self) -> None:
        self.host = str(_LOOPBACK + os.getpid())
        """What stands for 127.0.0.1. The name localhost stays, as a certificate may be for it."""
        self._held: dict[str, socket.socket] = {}

    def mapped(self, text: str) -> str:
        """Return *text* with a free port for each that it shows."""

        def address(match: re.Match[str]) -> str:
            host = match["host"] if match["host"] == "localhost" else self.host
            return f"{host}{match['between']}{self.of(match['port'])}"

        return _SHOWN.sub(address, text)

    def unmapped(self, text: str) -> str:
        """Return *text* with the addresses that the page shows."""
        text = re.sub(rf"\b{re.escape(self.host)}\b", "127.0.0.1", text)
        for shown in self._held:
            text = re.sub(rf"\b{self.of(shown)}\b", shown, text)
        return text

    def of(self, shown: str) -> int:
        """Return the port for one that is shown. It is bound, so that nobody else is given it."""
        if shown not in self._held:
            held = self._held[shown] = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("", 0))
        port: int = self._held[shown].getsockname()[1]
        return port

    def listened(self, command: str) -> bool | None:
        """Whether somebody listens at one that *command* names, as Linux tells; None if it names none."""
        ports = {f":{port:04X}" for shown in self._held if str(port := self.of(shown)) in command}
        for table, state in (("tcp", "0A"), ("udp", "07")):
            rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
            if any(row[1][-5:] in ports and row[3] == state for row in rows):
                return True
        return False if ports else None

    def close(self) -> None:
        """Let go of them."""
        for held in self._held.values():
            held.close()


class Rehearsal:
    """One page from its top to its end. What it starts is ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = Ports()
        self.terminals: list[Terminal] = []
        self.done: list[Item] = []
        self._printed = io.StringIO()
        self._redirection = contextlib.ExitStack()
        self._compared = 0
        """How much of what python printed the page has shown."""
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PRODUCER_", "PYTEST_", "COV_", "COVERAGE_"))
        }
        self._environment["HOME"] = str(folder)
        path = self._environment.get("PATH", os.defpath)
        self._environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
        patient = folder / ".patient"
        patient.mkdir()
        (patient / "sitecustomize.py").write_text(_PATIENT)
        paths = (str(patient), self._environment.get("PYTHONPATH"))
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._made: Environment | None = None
        for example in EXAMPLES.glob("*.py"):
            (folder / example.name).write_text(_patient(self.ports.mapped(example.read_text())))

    def regions(self, document: Document) -> Iterator[Region]:
        """Parse a page, for sybil."""
        for item in items(Path(document.path), document.text):
            if item.kind not in (Kind.DIRECTIVE, Kind.SHOWN):
                yield Region(item.start, item.end, item, self.evaluate)

    def evaluate(self, example: Example) -> None:
        """Do what one item of the page asks for."""
        item: Item = example.parsed
        self.done.append(item)
        text = self.ports.mapped(item.text)
        if sys.stdout is not self._printed:
            # From the first one to the end: a thread may print between two of them.
            self._redirection.enter_context(contextlib.redirect_stdout(self._printed))
        match item.kind:
            case Kind.ACTION:
                self._act(item)
            case Kind.NOT_RUN:
                pass
            case Kind.COMPARED:
                self._compare(item)
            case _:
                if "file" in item.notes:
                    (self.folder / item.notes["file"]).write_text(text)
                getattr(self, f"_{item.language}")(item, text, example.namespace)

    def left_out(self) -> str:
        """Return what python printed and the page does not show."""
        return self._printed.getvalue()[self._compared :]

    def close(self) -> None:
        """End all that was started."""
        for terminal in self.terminals:
            terminal.close()
        self.ports.close()
        self._redirection.close()

    # -- by language -------------------------------------------------------------------------------

    def _python(self, item: Item, text: str, namespace: dict[str, Any]) -> None:
        code = compile("\n" * item.line + _patient(text), str(item.page), "exec", dont_inherit=True)
        if "file" in item.notes:
            return  # The page runs it with a command.
        namespace["__name__"] = "__main__"
        exec(code, namespace)

    def _console(self, item: Item, text: str, _: object) -> None:
        if "environment" in item.notes:
            self._make_environment(item, text)
            return
        environment = dict(self._environment)
        if "--config" not in text:
            # Where a command does not say where to listen, there is nothing to be mapped.
            environment[_LISTEN.variable] = self.ports.mapped(_LISTEN.default)
        terminal = Terminal(text, self.folder, environment)
        self.terminals.append(terminal)
        last = len(terminal.commands) - 1
        if "stays" in item.notes:
            expected = self.ports.unmapped(terminal.expected[last])
            assert eventually(lambda: terminal.ended or self._stands(terminal, last, expected)), self._told(
                item, terminal
            )
            assert not terminal.ended, f"it should go on: {self._told(item, terminal)}"
        else:
            ended = eventually(lambda: terminal.ended, _PATIENCE)
            assert ended, f"it does not end: {self._told(item, terminal)}"
        for code, following in zip(terminal.codes, [*terminal.commands[1:], ""], strict=False):
            assert code == 0 or following.strip() == "echo $?", self._told(item, terminal)
        for number, expected in enumerate(terminal.expected):
            # One that goes on has shown it, and perhaps more by now.
            if expected and not ("stays" in item.notes and number == last):
                shown = terminal.shown[number]
                assert agrees(self.ports.unmapped(expected), self.ports.unmapped(shown)), self._told(
                    item, terminal
                )

    def _make_environment(self, item: Item, text: str) -> None:
        """Do what the three lines say, with wheels of this tree; all terminals are in it from then on."""
        assert self._made is None, f"{item}: there is an environment already"
        made, activated, installed = (shlex.split(line.removeprefix("$ ")) for line in text.splitlines())
        assert made[:3] == ["python", "-m", "venv"], f"{item}: {made}"
        assert activated == [".", f"{made[3]}/bin/activate"], f"{item}: {activated}"
        assert installed[:4] == ["python", "-m", "pip", "install"], f"{item}: {installed}"
        self._made = environment = Environment(self.folder / made[3])
        wheels = []
        for requirement in installed[4:]:
            if requirement.startswith("./"):  # One of the examples: its reader has the folder.
                shutil.copytree(EXAMPLES / requirement, self.folder / requirement, ignore=_LEFT_OVER)
                wheels += build([self.folder / requirement], self.folder / ".wheels")
            else:
                wheels.append(wheel_of(re.split(r"\W*\[", requirement)[0]))
        extras = re.findall(r"[\w-]+(?=[],])", " ".join(installed[4:]))
        environment.install(*wheels, extras=extras)
        environment.borrow(*_TOOLS)
        self._environment |= environment.variables

    def _stands(self, terminal: Terminal, number: int, expected: str) -> bool:
        """Whether a command that goes on has come as far as the page shows."""
        if len(terminal.shown) <= number:
            return False
        if not expected.strip(".\n"):
            return self._listens(terminal, terminal.commands[number])
        return agrees(expected, self.ports.unmapped(terminal.shown[number]))

    def _listens(self, terminal: Terminal, command: str) -> bool:
        """Whether a command of which nothing is shown is ready: it listens, or waits for something else."""
        names = command
        if "producer-pool run" in command:
            names = " ".join(re.findall(r"--listen\s+(\S+)", command)) or self.ports.mapped(_LISTEN.default)
        for script in re.findall(r"[\w/.-]+\.py\b", command):
            names += (self.folder / script).read_text()
        listened = self.ports.listened(names)
        return terminal.waits if listened is None else listened

    def _told(self, item: Item, terminal: Terminal) -> str:
        shown = "".join(
            map("$ {}{}".format, terminal.commands, [*terminal.shown, *[""] * len(terminal.commands)])
        )
        return f"{item}: what happened is\n{self.ports.unmapped(shown)}\nexit codes: {terminal.codes}"

    def _toml(self, item: Item, text: str, _: object) -> None:
        tables = tomllib.loads(text)
        if not {"pool", "producers", "plugins"} & tables.keys():
            return  # It is for somebody else.
        path = self.folder / item.notes.get("file", "page.toml")
        path.write_text(text)
        settings = Settings.read({}, flags={"config": str(path)})
        factory = ClientFactory(policy=settings.policy)
        for producer in settings.producers:
            factory.plan(producer.url)
        for listener in settings.listeners:
            factory.listener(listener.url)

    def _ini(self, item: Item, text: str, _: object) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(text)
        assert parser.sections(), f"{item}: no section"
        for section in parser.values():
            for name, value in section.items():
                if name.startswith("exec"):
                    _, command, *arguments = shlex.split(value)
                    known = cli.get_command(Context(cli), command)
                    assert known is not None, f"{item}: no command {command}"
                    known.make_context(command, arguments)

    def _text(self, item: Item, text: str, _: object) -> None:
        """Do nothing more: it is a file that something else reads."""

    def _json(self, item: Item, text: str, _: object) -> None:
        for line in text.splitlines():
            json.loads(line)

    # -- what is not code --------------------------------------------------------------------------

    def _act(self, item: Item) -> None:
        ((action, command),) = item.notes.items()
        self._terminal(item, command).send(_KILLS[action])
        assert eventually(lambda: self._terminal(item, command).ended), f"{item}: {command} does not end"

    def _compare(self, item: Item) -> None:
        if "output" in item.notes:
            # Threads print, too: so all counts that came since the page showed something last.
            all_of_it = self._printed.getvalue()
            printed = self.ports.unmapped(all_of_it[self._compared :])
            self._compared = len(all_of_it)
            assert agrees(item.text, printed), f"{item}: what was printed is\n{printed}"
            return
        terminal = self._terminal(item, item.notes["appears"])

        def appears() -> bool:
            shown = terminal.shown[len(terminal.commands) - 1]
            # What it says next may have followed already.
            return agrees(f"...\n{item.text}...\n", self.ports.unmapped(shown))

        assert eventually(appears), self._told(item, terminal)

    def _terminal(self, item: Item, command: str) -> Terminal:
        """Return the terminal in which *command* was run last."""
        mapped = self.ports.mapped(command)
        for terminal in reversed(self.terminals):
            if any(mapped in one for one in terminal.commands):
                return terminal
        raise AssertionError(f"{item}: {command!r} was run in no terminal")
