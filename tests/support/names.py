"""Host names that answer as a test tells them: in this process, or by a name server of their own."""
# Rule: nothing here knows the product. Only names below .test are changed (RFC 6761, 6.2).

import os
import socket
import struct
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

__all__ = [
    "HANGS",
    "IN_NAMESPACE",
    "NOTHING",
    "Answer",
    "NameServer",
    "Names",
    "PatchedNames",
    "in_namespace",
]

Answer = str
"""An address, or one of these:"""
HANGS: Final = "hangs"
"""There is no answer, ever."""
NOTHING: Final = "nothing"
"""The name does not exist."""

IN_NAMESPACE: Final = "PRODUCER_POOL_TEST_NAME_SERVER"
"""Set where the process has a network and a resolv.conf of its own: see in_namespace()."""


class Names(ABC):
    """What names answer, and how often they were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    def answer(self, name: str) -> Answer:
        """Return what *name* answers now."""
        self.asked.append(name)
        return self.answers.get(name, NOTHING)

    @abstractmethod
    def close(self) -> None:
        """Let go of what hangs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PatchedNames(Names):
    """In this process: ``socket.getaddrinfo`` is replaced."""

    def __init__(self, patch: Callable[[object, str, object], None]) -> None:
        super().__init__()
        self._released = threading.Event()
        self._real = socket.getaddrinfo
        patch(socket, "getaddrinfo", self._lookup)

    def _lookup(self, host: str, *args: Any, **options: Any) -> Any:
        numeric = options.get("flags", 0) & socket.AI_NUMERICHOST
        if not str(host).endswith(".test") or numeric:
            return self._real(host, *args, **options)
        answer = self.answer(host)
        if answer == HANGS:
            self._released.wait(60)
        if answer in (HANGS, NOTHING):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._real(answer, *args, **options)

    def close(self) -> None:
        self._released.set()


class NameServer(Names):
    """A name server at port 53 of 127.0.0.1, for the real resolver. It answers what it is told, or not."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:
                return
            reply = self._reply(query)
            if reply is not None:
                self._socket.sendto(reply, sender)

    def _reply(self, query: bytes) -> bytes | None:
        """Answer one question, for the only kind of record that there is: A. RFC 1035, 4.1."""
        at, labels = 12, []
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        (kind,) = struct.unpack_from("!H", query, at + 1)
        question = query[12 : at + 5]
        answer = self.answer(".".join(labels))
        if answer == HANGS:
            return None
        code = 3 if answer == NOTHING else 0
        record = b""
        if code == 0 and kind == 1:
            # The name as a pointer to the question, A, IN, 0 seconds to live.
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(answer)
        return query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, bool(record), 0, 0) + question + record

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"", ("127.0.0.1", 53))
        self._thread.join(20)
        self._socket.close()


def in_namespace(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* where the network is only its own, and names are looked up at 127.0.0.1. Needs root."""
    settings = folder / "resolv.conf"
    # What hangs does so for a minute, twice.
    settings.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:2\n")
    script = f'ip link set lo up && mount --bind {settings} /etc/resolv.conf && exec "$@"'
    return subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *command],
        env={**os.environ, IN_NAMESPACE: "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
