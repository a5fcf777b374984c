"""An event loop that calls who watches what is ready all the time on a shorter way than asyncio's."""
# Rule: as soon as anything was scheduled, or anything else is ready, asyncio has its turn.

from __future__ import annotations

import asyncio
import contextvars
import select
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from producer_pool.sturdy import SturdyLoop
from producer_pool.toolkit.sockets.forks import keep_from_children

__all__ = ["POSSIBLE", "DirectLoop"]

POSSIBLE: Final = hasattr(select, "epoll")
"""Whether there is a shorter way on this system."""

_MOST: Final = 64
"""Descriptors that one look tells of. Those that are left over come first in the next one."""


class DirectLoop(SturdyLoop):
    """
    A selector event loop that has direct readers, too: it calls them where it waits, and goes on waiting.

    For a small message that comes alone, a turn of asyncio's loop is a good part of all that there is to do
    outside of the kernel.
    """

    def __init__(self) -> None:
        self._direct = _Direct(self._report)
        super().__init__(cast("selectors.BaseSelector", self._direct))

    def add_direct_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """Have *callback* called whenever *fd*, for which nothing is called yet, can be read."""
        self._direct.add(fd, partial(contextvars.copy_context().run, callback, *args))

    def remove_direct_reader(self, fd: int) -> bool:
        """Have it called no more; say whether it would have been."""
        return self._direct.remove(fd)

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        """Schedule a call, and note that asyncio has to have its turn."""
        self._direct.touched = True
        return super().call_soon(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """Schedule a call for later, and note that asyncio has to find out when."""
        self._direct.touched = True
        return super().call_at(*args, **kwargs)

    def stop(self) -> None:
        """Stop after this turn."""
        self._direct.touched = True
        super().stop()

    def _report(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "Exception in a direct reader", "exception": error})


class _Direct:
    """
    A selector for asyncio. What it registers is watched by one of the usual ones, as ever.

    That is one descriptor among the direct ones. So whoever is not direct costs a look more, and only while
    anybody is.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self.touched = False
        """Whether something was scheduled since it began to wait."""
        self._report = report
        self._calls: dict[int, Callable[[], object]] = {}
        self._usual = usual = selectors.DefaultSelector()
        self._all = select.epoll()
        self._all.register(usual.fileno(), select.EPOLLIN)
        self.fileno = self._all.fileno
        self.register, self.modify, self.unregister = usual.register, usual.modify, usual.unregister
        self.get_map, self.get_key = usual.get_map, usual.get_key
        keep_from_children(usual, poller=True)

    def add(self, fd: int, call: Callable[[], object]) -> None:
        self._all.register(fd, select.EPOLLIN)
        self._calls[fd] = call

    def remove(self, fd: int) -> bool:
        if self._calls.pop(fd, None) is None:
            return False
        with suppress(OSError):  # It is closed; or a forked child has an empty one in its place.
            self._all.unregister(fd)
        return True

    def close(self) -> None:
        self._calls.clear()
        self._all.close()
        self._usual.close()

    def select(self, timeout: float | None = None) -> Any:
        calls = self._calls
        if not calls:
            return self._usual.select(timeout)
        self.touched = False
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            others = False
            events = self._all.poll(timeout, _MOST)
            for fd, _ in events:
                call = calls.get(fd)
                if call is None:
                    others = True
                    continue
                try:
                    call()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(error)
            if others:
                return self._usual.select(0)
            if self.touched or not events:
                return ()
            if end is not None:
                timeout = end - time.monotonic()
                if timeout <= 0:
                    return ()
