"""A store in memory, for virtual time: what was committed survives a crash, and what was not is gone."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from producer_pool.delivery.engine import Engine
from producer_pool.delivery.receipts import BatchReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.policies import DeliveryPolicy, Limits, Retry
from producer_pool.model.stored import Backlog, StoredBatch, stored_size
from support.engines import add, check_books, dead, of
from support.fake_clients import FakeClient

__all__ = [
    "HOLDING",
    "SMALL",
    "Behind",
    "Disk",
    "FakeStore",
    "Row",
    "behind",
    "numbered",
    "storing",
    "until_stored",
]

HOLDING = DeliveryPolicy(deadline=86_400.0, retry=Retry())
SMALL = DeliveryPolicy(deadline=86_400.0, retry=Retry(), buffer=4_000)


@asynccontextmanager
async def storing(store: "FakeStore", *, buffer: int = 10**9, drain: float = 0.0) -> AsyncIterator[Engine]:
    """Run an engine with *store*, and check its books at its end."""
    engine = Engine(Limits(buffer=buffer), store)
    yield engine
    await engine.aclose(drain)
    check_books(engine.stats())

    assert engine.budget.used == 0
    assert all(each.pending == 0 for each in engine.stats().producers.values())


class Behind(NamedTuple):
    """An engine whose one consumer, "a", is away, and what it left in the store."""

    engine: Engine
    store: "FakeStore"
    client: FakeClient
    receipts: list[BatchReceipt]


@asynccontextmanager
async def behind(count: int) -> AsyncIterator[Behind]:
    """Run an engine with *count* messages stored for a consumer that is away, by numbered(), a batch each."""
    store, client = FakeStore(), dead()
    async with storing(store, drain=600.0) as engine:
        add(engine, "a", client, SMALL)
        receipts = [engine.accept(of(message)) for message in numbered(count)]
        await until_stored(store)
        yield Behind(engine, store, client, receipts)


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%06d" % number for number in range(first, first + count)]


async def until_stored(store: "FakeStore") -> None:
    await asyncio.sleep(10 * store.latency)


@dataclass(frozen=True)
class Row:
    """One committed batch."""

    number: int
    messages: tuple[bytes, ...]
    targets: frozenset[str]
    accepted: float

    @property
    def size(self) -> int:
        return stored_size(self.batch())

    def batch(self) -> Batch:
        return Batch.of(self.messages)


@dataclass
class Disk:
    """What outlives a crash: rows, and the cursors that were written."""

    rows: dict[int, Row] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    last: int = 0

    def of(self, producer_id: str) -> list[Row]:
        """Return what lies there for a producer, by the cursor that was written."""
        after = self.cursors.get(producer_id, 0)
        return [row for row in self.rows.values() if row.number > after and producer_id in row.targets]

    def messages(self, producer_id: str) -> list[bytes]:
        return [message for row in self.of(producer_id) for message in row.messages]


class FakeStore:
    """
    A store whose disk takes *latency* seconds for all that waits, and writes cursors with the next commit.

    A test breaks it with `fault`, kills it with crash(), and damages it with lose().
    """

    place = "fake-spool"

    def __init__(
        self, disk: Disk | None = None, *, latency: float = 0.001, crowd: int = 10**9, age: float = 1e9
    ) -> None:
        self.disk = disk or Disk()
        self.latency = latency
        self.age = age
        self.fault: str | None = None
        """What every write meets with; None: it works."""
        self.unreadable = False
        self.excess = 0
        self.trouble: str | None = None
        self.closed = False
        self.reads = 0
        self.committed: set[bytes] = set()
        """Messages that were stored."""
        self.refused: set[bytes] = set()
        """Messages that could not be stored."""
        self.skipped: set[tuple[str, bytes]] = set()
        """For whom which messages were passed over, because they were too many, too old, or damaged."""
        self._crowd = crowd
        self._waiting = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._moved: dict[str, int] = {}
        self._changed: Callable[[], None] = lambda: None
        self._joined: dict[str, int] = {}
        self._missing: dict[str, list[Row]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._dead = False

    # -- what a test does to it ------------------------------------------------------------------------

    def crash(self) -> Disk:
        """Be dead at once: nothing that waits is written. Return what is left."""
        self._dead = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
        return self.disk

    def lose(self, number: int) -> None:
        """Have a row be damaged."""
        row = self.disk.rows.pop(number)
        for name in row.targets:
            self.skipped.update((name, message) for message in row.messages)
            self._missing.setdefault(name, []).append(row)

    def change(self, *, excess: int | None = None) -> None:
        """Say that something changed."""
        self.excess = self.excess if excess is None else excess
        self._changed()

    # -- the store ---------------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        return self._waiting > self._crowd

    def start(self, changed: Callable[[], None], lost: Callable[[str, int, int, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._lost = lost

    def join(self, producer_id: str) -> Backlog:
        after = self.disk.cursors.setdefault(producer_id, self.disk.last)
        self._joined[producer_id] = self._moved[producer_id] = after
        rows = self.disk.of(producer_id)
        last = max((row.number for row in rows), default=after)
        return Backlog(after, last, sum(len(row.messages) for row in rows), sum(row.size for row in rows))

    def strangers(self) -> Mapping[str, Backlog]:
        found = {}
        for name, after in self.disk.cursors.items():
            rows = self.disk.of(name)
            if name not in self._joined and rows:
                messages = sum(len(row.messages) for row in rows)
                found[name] = Backlog(after, rows[-1].number, messages, sum(row.size for row in rows))
        return found

    def leave(self, producer_id: str) -> None:
        if not self._dead:
            self._joined.pop(producer_id, None)
            self._moved.pop(producer_id, None)
            self._ask(lambda: self.disk.cursors.pop(producer_id, None))

    def append(self, batch: Batch, targets: Sequence[str] | None, done: Callable[[int | None], None]) -> None:
        names = frozenset(self._joined if targets is None else targets)
        accepted = self._loop.time()
        self._weigh(batch.cost)

        def write() -> None:
            if self.fault is None:
                self.disk.last += 1
                row = Row(self.disk.last, tuple(batch.messages), names, accepted)
                self.disk.rows[row.number] = row
                self._write_cursors()
            (self.committed if self.fault is None else self.refused).update(batch.messages)
            trouble, self.trouble = self.trouble, self.fault
            self._weigh(-batch.cost)
            if trouble != self.trouble:
                self._changed()
            done(self.disk.last if self.fault is None else None)

        self._ask(write)

    def _weigh(self, cost: int) -> None:
        before = self.crowded
        self._waiting += cost
        if before is not self.crowded:
            self._loop.call_soon(self._changed)

    def read(
        self, producer_id: str, after: int, most: int, done: Callable[[Sequence[StoredBatch], int], None]
    ) -> None:
        def look() -> None:
            self.reads += 1
            if self.unreadable:
                done((), after)
                return
            found: list[StoredBatch] = []
            size = 0
            upto = after
            for row in self._behind(producer_id, after):
                if found and size + row.size > most:
                    break
                size += row.size
                found.append(StoredBatch(row.number, row.batch(), self._loop.time() - row.accepted))
                upto = row.number
            else:
                upto = max(after, self.disk.last)
            self._tell_lost(producer_id, after, upto)
            done(found, upto)

        self._ask(look)

    def _behind(self, producer_id: str, after: int) -> list[Row]:
        return [row for row in self.disk.rows.values() if row.number > after and producer_id in row.targets]

    def _tell_lost(self, producer_id: str, after: int, upto: int) -> None:
        missing = self._missing.get(producer_id, [])
        for row in [row for row in missing if after < row.number <= upto]:
            missing.remove(row)
            self._lost(producer_id, len(row.messages), row.size, "the page is damaged")

    def move(self, producer_id: str, number: int) -> None:
        assert number > self._moved[producer_id], "a cursor only moves forward"
        if not self._dead:
            self._moved[producer_id] = number

    def _write_cursors(self) -> None:
        self.disk.cursors.update(self._moved)
        first = min(self.disk.cursors.values(), default=0)
        # What all are through with goes.
        self.disk.rows = {number: row for number, row in self.disk.rows.items() if number > first}

    def skip_oldest(
        self, producer_id: str, after: int, nbytes: int, done: Callable[[int, int, int], None]
    ) -> None:
        self._ask(lambda: self._skip(producer_id, after, done, lambda size, row: size < nbytes))

    def skip_expired(self, producer_id: str, after: int, done: Callable[[int, int, int], None]) -> None:
        oldest = self._loop.time() - self.age
        self._ask(lambda: self._skip(producer_id, after, done, lambda size, row: row.accepted < oldest))

    def _skip(
        self,
        producer_id: str,
        after: int,
        done: Callable[[int, int, int], None],
        goes: Callable[[int, Row], bool],
    ) -> None:
        upto, messages, size = after, 0, 0
        for row in self._behind(producer_id, after):
            if not goes(size, row):
                break
            upto = row.number
            messages += len(row.messages)
            size += row.size
            self.skipped.update((producer_id, message) for message in row.messages)
        done(upto, messages, size)

    def _ask(self, work: Callable[[], object]) -> None:
        if self._dead:
            return
        self._queue.append(lambda: (work(), None)[1])
        if self._timer is None:
            self._timer = self._loop.call_later(self.latency, self._work)

    def _work(self) -> None:
        """Do all that waits now; what comes meanwhile is for the next time."""
        self._timer = None
        for _ in range(len(self._queue)):
            if self._queue:
                self._queue.popleft()()
        if self._queue and self._timer is None:
            self._timer = self._loop.call_later(self.latency, self._work)

    async def aclose(self) -> None:
        while self._queue and not self._dead:
            await asyncio.sleep(self.latency)
        if not self._dead:
            self._write_cursors()
        self.closed = True
