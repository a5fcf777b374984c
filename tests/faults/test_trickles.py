"""Crowds that trickle a handshake, a TLS hello, half a frame: who is connected does not notice."""

import contextlib
import itertools
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import pytest

from producer_pool import DeliveryPolicy, Limits, ProducerPool
from support.certificates import Authority
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger
from support.processes import daemon
from support.waiting import BOUND, eventually

CROWD: Final = times(150, 1000)
LIMIT: Final = 1.0
"""Seconds that the listener gives each of them."""
LATEST: Final = times(20.0, 2.0)
"""Seconds after its time in which each has to be gone; tenfold where others use the machine, too."""


def client_hello() -> bytes:
    """Return the beginning of a TLS handshake, as a browser would send it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    layer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        layer.do_handshake()
    return outgoing.read()


ASKS: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nX-Padding: " + b"x" * 4000

# What a trickling client says, without its last byte, and the option that ends its patience.
TRICKLES: Final[dict[str, tuple[str, Callable[[], bytes], str]]] = {
    "nothing": ("tcp", lambda: b"", "idle-timeout"),
    "half a frame": ("tcp", lambda: b"x" * 4000, "idle-timeout"),
    "TLS hello": ("tcp+tls", client_hello, "handshake-timeout"),
    "websocket handshake": ("ws", lambda: ASKS, "handshake-timeout"),
    "half a frame after its length": ("tcp", lambda: b"\0\0\x0f\xff" + b"x" * 4000, "idle-timeout"),
    "TLS hello, websocket": ("wss", client_hello, "handshake-timeout"),
}


class Crowd:
    """Connections on a thread that sends a byte on each of them again and again, and notes when they end."""

    def __init__(self, port: int, text: bytes, count: int) -> None:
        self.ended_after: list[float] = []
        """For each that was closed, the seconds since it was opened."""
        self._text = text
        self._open: dict[socket.socket, float] = {}
        self._stopped = threading.Event()
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), BOUND)
            sock.setblocking(False)
            self._open[sock] = time.monotonic()
        self._thread = threading.Thread(target=self._trickle, name="crowd", daemon=True)
        self._thread.start()

    def _trickle(self) -> None:
        for index in itertools.count():
            byte = self._text[index : index + 1] if index < len(self._text) - 1 else b""
            for sock in list(self._open):
                try:
                    if sock.recv(1000) == b"":
                        self._end(sock)
                        continue
                except BlockingIOError:
                    pass
                except OSError:
                    self._end(sock)
                    continue
                with contextlib.suppress(OSError):
                    sock.send(byte)  # No byte is no packet.
            if self._stopped.wait(LIMIT / 20) or not self._open:
                return

    def _end(self, sock: socket.socket) -> None:
        self.ended_after.append(time.monotonic() - self._open.pop(sock))
        sock.close()

    @property
    def left(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(BOUND)
        for sock in self._open:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("trickle", list(TRICKLES)[: times(4, 6)])
def test_crowd_that_trickles(trickle: str, authority: Authority) -> None:
    """It is sent away in time with a line a second; who is there, and who comes, is served."""
    scheme, text, option = TRICKLES[trickle]
    ours, theirs = [f"{option}={LIMIT}s", f"max-connections={CROWD + 10}"], ["timeout=30s"]
    if "length" in trickle:
        ours.append("framing=length4")
        theirs.append("framing=length4")
    if "TLS" in trickle:
        ours.append(authority.issue().query)
        theirs.append(f"tls-ca={authority.file}")
    listen = f"{scheme}://127.0.0.1:0?{'&'.join(ours)}"
    ledger = Ledger()
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        running = stack.enter_context(daemon("--listen", listen, "--to", f"c={consumer.url}", listens=False))
        pool = stack.enter_context(ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=1)))
        url = f"{scheme}://127.0.0.1:{running.port}?{'&'.join(theirs)}"
        pool.add_producer("steady", url)
        pool.submit(ledger.write("steady"), to="steady")
        consumer.wait_for(1)

        began = time.monotonic()
        crowd = stack.enter_context(Crowd(running.port, text(), CROWD))
        pool.add_producer("late", url)
        pool.submit(ledger.write("late"), to="late")
        while crowd.left:
            pool.submit(ledger.write("steady"), to="steady").results(wait=BOUND)
            assert time.monotonic() - began < LIMIT + 2 * BOUND, f"{crowd.left} are left"
        assert pool.drain(wait=BOUND)
        verdict = ledger.judge(consumer.wait_for(len(ledger.sent)))
        eventually(lambda: running.status()["listeners"][0]["connections"] <= 2, "all are gone")
        listener = running.status()["listeners"][0]
        lines = sum(f"see {option}" in line for line in running.lines)
        passed = time.monotonic() - began
        latest = max(crowd.ended_after) - LIMIT

        report(
            f"trickle: {trickle}", clients=CROWD, lost=len(verdict.lost), lines=lines, over_the_limit_s=latest
        )
        assert verdict.exact
        assert listener["evicted"] >= CROWD
        assert lines <= passed + 2
        assert latest < LATEST


class NaiveListener:
    """
    Takes a connection and says hello to it, then the next one; each gets a thread of its own after that.

    This is what ``ssl.SSLSocket.accept()`` does, and a handshake that is read where connections are taken.
    """

    def __init__(self, hello: Callable[[socket.socket], None]) -> None:
        self._hello = hello
        self.came: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port: int = self._listening.getsockname()[1]
        self._taken: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
                self._taken.append(sock)
                self._hello(sock)
            except OSError:
                return
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock.makefile("rb") as lines:
            self.came.extend(line.rstrip() for line in lines)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        # It may have just taken one more.
        while self._accepting.is_alive():
            for sock in tuple(self._taken):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._accepting.join(0.01)
        for sock in (self._listening, *self._taken):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_hello(sock: socket.socket) -> None:
    """Read a line that says hello, however long it takes."""
    while (byte := sock.recv(1)) not in (b"", b"\n"):
        assert byte


def no_hello(sock: socket.socket) -> None:
    """Take everybody as he is."""


@pytest.mark.parametrize("waits_for_hello", [True, False])
def test_control_of_the_trickles(waits_for_hello: bool) -> None:
    """A naive listener serves nobody meanwhile, or lets them stay for ever."""
    with (
        NaiveListener(read_hello if waits_for_hello else no_hello) as listener,
        Crowd(listener.port, b"x" * 100_000, 20) as crowd,
        socket.create_connection(("127.0.0.1", listener.port), BOUND) as sock,
    ):
        sock.sendall(b"hello\none\n")
        if waits_for_hello:
            select.select([sock], [], [], 2 * LIMIT)
        else:
            eventually(lambda: b"one" in listener.came, "it is served")
        served = b"one" in listener.came
        left = crowd.left

        assert not (served and left == 0)
        assert served is not waits_for_hello
        assert left == 20
