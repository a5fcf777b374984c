"""
A process that stores messages without end, and says which are stored: it is there to be killed.

Run as ``python spool_writer.py FOLDER SYNC COUNT KIND``. It prints a line for each event, in one write():
``stored INDEX NUMBER``, ``failed INDEX``, ``moved INDEX NUMBER`` (producer "a" is done with all up to that).
"""

import asyncio
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from producer_pool.model.batch import Batch
from producer_pool.model.policies import Spool
from producer_pool.storage import database, payloads
from producer_pool.storage.payloads import Payloads
from producer_pool.storage.spool import SpoolStore
from producer_pool.storage.uses import Uses

KEPT = 40
"""How many messages producer "a" is behind."""
FILE = 128 * 1024
"""Bytes of a file of payloads, where they are put apart."""


def message(index: int) -> bytes:
    """Return message number *index*: small ones, and some that are larger than a page."""
    return b"%08d|" % index * (5000 if index % 10 == 7 else 3 + index % 40)


class Eager(SpoolStore):
    """The naive one, for a kill: it says "stored" when it has the message, and writes soon."""

    _given = 0

    def append(self, batch: Batch, targets: Any, done: Callable[[int | None], None]) -> None:
        self._given += 1
        done(self._given)
        asyncio.get_running_loop().call_later(0.02, super().append, batch, targets, lambda number: None)

    async def aclose(self) -> None:
        await asyncio.sleep(0.05)
        await super().aclose()


class Unsynced(database.Database):
    """The naive one, for a power cut: it writes, and leaves it to the system when."""

    def _set_up(self, sync: float, new: bool) -> None:
        super()._set_up(sync, new)
        self._connection.execute("PRAGMA synchronous = OFF")

    def sync_log(self) -> None:
        pass


def put_apart() -> None:
    """Have all payloads in small files of their own, synced whenever they are written, unlike the log."""
    payloads.LARGE = payloads.WORTH_IT = 1  # type: ignore[misc]
    keep, write = Payloads.keep, Payloads.write

    def synced(self: Payloads, rows: Any) -> Any:
        placed = write(self, rows)
        self.sync()
        return placed

    Payloads.keep = lambda self, size: keep(self, FILE)  # type: ignore[method-assign]
    Payloads.write = synced  # type: ignore[method-assign]


def begin_anew_too_soon(*, any_file: bool) -> None:
    """
    Have a file begun anew as soon as no row is in it, whatever a power cut brings back: the naive one.

    Without *any_file* only those whose rows the disk knows of, and not yet that they were removed. Of others,
    nobody could tell after a cut what had been in them.
    """
    committed, safe = Uses.committed, Uses.safe
    on_disk: dict[int, int] = {}

    def ended(uses: Uses) -> dict[int, int]:
        return {one: use.generation for one, use in uses._known.items() if one != uses._current}

    def at_once(self: Uses) -> None:
        before = ended(self)
        committed(self)
        known = {one for one, generation in before.items() if on_disk.get(one) == generation}
        soon = [one for one in self._resting if any_file or one in known]
        self._free += soon
        self._resting = [one for one in self._resting if one not in soon]

    def noted(self: Uses) -> None:
        safe(self)
        on_disk.clear()
        on_disk.update(ended(self))

    Uses.committed = at_once  # type: ignore[method-assign]
    Uses.safe = noted  # type: ignore[method-assign]


async def write(folder: Path, sync: float, count: int, kind: str) -> None:
    store = (Eager if kind == "eager" else SpoolStore)(Spool(folder, sync=sync))
    store.open()
    crowd: asyncio.Semaphore = asyncio.Semaphore(4)
    store.start(lambda: None, lambda *lost: say(f"lost {lost}"))
    store.join("a")
    store.join("b")
    failing = [False]
    answered: asyncio.Queue[tuple[int, int | None]] = asyncio.Queue()

    async def report() -> None:
        numbers: dict[int, int] = {}
        for _ in range(count):
            index, number = await answered.get()
            failing[0] = number is None
            if number is None:
                say(f"failed {index}")
                continue
            say(f"stored {index} {number}")
            numbers[index] = number
            store.move("b", number)
            if index % 10 == 0 and index - KEPT in numbers:
                say(f"moved {index - KEPT} {numbers[index - KEPT]}")
                store.move("a", numbers[index - KEPT])

    reporting = asyncio.create_task(report())
    for index in range(count):
        await crowd.acquire()

        def done(number: int | None, index: int = index) -> None:
            crowd.release()
            answered.put_nowait((index, number))

        store.append(Batch.of([message(index)]), None, done)
        if failing[0] or index % 8 == 0:
            await asyncio.sleep(0.03 if failing[0] else 0.001)
    await reporting
    await store.aclose()


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    folder, sync, count, kind = sys.argv[1:]
    if kind == "unsynced":
        from producer_pool.storage import keeper, recovery

        keeper.Database = recovery.Database = Unsynced  # type: ignore[attr-defined]
    if kind in ("apart", "soon", "rash"):
        put_apart()
    if kind in ("soon", "rash"):
        begin_anew_too_soon(any_file=kind == "rash")
    asyncio.run(write(Path(folder), math.inf if sync == "os" else float(sync), int(count), kind))


if __name__ == "__main__":
    main()
