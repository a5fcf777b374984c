"""Some lives of a pool over one disk, with anything in between: what has to be true of them all together."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random

from producer_pool.aio import AsyncProducerPool
from producer_pool.delivery.receipts import AsyncReceipt
from producer_pool.delivery.store import Store
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Full
from producer_pool.model.given_up import GivenUp
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry
from producer_pool.model.stats import PoolStats
from support.chaos import ChaoticClient, ChaoticConsumer, ChaoticPipelinedClient
from support.engines import check_books
from support.storing import Disk, FakeStore

__all__ = ["Lives", "StoringPool"]

STORED = "it is stored, and goes out at the next start"


class StoringPool(AsyncProducerPool):
    """A pool with a store of the test's own."""

    def __init__(self, store: FakeStore, limits: Limits) -> None:
        super().__init__(limits=limits)
        self._fake = store
        self._entrance.log.stores = True

    def _open_store(self) -> Store:
        return self._fake


class Letters:
    """Keeps what one producer gives up."""

    def __init__(self, given_up: set[bytes]) -> None:
        self._given_up = given_up

    def take(self, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        messages = given_up.batch.messages
        self._given_up.update(messages[index] for index in given_up.indexes)
        asyncio.get_running_loop().call_soon(done, True)
        return True


class Lives:
    """One run: pools, one after the other, what was asked of them, and what is known at the end."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.disk = Disk()
        self.names = [f"p{number}" for number in range(random.randint(1, 3))]
        self.consumers = {name: ChaoticConsumer(random, calm=1.0) for name in self.names}
        self.given_up: dict[str, set[bytes]] = {name: set() for name in self.names}
        """What each producer said to have given up; not of those in `unsaid`."""
        self.settled: dict[str, set[bytes]] = {name: set() for name in self.names}
        """What receipts had called settled for each, while somebody could still ask them."""
        self.excused: set[tuple[str, bytes]] = set()
        """What was cancelled with its producer, or passed over in the store."""
        self.sent: dict[bytes, tuple[str, ...]] = {}
        """Each message, and whom it was for."""
        self.stored: set[bytes] = set()
        """Messages that were said to be stored."""
        self.count = 0
        self.receipts: dict[bytes, AsyncReceipt] = {}
        """Those of this life."""
        self.liars: set[str] = set()
        self.pool: StoringPool
        self.store: FakeStore

    # -- a life ----------------------------------------------------------------------------------------

    async def begin(self, *, calm: bool = False) -> None:
        random = self.random
        self.store = FakeStore(
            self.disk,
            latency=random.choice([0.0001, 0.01, 0.5]),
            crowd=10**9 if calm else random.choice([2_000, 10**9]),
        )
        buffer = 10**9 if calm else random.choice([3_000, 20_000, 10**8])
        drain = 10**6 if calm else random.choice([0.0, 5.0])
        self.pool = StoringPool(self.store, Limits(buffer=buffer, drain=drain))
        self.receipts = {}
        for name in self.names:
            if calm or random.random() < 0.8:
                await self.add(name, calm=calm)

    async def add(self, name: str, *, calm: bool = False) -> None:
        random = self.random
        kind = random.choice((ChaoticClient, ChaoticPipelinedClient))
        policy = DeliveryPolicy(
            buffer=random.choice([1_500, 5_000, 10**7]),
            overflow=random.choice(list(Overflow)),
            ack=None if kind is ChaoticPipelinedClient else Ack.WRITTEN,
            deadline=random.choice([60.0, 86_400.0, 86_400.0]),
            retry=Retry(attempts=random.choice([None, None, 5]), stable=1.0),
            spool_quota=random.choice([500, 3_000, 10**9, 10**9]),
        )
        if calm:
            policy = replace(policy, deadline=10.0**9, retry=Retry(), spool_quota=10**9)
        consumer = self.consumers[name]
        consumer.calm = 1.0 if calm else random.choice([0.3, 0.9, 1.0])
        client = kind(random, calm=1.0, consumer=consumer)
        if isinstance(client, ChaoticPipelinedClient) and client.lies:
            client.lies = False
        await self.pool.add_producer(name, client, policy=policy)
        producer = self.pool.engine._producers[name]
        producer.outbox.accounts.letters = Letters(self.given_up[name])

    def acts(self) -> list[Callable[[], object]]:
        often = [*[self.submit] * 4, *[self.sleep] * 4, self.feed, self.mood, self.mood]
        return [
            *often,
            self.come,
            self.remove,
            self.drain,
            self.trouble,
            self.trouble,
            self.damage,
            self.excess,
        ]

    async def live(self) -> None:
        await self.begin()
        for _ in range(self.random.randint(3, 25)):
            waiting = self.random.choice(self.acts())()
            if asyncio.iscoroutine(waiting):
                await waiting
            self.look(await self.pool.stats())
        if self.random.random() < 0.6:
            await self.crash()
        else:
            await self.close()

    def look(self, stats: PoolStats) -> None:
        """What is true at any moment."""
        check_books(stats)
        for message, receipt in self.receipts.items():
            if receipt.stored:
                self.stored.add(message)

    async def crash(self) -> None:
        """End it as a kill does. What was stored, and not settled, lies on the disk."""
        self.look(await self.pool.stats())
        disk = self.store.crash()
        for consumer in self.consumers.values():
            known = self.store.committed | self.store.refused | set(self.sent).difference(self.receipts)
            unknown = set(consumer.arrived) - known - {b"fed"}

            assert not unknown, f"forwarded before they were stored: {unknown}"
        self.note_skipped()
        for message in self.receipts:
            for name, result in self.results(message):
                if (
                    result.outcome is Outcome.PENDING
                    and message in self.stored
                    and not self.is_over(name, message)
                ):
                    assert message in disk.messages(name), f"{message!r} for {name} is stored, and gone"
                self.note(message, name, result)
        await self.pool.aclose(drain=0)
        await asyncio.sleep(30)

    async def close(self) -> None:
        """End it in good order. What is CANCELLED and said to be stored lies on the disk."""
        self.store.unreadable = False
        await self.pool.aclose()
        await asyncio.sleep(30)
        stats = await self.pool.stats()
        self.look(stats)
        self.note_skipped()
        assert stats.buffered_bytes == 0
        assert all(each.pending == 0 for each in stats.producers.values())
        for message in self.receipts:
            for name, result in self.results(message):
                assert result.outcome is not Outcome.PENDING
                if STORED in str(result.error):
                    assert message in self.disk.messages(name) or self.is_over(name, message)
                self.note(message, name, result)
        self.store.crash()

    def results(self, message: bytes) -> list[tuple[str, ForwardResult]]:
        receipt = self.receipts[message]
        return list(receipt._page.results(receipt._index).items())

    def note(self, message: bytes, name: str, result: ForwardResult) -> None:
        """Remember what became of a message in this life."""
        if result.outcome is Outcome.CANCELLED and STORED not in str(result.error):
            self.excused.add((name, message))
        elif result.outcome not in (Outcome.PENDING, Outcome.CANCELLED):
            self.settled[name].add(message)
        if result.ok:
            assert message in self.consumers[name].arrived or result.ack is Ack.WRITTEN

    def note_skipped(self) -> None:
        self.excused |= self.store.skipped

    def is_over(self, name: str, message: bytes) -> bool:
        return (name, message) in self.excused or message in self.given_up[name]

    # -- what may happen -------------------------------------------------------------------------------

    async def submit(self) -> None:
        names = self.pool.producers
        random = self.random
        some = random.choice([None, None, random.sample(names, random.randint(0, len(names)))])
        for _ in range(random.choice([1, 1, 3, 20])):
            message = b"%06d" % self.count + b"x" * random.choice([0, 10, 900])
            try:
                receipt = self.pool.submit_nowait(message, to=some)
            except Full:
                return
            self.count += 1
            self.receipts[message] = receipt
            self.sent[message] = tuple(names if some is None else some)

    def feed(self) -> None:
        self.pool.intake.feed(Batch.of([b"fed"] * self.random.randint(0, 3)))

    async def sleep(self) -> None:
        await asyncio.sleep(self.random.choice([0.0, 0.001, 0.1, 2.0, 40.0]))

    def mood(self) -> None:
        """Have a consumer fail, heal, or stall now and then."""
        self.consumers[self.random.choice(self.names)].calm = self.random.choice([0.1, 0.7, 1.0])

    async def come(self) -> None:
        gone = [name for name in self.names if name not in self.pool._entrance.roster._reserved]
        if gone:
            await self.add(self.random.choice(gone))

    async def remove(self) -> None:
        if self.pool.producers and self.random.random() < 0.3:
            name = self.random.choice(self.pool.producers)
            waiting = asyncio.create_task(self.pool.remove_producer(name, drain=self.random.random() < 0.5))
            await asyncio.wait([waiting], timeout=self.random.choice([0.0, 1.0, 60.0]))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            for message, names in self.sent.items():
                if name in names:
                    self.excused.add((name, message))

    async def drain(self) -> None:
        await self.pool.drain(wait=self.random.choice([0.0, 1.0, 20.0]))

    def trouble(self) -> None:
        """Have the disk be full, slow or unreadable, or heal."""
        random = self.random
        self.store.fault = random.choice([None, None, "full"])
        self.store.unreadable = random.random() < 0.2
        self.store.latency = random.choice([0.0001, 0.01, 0.5])

    def damage(self) -> None:
        if self.disk.rows and self.random.random() < 0.3:
            self.store.lose(self.random.choice(list(self.disk.rows)))

    def excess(self) -> None:
        self.store.change(excess=self.random.choice([0, 0, 300]))

    # -- the end ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            await self.live()
        await self.begin(calm=True)
        assert await self.pool.drain()
        await self.pool.aclose()
        self.note_skipped()
        self.judge()

    def judge(self) -> None:
        for name, consumer in self.consumers.items():
            arrived = [message for message in consumer.arrived if message != b"fed"]
            first = list(dict.fromkeys(arrived))

            # What was given up comes after all, if a crash came before that was noted on the disk.
            kept = [message for message in first if message not in self.given_up[name]]
            wrong = [pair for pair in pairwise(kept) if pair[0] > pair[1]]
            assert not wrong, f"{name}: out of order: {wrong[:3]}"
            assert all(name in self.sent[message] for message in first), f"{name}: was not sent that"
            assert self.disk.messages(name) == []
            for message, names in self.sent.items():
                if name in names and message in self.stored:
                    known = message in self.settled[name] or self.is_over(name, message)
                    assert known or message in first, f"{message!r} was stored, and never came to {name}"
