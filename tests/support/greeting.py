"""A tiny protocol of peers that introduce themselves and answer, for tests of what serves them."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.serving.client import ServingClient
from producer_pool.toolkit.serving.options import ServingOptions
from producer_pool.toolkit.serving.peer import Peer, ServesPeers
from support.serving import serving

__all__ = ["GreetingClient", "GreetingPeer", "greeting"]


class GreetingPeer(Peer):
    """
    Has to say ``hello`` first, and is told ``welcome``. Then it is asked, ``?n``, and answers, ``!n``.

    An answer confirms all messages before its question. ``bye`` ends the connection, on either side.
    """

    notes = True

    def __init__(self, client: ServesPeers, sock: socket.socket, origin: str) -> None:
        super().__init__(client, sock, origin)
        self._unread = b""
        self._questions: deque[tuple[int, int]] = deque()
        self._asked = self._confirmed = self._last = 0

    def opened(self) -> None:
        """Wait for the greeting."""

    def received(self, data: memoryview) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if line == b"bye":
            self.say(b"bye\n")
            self.leave("said bye")
        elif self.ready and line.startswith(b"!"):
            while self._questions and self._questions[0][0] <= int(line[1:]):
                self._confirmed = self._questions.popleft()[1]
            self.moved()
            self._ask()
        elif self.ready and line == b"echo":
            self.say(b"echo " + b"e" * 1000 + b"\n")
        elif line == b"hello":
            self.say(b"welcome\n")
            self.join()
        elif line == b"raise":
            raise ZeroDivisionError("a defect")
        else:
            self.say(b"no\n")
            self.leave("no greeting", fault=True)

    def sent(self) -> None:
        self._ask()

    def _ask(self) -> None:
        if not self._questions and self.position > self._last:
            self._asked += 1
            self.say(b"?%d\n" % self._asked)
            self._last = self.position
            self._questions.append((self._asked, self._last))

    def acknowledged(self, total: int) -> int:
        return self._confirmed

    def farewell(self) -> bytes:
        return b"bye\n"


class GreetingClient(ServingClient):
    """Serves such peers."""

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.PEER})

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        return GreetingPeer(self, sock, origin)


def greeting(options: ServingOptions | None = None, **more: Any) -> GreetingClient:
    """Return a client that serves such peers."""
    client = serving(options, kind=GreetingClient, **more)
    assert isinstance(client, GreetingClient)
    return client
