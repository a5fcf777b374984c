"""Days of a pool whose clients do anything: what was asked of it, and what has to be true of it."""

import asyncio
from collections import Counter
from random import Random

from producer_pool.aio import AsyncProducerPool
from producer_pool.delivery.receipts import AsyncReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Full, SendError
from producer_pool.model.outcomes import Ack, ForwardResult, Outcome
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry
from producer_pool.model.stats import Health, PoolStats
from support.chaos import ChaoticClient, ChaoticPipelinedClient, ChaoticStreamingClient
from support.engines import check_books

__all__ = ["Chaotic", "Days"]

Chaotic = ChaoticClient | ChaoticPipelinedClient | ChaoticStreamingClient


class Days:
    """One run: a pool, what was asked of it, and what is known at its end."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.limits = Limits(buffer=self.random.choice([20_000, 10**8]), drain=self.random.choice([0.0, 5.0]))
        self.pool = AsyncProducerPool(limits=self.limits)
        self.clients: dict[str, Chaotic] = {}
        """All that there ever were, by id; an id is used once."""
        self.policies: dict[str, DeliveryPolicy] = {}
        self.removed: set[str] = set()
        self.receipts: dict[bytes, AsyncReceipt] = {}
        self.told: Counter[tuple[str, Outcome]] = Counter()

    # -- observing -------------------------------------------------------------------------------------

    def state_changed(self, health: Health) -> None:
        if self.random.random() < 0.05:
            raise SystemExit(1)

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.told[producer_id, outcome] += count

    # -- what may happen -------------------------------------------------------------------------------

    async def add(self) -> None:
        random = self.random
        kind: type[Chaotic] = random.choice((ChaoticClient, ChaoticPipelinedClient))
        name = f"p{len(self.clients)}"
        policy = DeliveryPolicy(
            buffer=random.choice([2_000, 10_000, 10**7]),
            overflow=random.choice(list(Overflow)),
            ack=None if kind is ChaoticPipelinedClient else Ack.WRITTEN,
            deadline=random.choice([None, 3.0, 60.0, 86_400.0]),
            retry=Retry(attempts=random.choice([None, 1, 2, 5]), stable=1.0),
        )
        self.clients[name] = kind(random, calm=random.choice([0.3, 0.9, 0.99, 1.0]))
        self.policies[name] = policy
        await self.pool.add_producer(name, self.clients[name], policy=policy)

    async def remove(self) -> None:
        if self.pool.producers:
            name = self.random.choice(self.pool.producers)
            self.removed.add(name)
            waiting = asyncio.create_task(self.pool.remove_producer(name, drain=self.random.random() < 0.5))
            await asyncio.wait([waiting], timeout=self.random.choice([0.0, 1.0, 60.0]))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def submit(self) -> None:
        names = self.pool.producers
        some = self.random.choice([None, None, self.random.sample(names, self.random.randint(0, len(names)))])
        for _ in range(self.random.choice([1, 1, 3, 30])):
            message = b"%06d" % len(self.receipts) + b"x" * self.random.choice([0, 10, 900])
            try:
                self.receipts[message] = self.pool.submit_nowait(message, to=some)
            except Full:
                return

    async def feed(self) -> None:
        self.pool.intake.feed(Batch.of([b"fed"] * self.random.randint(0, 5)))

    async def forward(self) -> None:
        message = b"%06d" % len(self.receipts)
        try:
            async with asyncio.timeout(self.random.choice([0.0, 1.0, 10.0])):
                self.receipts[message] = receipt = await self.pool.submit(message)
                await receipt.results(wait=self.random.choice([0.0, 1.0]))
        except (TimeoutError, Full):
            self.receipts.setdefault(message, self.pool.submit_nowait(b"nobody", to=()))

    async def check(self) -> None:
        await self.pool.check(wait=self.random.choice([0.0, 1.0]))

    async def drain(self) -> None:
        await self.pool.drain(wait=self.random.choice([0.0, 1.0, 20.0]))

    async def sleep(self) -> None:
        await asyncio.sleep(self.random.choice([0.0, 0.0, 0.001, 0.1, 2.0, 40.0, 4000.0]))

    async def live(self) -> PoolStats:
        await self.pool.stats()
        engine = self.pool.engine
        engine.observers.extend([self])
        for _ in range(3):
            await self.add()
        acts = [self.add, self.remove, self.check, self.drain, self.feed, self.forward]
        for _ in range(self.random.randint(5, 80)):
            await self.random.choice([*acts, *[self.submit] * 4, *[self.sleep] * 4])()
            check_books(await self.pool.stats())
        await self.pool.aclose()
        # Those that nobody waited for have their own time.
        await asyncio.sleep(30)
        return await self.pool.stats()

    # -- what is true at the end -----------------------------------------------------------------------

    async def judge(self, stats: PoolStats) -> None:
        counted: Counter[tuple[str, Outcome]] = Counter()
        for message, receipt in self.receipts.items():
            for name, result in (await receipt.results(wait=0)).items():
                counted[name, result.outcome] += 1
                self.judge_result(message, result)
        for name, each in stats.producers.items():
            outcomes = {"delivered": each.delivered, "failed": each.failed}
            outcomes.update({"dropped": each.dropped, "cancelled": each.cancelled})
            for outcome, count in outcomes.items():
                assert self.told[name, Outcome(outcome)] == count >= counted[name, Outcome(outcome)]
        assert stats.buffered_bytes == 0

    def judge_result(self, message: bytes, result: ForwardResult) -> None:
        client = self.clients[result.producer_id]
        times = client.arrivals.count(message)
        attempts = self.policies[result.producer_id].retry.attempts

        assert result.outcome is not Outcome.PENDING
        if attempts == 1:
            assert result.attempts <= 1
        elif isinstance(result.error, SendError):
            assert attempts is not None
            assert result.attempts >= attempts, "given up before its last attempt"
        assert times <= max(result.attempts, 1) or self.lies(client)
        if result.ok and result.ack is not Ack.WRITTEN and not self.lies(client):
            assert times >= 1
        if result.ok and isinstance(client, ChaoticClient):
            assert times >= 1
        if not result.ok and "it was not sent" in str(result.error):
            assert times == 0

    def lies(self, client: Chaotic) -> bool:
        return isinstance(client, ChaoticPipelinedClient) and client.lies

    def judge_order(self) -> None:
        """What arrives for the first time arrives in the order of submission, at each consumer."""
        for client in self.clients.values():
            first = list(
                dict.fromkeys(message for message in client.arrivals if not message.startswith(b"fed"))
            )

            assert first == sorted(first)
