"""A daemon that a fault story kills, again and again, and how such a story ended."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self

from support.consumers import reserved_port
from support.ledger import Verdict
from support.processes import Daemon, daemon
from support.waiting import eventually

__all__ = ["Ending", "Killable", "deliver_all"]


def deliver_all(running: Daemon, consumer: str) -> None:
    """Wait until it has delivered all that it took for one consumer: as long as it gets on."""
    while left := _pending(running, consumer):
        eventually(partial(_is_below, running, consumer, left), "the daemon gets on")


def _pending(running: Daemon, consumer: str) -> int:
    found: int = running.consumer(consumer)["pending"]
    return found


def _is_below(running: Daemon, consumer: str, count: int) -> bool:
    return _pending(running, consumer) < count


class Killable:
    """A daemon at a port of its own, that is killed and started again."""

    def __init__(self, *arguments: str, options: str = "") -> None:
        self._holder = reserved_port()
        self.port = self._holder.getsockname()[1]
        self._arguments = ("--listen", f"tcp://127.0.0.1:{self.port}{options}", *arguments)
        self._stack = ExitStack()
        self.kills = 0
        self.back_s = 0.0
        """The longest time that it was away."""

    def start(self) -> None:
        self.running: Daemon = self._stack.enter_context(daemon(*self._arguments, listens=False))

    def kill(self) -> None:
        """End it by SIGKILL, and start it again: nothing is done in between."""
        began = time.monotonic()
        self.running.process.kill()
        self._stack.close()
        self.kills += 1
        self.start()
        self.back_s = max(self.back_s, time.monotonic() - began)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._holder.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._holder.close()


@dataclass
class Ending:
    """How a story ended."""

    verdict: Verdict
    sent: int
    kills: int
    back_s: float

    @property
    def figures(self) -> dict[str, object]:
        return {
            "kills": self.kills,
            "sent": self.sent,
            "lost": len(self.verdict.lost),
            "doubled": len(self.verdict.doubled),
            "back_s": self.back_s,
        }
