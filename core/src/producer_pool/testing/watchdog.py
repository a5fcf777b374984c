"""Finds what blocks an event loop, from another thread, and names it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from producer_pool.model.whereabouts import of_thread, where

__all__ = ["Watchdog"]

BLOCKED: Final = 0.25
"""Seconds for which one instruction may hold up the loop."""
_BEAT: Final = 0.005
_LOOK: Final = 0.01
_LOOKS: Final = 10
"""How often it has to be seen there, at the least: who is kept from looking has seen nothing."""


class Watchdog:
    """
    Watches the running loop until the end of the block: `found` says what blocked it first, and where.

    The loop counts as blocked when its heart does not beat, and its thread is at the same instruction of
    the same call, through BLOCKED seconds of looks. The time for which the thread was ready, and the
    machine had no processor for it, does not count: a machine that is busy with others raises no alarm.
    Nor does a loop that waits for its own sockets and timers, however late they are.

    Calls that wait are found at once, however short they are here: time.sleep(), and looking up a name.
    """

    def __init__(self) -> None:
        self.found = ""
        self.when_found: list[Callable[[], object]] = []
        """Called, on a thread of its own, when the loop is seen to be blocked: to set it free."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._thread_of_loop = Path(f"/proc/self/task/{threading.get_native_id()}")
        self._last = (0.0, 0.0, 0.0)
        self._beats = 0
        self._beating: asyncio.TimerHandle | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._traps = ExitStack()

    def __enter__(self) -> Self:
        self._trap(time, "sleep", lambda seconds: seconds > 0)
        self._trap(socket, "getaddrinfo", _asks_somebody)
        self._trap(socket, "gethostbyname", _is_name)
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._traps.close()
        if self._beating is not None:
            self._beating.cancel()
        self._thread.join(BLOCKED)

    # -- calls that wait ---------------------------------------------------------------------------

    def _trap(self, module: Any, name: str, waits: Callable[..., bool]) -> None:
        """Note calls of a function on the loop's thread, for as long as this watches."""
        function = getattr(module, name)

        def noted(*args: Any, **more: Any) -> Any:
            if threading.get_ident() == self._ident and not self.found and waits(*args, **more):
                frame = sys._getframe(1)
                self.found = (
                    f"{module.__name__}.{name}() is called on the event loop, {where(of_thread(frame))}"
                )
            return function(*args, **more)

        setattr(module, name, noted)
        self._traps.callback(setattr, module, name, function)

    # -- a loop that stands still ------------------------------------------------------------------

    def _beat(self) -> None:
        self._beats += 1
        self._beating = self._loop.call_later(_BEAT, self._beat)

    def _watch(self) -> None:
        frame: FrameType | None = None
        at: tuple[int, int] | None = None
        still = 0.0
        looks = 0
        while not self._over.wait(_LOOK):
            now = sys._current_frames().get(self._ident)
            if now is None:
                return
            held = self._held()
            if now is not frame or at != (now.f_lasti, self._beats) or _is_idle(now):
                frame, at = now, (now.f_lasti, self._beats)
                still, looks = 0.0, 0
                continue
            looks += 1
            still += held
            if still >= BLOCKED and looks >= _LOOKS and not self.found:
                self.found = f"nothing else ran for {still:.2g} s and more, {where(of_thread(frame))}"
                for call in self.when_found:
                    call()

    def _held(self) -> float:
        """Return the seconds since the last look for which the thread ran, or waited for something."""
        ready, ran, queued = self._scheduled()
        before, self._last = self._last, (time.monotonic(), ran, queued)
        passed, ran, queued = (now - last for now, last in zip(self._last, before, strict=True))
        # The kernel counts the time in its queue when that is over: who is ready may still be in it.
        return ran if ready else passed - queued

    def _scheduled(self) -> tuple[bool, float, float]:
        """
        Return whether the thread is ready to run, and the seconds for which it ran, and was queued.

        Where nobody tells: that it never was.
        """
        try:
            state = (self._thread_of_loop / "stat").read_bytes().rpartition(b")")[2].split()[0]
            ran, queued = (self._thread_of_loop / "schedstat").read_bytes().split()[:2]
            return state == b"R" and int(ran) > 0, int(ran) / 1e9, int(queued) / 1e9
        except (OSError, IndexError, ValueError):
            return False, 0.0, 0.0


def _is_idle(frame: FrameType) -> bool:
    """Whether *frame* is where an event loop waits for its sockets and timers."""
    return frame.f_back is not None and frame.f_back.f_code is asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]


def _asks_somebody(
    host: object, port: object, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> bool:
    return not flags & socket.AI_NUMERICHOST and _is_name(host)


def _is_name(host: object) -> bool:
    """Whether *host* has to be looked up."""
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host or "::"))
    except ValueError:
        return True
    return False
