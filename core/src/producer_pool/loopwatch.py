"""Notices that an event loop stands still, and says whose code holds it up."""
# Rule: what blocks the loop keeps everything on it from being told. So this is a thread, and the loop only
# answers it: a call in each quarter of the time, and nothing else.

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Final

from producer_pool.contract.ports import Client, Listener
from producer_pool.delivery.link import Link
from producer_pool.delivery.plain import PlainLink
from producer_pool.delivery.producer import Producer
from producer_pool.model.text import format_duration

__all__ = ["LoopWatch", "whose"]

log = logging.getLogger(__name__)

_DELIVERY: Final = os.path.join(os.path.dirname(__file__), "delivery")
_LOOKS: Final = 4
"""How often it looks before the time is over. A machine that slept, or this process, is seen once only."""


class LoopWatch:
    """
    Watches a loop until end(): each time that it stands still for *after* seconds, that is logged.

    Once when it is noticed, with whose code it is and where, and once when it is over. What holds up all
    of Python, and not only the loop, is noticed when it is over.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, after: float, threads: Collection[int] | None = None
    ) -> None:
        """*threads* are those that do the loop's work: it may change. None: this one."""
        self._loop = loop
        self._after = after
        self._threads = threads if threads is not None else (threading.get_ident(),)
        self._asked = self._answered = 0
        self._asked_at = self._answered_at = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if after < math.inf:
            self._thread = threading.Thread(target=self._watch, name="producer-pool watchdog", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Watch no more. May be called twice."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(self._after)

    def _answer(self, number: int) -> None:
        self._answered = number
        self._answered_at = time.monotonic()

    def _watch(self) -> None:
        culprit = ""
        looks = 0
        while not self._over.wait(self._after / _LOOKS):
            now = time.monotonic()
            if self._answered == self._asked:
                if culprit:
                    took = self._answered_at - self._asked_at
                    log.warning("the event loop goes on: it stood still for %.3g s, %s", took, culprit)
                    culprit = ""
                self._asked += 1
                self._asked_at = now
                looks = 0
                try:
                    self._loop.call_soon_threadsafe(self._answer, self._asked)
                except RuntimeError:  # It is closed.
                    return
                continue
            if self._loop.is_closed():  # It will not come to what it was asked.
                return
            looks += 1
            if not culprit and looks >= _LOOKS and now - self._asked_at >= self._after:
                culprit = self._culprit()
                log.error(
                    "the event loop has stood still for %s, %s; nobody else's messages move meanwhile: "
                    "code that blocks belongs into a BlockingClient",
                    format_duration(self._after),
                    culprit,
                )

    def _culprit(self) -> str:
        """Say whose code the loop's work is in, and where."""
        from producer_pool.model.whereabouts import of_thread, where  # for who needs it

        frames = sys._current_frames()
        # The loop itself may wait for a thread that it lends its turn to.
        inside = [frames[ident] for ident in tuple(self._threads) if ident in frames]
        inside.sort(key=lambda frame: whose(frame) == _NOBODY)
        if not inside:
            return "in a thread that is gone"
        return f"because of {whose(inside[0])}, {where(of_thread(inside[0]))}"


_NOBODY: Final = "a callback"


def whose(frame: FrameType) -> str:
    """Say whose code a thread that is at *frame* runs: of which producer's client or stage, or what else."""
    found = _NOBODY
    for inner in _outward(frame):
        folder, file = os.path.split(inner.f_code.co_filename)
        local = inner.f_locals
        one = local.get("self")
        if folder == _DELIVERY:
            if file == "observers.py":
                return f"the observer {type(local.get('observer')).__name__}"
            if file == "preparation.py" and "producer_id" in local:
                what = "a stage" if "stages" in local else "the client"
                return f"{what} of {local['producer_id']}"
            if isinstance(one, Link | PlainLink):
                return f"the client of {one.producer_id}"
            if isinstance(one, Producer):
                return f"the client of {one.id}"
        elif isinstance(one, Listener):
            return f"the listener {type(one).__name__}"
        elif isinstance(one, Client) and found == _NOBODY:
            # Its producer is further out, unless the loop called it itself.
            found = f"a client, {type(one).__name__}"
    return found


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield *frame* and what called it, as far as to the loop."""
    while frame is not None:
        yield frame
        frame = frame.f_back
