"""An event loop that goes on whatever is raised on it: by a task or a callback of somebody's plugin."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import time
from typing import Any

from producer_pool.contract.interrupts import is_interrupt
from producer_pool.toolkit.sockets.forks import keep_from_children

__all__ = ["SturdyLoop"]

_log = logging.getLogger(__name__)


class SturdyLoop(asyncio.SelectorEventLoop):
    """
    A selector event loop that SystemExit does not end, unless it is what runs on it that raises it.

    In asyncio, SystemExit and KeyboardInterrupt out of any task or callback end the whole loop. The main
    thread may be meant by an interrupt; another one cannot: there it is an exception as any other.
    """

    time = staticmethod(time.monotonic)
    """As asyncio's own, without a frame: it is asked for some times in each turn."""
    _work: asyncio.Future[Any] | None = None
    """What the loop runs for."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        chosen: Any = selector or selectors.DefaultSelector()
        super().__init__(chosen)
        if hasattr(chosen, "fileno"):
            # A forked child that closes the loop would take out of it what wakes the parent's.
            keep_from_children(chosen, poller=True)

    def run_until_complete(self, future: Any) -> Any:
        """Run until *future* is done, and return its result."""
        self._work = asyncio.ensure_future(future, loop=self)
        return super().run_until_complete(self._work)

    def run_forever(self) -> None:
        """Run until stop() is called."""
        process = os.getpid()
        while True:
            try:
                super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if self._is_meant(error) or os.getpid() != process:
                    raise
                _log.error(
                    "%s out of a task or a callback on the loop, which stops nothing",
                    type(error).__name__,
                    exc_info=error,
                )
            else:
                return

    def _is_meant(self, error: BaseException) -> bool:
        """Whether *error* is for who runs the loop: an interrupt, or out of the work itself."""
        if self._work is not None and self._work.done():
            return True
        return is_interrupt(error)
