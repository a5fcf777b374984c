"""Consumers that keep a record of all that reaches them, and misbehave as they are told."""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self, TypedDict, Unpack

from support.links import Link
from support.waiting import BOUND, eventually

__all__ = [
    "ProcessConsumer",
    "Record",
    "RecordingConsumer",
    "Stream",
    "Unframe",
    "delimited_by",
    "length4",
    "lines",
    "nul",
    "reserved_port",
    "reset",
]

Unframe = Callable[[bytes], tuple[list[bytes], bytes]]
"""Cuts bytes into the messages that are whole, and the rest."""

RECORDER: Final = Path(__file__).with_name("recorder.py")


def delimited_by(delimiter: bytes) -> Unframe:
    """Return what cuts off messages at each *delimiter*."""

    def unframe(data: bytes) -> tuple[list[bytes], bytes]:
        *whole, rest = data.split(delimiter)
        return whole, rest

    return unframe


lines: Final = delimited_by(b"\n")
nul: Final = delimited_by(b"\0")


def length4(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut off messages that come after their length, as four bytes, most significant first."""
    whole = []
    while len(data) >= 4 and len(data) >= 4 + (size := struct.unpack_from("!I", data)[0]):
        whole.append(data[4 : 4 + size])
        data = data[4 + size :]
    return whole, data


class Stream:
    """What came over one connection."""

    def __init__(self, unframe: Unframe) -> None:
        self.messages: list[bytes] = []
        self.tail = b""
        """The beginning of a message of which the rest did not come (yet)."""
        self.ending: str | None = None
        """How the producer ended it: "clean" or "reset"; None: not yet, or the consumer did."""
        self._unframe = unframe

    def feed(self, data: bytes) -> None:
        whole, self.tail = self._unframe(self.tail + data)
        self.messages += whole


class Record(ABC):
    """What one consumer has received, connection by connection."""

    port: int

    @property
    @abstractmethod
    def streams(self) -> list[Stream]:
        """Its connections so far, in their order."""

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[bytes]:
        """All whole messages, in the order in which they came."""
        return [message for stream in self.streams for message in stream.messages]

    def wait_for(self, count: int) -> list[bytes]:
        """Return all messages as soon as there are *count*."""

        def enough() -> bool:
            return sum(len(stream.messages) for stream in self.streams) >= count

        try:
            eventually(enough, f"{count} messages")
        except AssertionError as error:
            raise AssertionError(f"{error}; there are {len(self.messages)}") from None
        return self.messages


def reserved_port(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket that holds a port, a free one with 0: connections to it are refused."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, port))
    return holder


def reset(sock: socket.socket) -> None:
    """Close by a reset, as a killed process does that has not read everything."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RecordingConsumer(Record):
    """
    A consumer on a thread of this process. Its port stays its own while it is away.

    With *answers* it acknowledges what it has, as ack=app asks; for framing=lines.
    """

    def __init__(
        self,
        *,
        unframe: Unframe = lines,
        answers: bool = False,
        listens: bool = True,
        reads: bool = True,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._holder = reserved_port(host, port)
        self._host = host
        self.port = self._holder.getsockname()[1]
        self._unframe = unframe
        self._answers = answers
        self._reads = reads
        self._receive_buffer = receive_buffer
        self._dies_at: int | None = None
        self._streams: list[Stream] = []
        self._open: dict[socket.socket, Stream] = {}
        self._listening: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._bell, self._hears = socket.socketpair()
        self._selector.register(self._hears, selectors.EVENT_READ, self._obey)
        self._orders: deque[tuple[Callable[[], object], Future[None]]] = deque()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"consumer {self.port}", daemon=True)
        self._thread.start()
        if listens:
            self.come_back()

    @property
    def streams(self) -> list[Stream]:
        return list(self._streams)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    @property
    def is_away(self) -> bool:
        """Whether it refuses connections now."""
        return self._listening is None

    @property
    def unread(self) -> int:
        """Bytes that the kernel has taken for it, and that it has not read."""
        counts = (fcntl.ioctl(sock, termios.FIONREAD, bytes(4)) for sock in list(self._open))
        return sum(struct.unpack("i", count)[0] for count in counts)

    # -- what it is told ---------------------------------------------------------------------------

    def come_back(self) -> None:
        """Listen, on the same port as ever."""
        self._order(self._listen)

    def go_away(self) -> None:
        """Refuse connections from now on, and reset those that are open."""
        self._order(self._vanish)

    def die_after(self, size: int) -> None:
        """Go away as soon as the next connection, or the one that is open, has brought *size* bytes."""
        self._order(lambda: setattr(self, "_dies_at", size))

    def end_connections(self) -> None:
        """Close what is open in good order, and go on listening."""
        self._order(self._end_all)

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffer."""
        self._order(lambda: self._set_reading(False))

    def read_on(self) -> None:
        """Read what has come in the meantime, and what comes."""
        self._order(lambda: self._set_reading(True))

    def close(self) -> None:
        """End. May be called twice."""
        if not self._ended:
            self._order(self._end)
            self._thread.join(BOUND)
            for sock in (self._bell, self._hears, self._holder):
                sock.close()
            self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- its own thread ----------------------------------------------------------------------------

    def _order(self, order: Callable[[], object]) -> None:
        obeyed: Future[None] = Future()
        self._orders.append((order, obeyed))
        self._bell.send(b"!")
        obeyed.result(BOUND)

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock.fileno() >= 0 and sock in self._selector.get_map():  # Nobody ended it in this round.
                    key.data(sock)

    def _obey(self, bell: socket.socket) -> None:
        bell.recv(1)
        order, obeyed = self._orders.popleft()
        try:
            order()
        except BaseException as error:
            obeyed.set_exception(error)
        else:
            obeyed.set_result(None)

    def _listen(self) -> None:
        if self._listening is not None:
            return
        self._listening = listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listening.bind((self._host, self.port))
        listening.listen(128)
        self._selector.register(listening, selectors.EVENT_READ, self._accept)

    def _accept(self, listening: socket.socket) -> None:
        sock, _ = listening.accept()
        stream = Stream(self._unframe)
        self._streams.append(stream)
        self._open[sock] = stream
        if self._reads:
            self._selector.register(sock, selectors.EVENT_READ, self._read)

    def _read(self, sock: socket.socket) -> None:
        most = 65536 if self._dies_at is None else min(65536, self._dies_at)
        stream = self._open[sock]
        try:
            data = sock.recv(most)
        except ConnectionResetError:
            stream.ending = "reset"
            self._forget(sock)
            return
        if not data:
            stream.ending = "clean"
            self._forget(sock)
            return
        stream.feed(data)
        if self._answers:
            # Who has closed is not answered any more, but what it sent before that is read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(b"%d\n" % len(stream.messages))
        if self._dies_at is not None:
            self._dies_at -= len(data)
            if not self._dies_at:
                self._dies_at = None
                self._vanish()

    def _forget(
        self, sock: socket.socket, close: Callable[[socket.socket], object] = socket.socket.close
    ) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        del self._open[sock]
        close(sock)

    def _vanish(self) -> None:
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            self._listening = None
        self._reset_all()

    def _reset_all(self) -> None:
        for sock in list(self._open):
            self._forget(sock, reset)

    def _end_all(self) -> None:
        for sock in list(self._open):
            self._forget(sock)

    def _set_reading(self, reads: bool) -> None:
        self._reads = reads
        registered = self._selector.get_map()
        for sock in self._open:
            if reads and sock not in registered:
                self._selector.register(sock, selectors.EVENT_READ, self._read)
            elif not reads and sock in registered:
                self._selector.unregister(sock)

    def _end(self) -> None:
        self._vanish()
        self._ended = True


class Behaviour(TypedDict, total=False):
    """How a ProcessConsumer is."""

    receive_buffer: int
    rate: int
    reads: bool
    poison: str
    answers: bool


class ProcessConsumer(Record):
    """
    A consumer that is a process of its own, and can be killed: its record lies in files that outlive it.

    For framing=lines, and messages without NUL bytes. With a *path*, it is at a unix socket; with a *link*,
    at the other end of that.

    How it behaves: *rate* is how many bytes it reads in a second, 0 as fast as they come; without *reads*
    it accepts and never reads; it resets a connection each time that *poison* comes over it, and with
    *answers* it acknowledges what it has, as ack=app asks. start() changes that for the next process.
    """

    def __init__(
        self, *, path: Path | None = None, link: Link | None = None, **behaviour: Unpack[Behaviour]
    ) -> None:
        self._path = path
        self._host, self._prefix = (link.host, link.prefix) if link is not None else ("127.0.0.1", [])
        self._holder = reserved_port()
        self.port = self._holder.getsockname()[1]
        self._behaviour: Behaviour = {
            "receive_buffer": 0,
            "rate": 0,
            "reads": True,
            "poison": "",
            "answers": False,
        }
        self._folder = tempfile.TemporaryDirectory(prefix="consumer-")
        self._streams: dict[str, Stream] = {}
        self._seen: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.start(**behaviour)

    @property
    def streams(self) -> list[Stream]:
        for path in sorted(Path(self._folder.name).iterdir()):
            stream = self._streams.setdefault(path.name, Stream(lines))
            seen = self._seen.setdefault(path.name, 0)
            with path.open("rb") as file:
                file.seek(seen)
                while data := file.read(1 << 16).partition(b"\0")[0]:
                    stream.feed(data)
                    seen += len(data)
                    file.seek(seen)
            self._seen[path.name] = seen
        return [self._streams[name] for name in sorted(self._streams)]

    @property
    def url(self) -> str:
        return f"tcp://{self._host}:{self.port}" if self._path is None else f"unix://{self._path}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def unread(self) -> int:
        """Bytes that the kernel has taken for it, and that it has not read."""
        return sum(unread for here, _, _, unread in self._connections() if here == self.port)

    @property
    def untaken(self) -> int:
        """Bytes that others on this machine have sent to it, and that its kernel has not taken."""
        return sum(unsent for _, there, unsent, _ in self._connections() if there == self.port)

    def _connections(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield both ports of each connection, and its bytes that wait: to leave, and to be read."""
        for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            if state == "01":
                here, there = (int(address.rpartition(":")[2], 16) for address in (local, remote))
                unsent, _, unread = queues.partition(":")
                yield here, there, int(unsent, 16), int(unread, 16)

    def start(self, **behaviour: Unpack[Behaviour]) -> None:
        """Start it, or start it again at the same place; *behaviour* says what is different from now on."""
        self._behaviour.update(behaviour)
        place = str(self._path or f"{self._host}:{self.port}")
        command = [sys.executable, "-IS", str(RECORDER), self._folder.name, place]
        self._process = subprocess.Popen(
            [*self._prefix, *command, json.dumps(self._behaviour)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"listening\n":
            raise AssertionError("the consumer's process did not start")

    def kill(self) -> None:
        """End it by SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(BOUND)
            assert process.stdout is not None
            process.stdout.close()

    def freeze(self) -> None:
        """Stop it, so that it accepts and reads nothing while its kernel does."""
        os.kill(self.pid, signal.SIGSTOP)
        state = Path(f"/proc/{self.pid}/stat")
        eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the consumer stops")

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and throw its record away. May be called twice."""
        self.kill()
        self._holder.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()
