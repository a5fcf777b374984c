"""The process of a bench that sends: producers, flat out or by a schedule, and never more than is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any, Final

from producer_pool.cli.benching.histogram import Histogram
from producer_pool.cli.benching.lines import Bell, Line
from producer_pool.cli.benching.machine import be_punctual, confine, cpu_time
from producer_pool.cli.benching.talk import NOBODY, Setup, answer, orders, refuse
from producer_pool.model.errors import ProducerPoolError

__all__ = ["main"]

_TURN: Final = 8
"""Writes in one turn of the loop."""
_PATIENCE: Final = 3.0
"""Seconds without anything arriving after which what is missing is given up."""
_POLL: Final = 0.001
_STEP: Final = 0.01
"""Seconds that a look at what is missing counts for at the most."""
_LINGER: Final = 0.02
"""Seconds that the end waits for what would come twice."""
_SECOND: Final = 1_000_000_000
_DEAF: Final = _SECOND // 100
"""Nanoseconds for which the loop may stand still, as long as nobody waits for a connection."""


class _Generating:
    def __init__(self, setup: Setup, lines: list[Line], relay: int | None) -> None:
        self._setup = setup
        self._lines = lines
        self._relay = relay

    async def measure(
        self, unit: int, seconds: float, rate: float | None, patience: float = _PATIENCE
    ) -> dict[str, Any]:
        """
        Send for a while, *unit* messages in a write; return what was sent when all of it has arrived.

        What is missing is given up when nothing has arrived for *patience* seconds.
        """
        for line in self._lines:
            line.begin(unit)
        busy, own = self._relay_cpu(), time.process_time()
        late = Histogram()
        began = time.monotonic_ns()
        end = began + int(seconds * _SECOND)
        if rate is None:
            async with asyncio.TaskGroup() as group:
                for line in self._lines:
                    group.create_task(self._pour(line, end))
        else:
            await self._by_schedule(began, end, unit * _SECOND / rate, late)
        await self._arrive(patience)
        after = self._relay_cpu()
        own = time.process_time() - own
        await asyncio.sleep(_LINGER)
        return {
            "sent": [line.sent for line in self._lines],
            "began": began,
            "relay_cpu": None if busy is None or after is None else after - busy,
            "cpu": own,
            "late": late.as_json(),
        }

    def _relay_cpu(self) -> float | None:
        return None if self._relay is None else cpu_time(self._relay)

    async def _pour(self, line: Line, end: int) -> None:
        """Write as soon as there is room."""
        turn = _TURN if len(self._lines) == 1 else 1
        while True:
            for _ in range(turn):
                if not line.has_room and not await line.room(end):
                    return
                await line.write(time.monotonic_ns())
            await asyncio.sleep(0)
            if time.monotonic_ns() >= end:
                return

    async def _by_schedule(self, began: int, end: int, period: float, late: Histogram) -> None:
        """Write when it is due. What cannot be written then is late, and counts from when it was due."""
        lines = self._lines
        number = 0
        heard = began
        while True:
            due = began + int(number * period)
            now = time.monotonic_ns()
            # Whoever came late to a short time sends something all the same: nothing would say nothing.
            if number and max(due, now) >= end:
                return
            if now - heard > _DEAF:
                heard = now
                await asyncio.sleep(0)
            elif due > now:
                # The loop could sleep to the next millisecond only, and nobody else needs it now.
                time.sleep(min(due - now, _DEAF) / _SECOND)  # noqa: ASYNC251
            else:
                line = lines[number % len(lines)]
                number += 1
                late.add(now - due)
                if not line.has_room and not await line.room(end):
                    return
                await line.write(due)

    async def _arrive(self, patience: float) -> None:
        """Wait until every consumer has all, or nothing has come for a while."""
        missing, left = self._missing(), patience
        while missing and left > 0:
            since = time.monotonic()
            await asyncio.sleep(_POLL)
            before, missing = missing, self._missing()
            # Whatever held us up may have held up all others.
            passed = min(time.monotonic() - since, _STEP)
            left = left - passed if missing == before else patience

    def _missing(self) -> int:
        return sum(line.missing for line in self._lines)


async def _serve(relay: int | None) -> None:
    asked = orders()
    first = await anext(asked, None)
    if first is None:
        return
    setup = Setup.from_json(first["setup"])
    confine(0, setup.load_cores)
    be_punctual()
    book, factory = setup.book(), setup.factory()
    bell = Bell(setup.bell)
    with setup.board() as board:
        lines = [
            Line(factory.create(first["to"]), book, board, producer, setup.window, bell)
            for producer in range(setup.shape.producers)
        ]
        try:
            for line in lines:
                await line.connect()
            answer()
            generating = _Generating(setup, lines, relay)
            async for order in asked:
                answer(**await generating.measure(**order))
        finally:
            for line in lines:
                await line.aclose()
            lines.clear()
            bell.close()


def main() -> None:
    """Do what is asked on stdin, until nobody is there to ask; then see to it that the relay ends, too."""
    number = None if sys.argv[2] == NOBODY else int(sys.argv[2])
    relay = os.pidfd_open(number) if number is not None and hasattr(os, "pidfd_open") else None
    try:
        asyncio.run(_serve(number))
    except* ProducerPoolError as group:
        refuse(group.exceptions[0])
    finally:
        # Whoever started both of us is gone, and has ended the relay, or could not: then nobody wants what
        # it still has, and its consumers are gone as well.
        if relay is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(relay, signal.SIGKILL)


if __name__ == "__main__":
    main()
