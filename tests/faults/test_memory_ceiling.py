"""An hour's messages with one of ten consumers dead: the daemon's memory stays below its limits, and flat."""

import contextlib
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from support.consumers import reserved_port
from support.faults import report, times
from support.processes import daemon
from support.waiting import BOUND, eventually

MIB: Final = 1024 * 1024
SIZE: Final = 250
"""Bytes of a message, its newline included."""
MESSAGES: Final = times(800_000, 20_000 * 3600)
"""In full as many as come in an hour at 20,000 a second, as fast as they are taken."""

BUFFER: Final = times(8, 64) * MIB
"""Bytes that the dead consumer's producer may hold."""
LIMITS: Final = BUFFER + 10 * MIB
"""What all may hold: its backlog, and what is under way to the nine others: a piece of a batch each."""

READER: Final = """
    import selectors, socket, sys
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
    print(*(sock.getsockname()[1] for sock in listening), flush=True)
    selector = selectors.DefaultSelector()
    for sock in listening:
        selector.register(sock, selectors.EVENT_READ, "listening")
    buffer = bytearray(1 << 20)
    counts = {}
    while True:
        for key, _ in selector.select():
            if key.data == "listening":
                taken, _ = key.fileobj.accept()
                selector.register(taken, selectors.EVENT_READ, key.fileobj.getsockname()[1])
            elif not (size := key.fileobj.recv_into(buffer)):
                selector.unregister(key.fileobj)
                key.fileobj.close()
            else:
                counts[key.data] = counts.get(key.data, 0) + size
                if counts[key.data] == int(sys.argv[2]):
                    print(key.data, flush=True)
"""


@contextmanager
def program(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program until the end of the block."""
    command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Dead:
    """A consumer that refuses, or one that accepts and never reads."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        self._holder = stack.enter_context(reserved_port())
        if kind == "never reads":
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            self._holder.listen()
        self.url = f"tcp://127.0.0.1:{self._holder.getsockname()[1]}"


class Memory:
    """Looks again and again how much memory a process has, in MiB."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self.start = self._now()
        self.samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()

    def _now(self) -> float:
        return int(self._path.read_text().split()[1]) * 4096 / MIB

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.wait(0.02):
                self.samples.append(self._now())

    def stop(self) -> None:
        self._over.set()
        self._thread.join(BOUND)

    @property
    def grown(self) -> float:
        """How much it had at the most, above the start."""
        return max(self.samples, default=self.start) - self.start

    @property
    def growing(self) -> float:
        """How much more it had at the most in the last quarter than in the one before that."""
        quarter = len(self.samples) // 4
        return max(self.samples[-quarter:]) - max(self.samples[-2 * quarter : -quarter])


def pour(port: int, count: int) -> None:
    """Send *count* messages as fast as they are taken."""
    chunk = (b"x" * (SIZE - 1) + b"\n") * 1000
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(count // 1000):
            sock.sendall(chunk)


def tell(port: int, pid: int, readers: subprocess.Popen[str]) -> tuple[Memory, float]:
    """Pour a little, so that all is connected, then the rest; return what the memory did, and the rate."""
    warm = 1000
    pour(port, warm)
    memory = Memory(pid)
    began = time.monotonic()
    pour(port, MESSAGES - warm)
    assert readers.stdout is not None
    for _ in range(9):
        assert readers.stdout.readline(), "the readers ended"
    took = time.monotonic() - began
    memory.stop()
    return memory, (MESSAGES - warm) / took


@pytest.mark.parametrize("kind", ["refuses", "never reads"])
def test_memory_with_one_dead_of_ten(kind: str) -> None:
    """It has no more than one and a half times its limits above the start, and grows no more in the end."""
    with ExitStack() as stack:
        readers = stack.enter_context(program(READER, 9, MESSAGES * SIZE))
        assert readers.stdout is not None
        urls = [f"tcp://127.0.0.1:{port}" for port in readers.stdout.readline().split()]
        dead = Dead(kind, stack)
        to = []
        for number, url in enumerate(urls):
            # The source goes at the pace of those who are well, and not at that of the dead one.
            to += ["--to", f"c{number}={url}?buffer={BUFFER}&overflow=block"]
        to += ["--to", f"dead={dead.url}?buffer={BUFFER}&retry-max-backoff=500ms"]
        running = stack.enter_context(daemon("--buffer", f"{LIMITS}", *to))
        memory, rate = tell(running.port, running.process.pid, readers)
        snapshot = running.status()["consumers"]
        backlog = snapshot["dead"]["pending_bytes"] / MIB

        report(
            f"memory, one {kind}",
            messages=MESSAGES,
            per_s=round(rate),
            start_mib=memory.start,
            grown_mib=memory.grown,
            limits_mib=LIMITS / MIB,
            factor=memory.grown / (LIMITS / MIB),
            growing_mib=memory.growing,
        )
        assert snapshot["dead"]["dropped"] > 0
        assert backlog <= BUFFER / MIB
        assert backlog > BUFFER / MIB / 2
        assert all(snapshot[f"c{number}"]["dropped"] == 0 for number in range(9))
        assert memory.grown <= 1.5 * LIMITS / MIB
        assert memory.growing <= LIMITS / MIB / 8


NAIVE: Final = """
    import asyncio, sys

    async def main():
        writers = []
        for url in sys.argv[1:]:
            host, _, port = url.removeprefix("tcp://").rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)

        async def serve(reader, _):
            while data := await reader.read(65536):
                for writer in writers:
                    writer.write(data)
                await asyncio.gather(*(writer.drain() for writer in writers[:-1]))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())
"""


def test_control_of_the_memory() -> None:
    """A relay that does not wait for one that never reads keeps all that it sends to it."""
    with ExitStack() as stack:
        readers = stack.enter_context(program(READER, 9, MESSAGES * SIZE))
        assert readers.stdout is not None
        urls = [f"tcp://127.0.0.1:{port}" for port in readers.stdout.readline().split()]
        dead = Dead("never reads", stack)
        relay = stack.enter_context(program(NAIVE, *urls, dead.url))
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        memory = Memory(relay.pid)
        pour(port, min(MESSAGES, 8 * LIMITS // SIZE))
        eventually(lambda: memory.grown > 1.5 * LIMITS / MIB, "it has grown beyond the ceiling")
        memory.stop()

        report("memory, control", grown_mib=memory.grown, factor=memory.grown / (LIMITS / MIB))
        assert memory.grown > 1.5 * LIMITS / MIB
