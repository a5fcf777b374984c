"""
The control of fault stories: the relay that one writes first.

    naive_relay.py [--resend] [--user-timeout=SECONDS] URL...      prints "PORT" on stdout

It takes lines at PORT and sends each to every consumer in turn: ``sendall``, and what that took is
delivered. It looks at nothing before it writes. After an error it connects again and goes on with the
next message, or with the one whose send raised (``--resend``). SIGTERM ends it as it ends any program;
SIGINT, once all that came has been sent.
"""
# Rule: nothing here knows the product, and nothing here is to be made better.

import argparse
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["NaiveRelay", "NaiveSender", "naive_relay"]

PAUSE: Final = 0.01
"""Seconds between two attempts to connect."""


class NaiveSender:
    """Sends each message by ``sendall``, and believes it."""

    def __init__(self, url: str, *, resend: bool = False, user_timeout: float = 0) -> None:
        self._url = url
        self._resend = resend
        self._user_timeout = user_timeout
        self._sock: socket.socket | None = None
        self.claimed: list[bytes] = []
        """What it takes for delivered."""

    def send(self, message: bytes) -> None:
        """Send one message, and connect before that if need be, however long it takes."""
        while True:
            try:
                if self._sock is None:
                    self._sock = _connect(self._url, self._user_timeout)
                self._sock.sendall(message + b"\n")
            except OSError:
                waits = self._sock is None
                self.close()
                if waits:
                    time.sleep(PAUSE)
                elif not self._resend:
                    return
            else:
                self.claimed.append(message)
                return

    def close(self) -> None:
        """Close in good order. May be called twice."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _connect(url: str, user_timeout: float) -> socket.socket:
    scheme, _, place = url.partition("://")
    sock = socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET)
    if user_timeout:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
    host, _, port = place.rpartition(":")
    try:
        sock.connect(place if scheme == "unix" else (host, int(port)))
    except OSError:
        sock.close()
        raise
    return sock


class NaiveRelay:
    """A running naive_relay.py."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def finish(self) -> None:
        """Have it send all that it took, and end. Whoever sends to it has to have closed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@contextmanager
def naive_relay(*urls: str, resend: bool = False, user_timeout: float = 0) -> Iterator[NaiveRelay]:
    """Run the naive relay until the end of the block, with consumers at *urls*."""
    options = [f"--user-timeout={user_timeout}", *(["--resend"] if resend else [])]
    command = [sys.executable, "-IS", __file__, *options, *urls]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield NaiveRelay(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _main(urls: list[str], *, resend: bool, user_timeout: float) -> None:
    senders = [NaiveSender(url, resend=resend, user_timeout=user_timeout) for url in urls]
    listening = socket.create_server(("127.0.0.1", 0))
    one_at_a_time = threading.Lock()
    threads = []

    def forward(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            for line in lines:
                with one_at_a_time:
                    for sender in senders:
                        sender.send(line.rstrip(b"\n"))
                        sender.claimed.clear()

    bell, end = socket.socketpair()
    signal.signal(signal.SIGINT, lambda number, frame: end.send(b"!"))
    print(listening.getsockname()[1], flush=True)
    # Who has connected before the signal is taken, however late that is.
    while listening in select.select([listening, bell], [], [])[0]:
        sock, _ = listening.accept()
        # A daemon: SIGTERM is to end the program at once.
        threads.append(threading.Thread(target=forward, args=(sock,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    for sender in senders:
        sender.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--resend", action="store_true")
    parser.add_argument("--user-timeout", type=float, default=0)
    parser.add_argument("urls", nargs="+")
    options = parser.parse_args()
    _main(options.urls, resend=options.resend, user_timeout=options.user_timeout)
