"""What happens in the demo, and the account at its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from producer_pool.cli.demo.account import Account
from producer_pool.cli.demo.kernel import unread
from producer_pool.cli.demo.records import SIZE, Record, message
from producer_pool.cli.processes import Process, ProcessError, Processes
from producer_pool.cli.signals import Interrupts

__all__ = ["Story", "main"]

RATE: Final = 20_000
"""Messages a second."""
BEFORE: Final = 2 * RATE
UNREAD: Final = 1_000
"""Messages that come while b stands still, just before it is killed."""
WHILE_DEAD: Final = 2 * RATE
AFTER: Final = int(1.5 * RATE)
_TICK: Final = 0.02


def main() -> None:
    """Run the demo; exit with 0 only if every message is accounted for."""
    try:
        # Whoever asks again must not stop the end that has begun.
        with (
            Interrupts(signal.SIGHUP, insists=False) as interrupts,
            tempfile.TemporaryDirectory(prefix="producer-pool-") as folder,
            Processes(interrupts) as processes,
        ):
            good = Story(Path(folder), processes).tell()
    except KeyboardInterrupt:
        print("interrupted; nothing is left running", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = None  # Whoever read our output has seen enough.
        sys.exit(1)
    except ProcessError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0 if good else 1)


class Story:
    """Three consumers, one daemon, one sender; b is the one that is killed."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._processes = processes
        self._interrupts = processes.interrupts
        self._records = {name: Record(folder / f"{name}.txt") for name in "abc"}
        self._sinks: dict[str, Process] = {}
        self._ports: dict[str, int] = {}
        self._held = socket.socket()
        """Has the port of b while b is dead: nobody else is given it, and nobody answers there."""
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._since = time.monotonic()
        self._sent = 0

    def tell(self) -> bool:
        """Let it happen and say what does; return whether every message is accounted for."""
        self._say("starting a daemon and three consumers, each a process of its own")
        self._start()
        behind = self._send(BEFORE)
        self._wait_for_records("abc")
        self._say(f"{self._sent:,} messages in at {RATE:,}/s; {self._recorded('abc')}; {behind}")
        lost = self._kill()
        behind = self._send(WHILE_DEAD)
        self._wait_for_records("ac")
        waiting = self._status()["consumers"]["b"]["pending"]
        self._say(f"b is dead, and {WHILE_DEAD:,} more came; {self._recorded('ac')}; {behind}")
        self._add(f"{waiting:,} wait for b")
        self._revive()
        behind = self._send(AFTER)
        self._wait_for_records("ac")
        self._wait_for(lambda: len(self._records["b"]) >= self._sent - len(lost), "b gets what it missed")
        self._say(f"{AFTER:,} more came, and b has caught up; {self._recorded('abc')}; {behind}")
        final = self._end()
        account = Account(self._sent, self._records, final, "b", lost)
        account.show()
        self._say_how()
        return not account.faults

    # -- the steps ---------------------------------------------------------------------------------

    def _start(self) -> None:
        for name, record in self._records.items():
            self._sinks[name] = self._processes.start("sink", "tcp://127.0.0.1:0", record=record.path)
        for name, sink in self._sinks.items():
            self._ports[name] = int(sink.said("listening at ").rpartition(":")[2])
        to = [f"--to={name}=tcp://127.0.0.1:{port}" for name, port in self._ports.items()]
        self._daemon = self._processes.start("run", "--listen=tcp://127.0.0.1:0", *to, "--json")
        self._wait_for(lambda: bool(self._daemon.output) or not self._daemon.runs, "the daemon is ready")
        if not self._daemon.output:
            raise self._daemon.failure("did not start")
        self._url = json.loads(self._daemon.output[0])["listeners"][0]["address"]
        first = 2 + len(self._sinks)
        self._wait_for(lambda: len(self._daemon.talk) >= first, "the daemon says where it listens")
        for line in self._daemon.talk[:first]:
            self._add(line)
        self._sender = self._processes.start("send", self._url, "--json", stdin=subprocess.PIPE)
        self._wait_for(lambda: self._status()["listeners"][0]["connections"] == 1, "the sender is there")

    def _send(self, count: int) -> str:
        """Send the next *count* messages at RATE; say how far a and c were behind at the most."""
        most = 0
        next_tick = time.monotonic()
        step = int(RATE * _TICK)
        for start in range(0, count, step):
            numbers = range(self._sent + 1, self._sent + min(step, count - start) + 1)
            self._sender.write(b"".join(map(message, numbers)))
            self._sent = numbers[-1]
            next_tick = max(next_tick + _TICK, time.monotonic() - 10 * _TICK)
            self._interrupts.wait(seconds=max(next_tick - time.monotonic(), 0))
            most = max(most, *(self._sent - len(self._records[name]) for name in "ac"))
        return f"a and c at most {most / RATE * 1000:.0f} ms behind"

    def _kill(self) -> range:
        """Kill b with messages in its receive buffer, and return the numbers of these."""
        sink, record = self._sinks["b"], self._records["b"]
        sink.signal(signal.SIGSTOP)
        self._send(UNREAD)
        self._wait_for_records("ac")
        self._wait_for(lambda: self._delivered("b") == self._sent, "the daemon hears that b's kernel has all")
        held = unread(self._ports["b"])
        lost = range(len(record) + 1, self._sent + 1)
        sink.kill()
        self._held.bind(("127.0.0.1", self._ports["b"]))
        self._say(f"b stood still for {UNREAD:,} messages; then kill -9 (pid {sink.pid})")
        if held is None:
            self._add(f"its receive buffer held {len(lost):,} messages (this system does not tell the bytes)")
            return lost
        self._add(f"its receive buffer held {held:,} bytes, which is {held / SIZE:,.0f} messages: its kernel")
        self._add("had acknowledged them, b had not read them, and they died with it")
        if held != len(lost) * SIZE:
            raise ProcessError(f"its record lacks {len(lost):,} messages, which is not what its buffer held")
        return lost

    def _revive(self) -> None:
        if sys.platform != "linux":  # Elsewhere nobody can listen at a port that another one has.
            self._held.close()
        sink = self._processes.start(
            "sink", f"tcp://127.0.0.1:{self._ports['b']}", record=self._records["b"].path
        )
        self._sinks["b"] = sink
        sink.said("listening at ")
        self._held.close()
        self._say(f"b is back on the same port (pid {sink.pid})")

    def _end(self) -> dict[str, Any]:
        """End everything in order; return what the daemon said last."""
        self._sender.close_stdin()
        if self._sender.ended() or json.loads(self._sender.output[-1])["delivered"] != self._sent:
            raise self._sender.failure("did not deliver everything to the daemon")
        for process in (self._daemon, *self._sinks.values()):
            process.signal(signal.SIGTERM)
            if process.ended():
                raise process.failure("did not end well")
        self._say("SIGTERM to all, and the daemon says:")
        for line in self._daemon.talk[-len(self._sinks) :]:
            self._add(line)
        final: dict[str, Any] = json.loads(self._daemon.output[-1])
        return final

    # -- looking -----------------------------------------------------------------------------------

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            for process in (self._daemon, self._sinks["a"], self._sinks["c"]):
                if not process.runs:
                    raise process.failure("ended too early")
            return condition()

        self._daemon.wait_until(look, what)

    def _wait_for_records(self, names: str) -> None:
        self._wait_for(
            lambda: all(len(self._records[name]) >= self._sent for name in names),
            f"the records of {', '.join(names)} have all {self._sent:,} messages",
        )

    def _status(self) -> dict[str, Any]:
        """Ask the daemon how things are."""
        known = len(self._daemon.output)
        self._daemon.signal(signal.SIGUSR1)
        self._wait_for(lambda: len(self._daemon.output) > known, "the daemon answers SIGUSR1")
        status: dict[str, Any] = json.loads(self._daemon.output[known])
        return status

    def _delivered(self, name: str) -> int:
        return int(self._status()["consumers"][name]["delivered"])

    def _recorded(self, names: str) -> str:
        return ", ".join(f"{name} has {len(self._records[name]):,}" for name in names)

    # -- saying ------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._show(f"{time.monotonic() - self._since:7.1f} s  {text}")

    def _add(self, text: str) -> None:
        self._show(f"{'':9}  {text}")

    def _show(self, line: str) -> None:
        with self._interrupts.raised():  # Whoever reads our output may have stopped to.
            print(line, flush=True)

    def _say_how(self) -> None:
        command = "producer-pool"
        if shutil.which(command) is None:
            command = os.path.relpath(Path(sys.executable).with_name(command))
        print("\nThe same by hand, each line in a terminal of its own:")
        to = ""
        for number, name in enumerate(self._records):
            url = f"tcp://127.0.0.1:{9000 + number}"
            to += f" --to {name}={url}"
            print(f"  {command} sink {url} >> {name}.txt")
        print(f"  {command} run --listen tcp://127.0.0.1:9100{to}")
        lines = f"seq -f 'message %08.0f' {10 * RATE}"
        print(f"  {lines} | {command} send tcp://127.0.0.1:9100 --rate {RATE}/s")
        print("Meanwhile kill -9 the sink of b, and start it again. Ctrl-C ends the daemon, which reports.")
