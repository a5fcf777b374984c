"""Days of a pool that is fed small batches for streams: most of them go past the outboxes, to all at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry, Role
from producer_pool.model.stats import PoolStats
from support.chaos import ChaoticClient, ChaoticPipelinedClient, ChaoticStreamingClient
from support.days import Chaotic, Days
from support.streaming import no_longer_watched

__all__ = ["Voyage"]

NOT_TOGETHER = (Role.SHADOW, Overflow.BLOCK)


class Voyage(Days):
    """One run. What is fed is numbered, and whom it is for is known."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.pool.limits = self.limits = Limits(
            buffer=self.random.choice([20_000, 10**8, 10**8, 10**8]), drain=self.limits.drain
        )
        self.fed: dict[str, list[bytes]] = {}
        """What was fed while it was there, by id."""
        self.number = 0
        self.streamed = 0
        """Sends past an outbox, of all clients."""

    async def add(self) -> None:
        random = self.random
        kinds: tuple[type[Chaotic], ...] = (ChaoticStreamingClient, ChaoticPipelinedClient, ChaoticClient)
        (kind,) = random.choices(kinds, (5, 1, 1))
        name = f"p{len(self.clients)}"
        role = random.choice([Role.REQUIRED, Role.REQUIRED, Role.SHADOW])
        policy = DeliveryPolicy(
            buffer=random.choice([5_000, 10**7, 10**7, 10**7]),
            overflow=random.choice([one for one in Overflow if (role, one) != NOT_TOGETHER]),
            ack=Ack.WRITTEN if kind is ChaoticClient else random.choice([None, None, Ack.WRITTEN]),
            deadline=random.choice([None, 3.0, 60.0, 86_400.0]),
            retry=Retry(attempts=random.choice([None, None, 1, 2, 5]), stable=1.0),
            role=role,
        )
        client = kind(random, calm=random.choice([0.6, 0.95, 0.99, 1.0]))
        if isinstance(client, ChaoticPipelinedClient):
            client.lies = False
        self.clients[name] = client
        self.policies[name] = policy
        self.fed[name] = []
        await self.pool.add_producer(name, client, policy=policy)

    def write(self) -> Batch:
        messages = []
        for _ in range(self.random.choice([1, 1, 1, 2, 7])):
            messages.append(b"fed%06d" % self.number + b"x" * self.random.choice([0, 0, 10, 900]))
            self.number += 1
        for name in self.pool.engine._producers:
            self.fed[name] += messages
        if self.random.random() < 0.05:
            return Batch.of(messages)
        return Batch.from_wire(b"".join(message + b"\n" for message in messages), LINES)

    async def feed(self) -> None:
        random = self.random
        for _ in range(random.randint(1, 15)):
            self.pool.intake.feed(self.write())
            self.watch()
            if random.random() < 0.5:
                await asyncio.sleep(random.choice([0.0, 0.0, 0.001, 0.005, 0.02, 0.3]))
                self.watch()

    async def check(self) -> None:
        await (super().check() if self.random.random() < 0.3 else self.feed())

    async def drain(self) -> None:
        await (super().drain() if self.random.random() < 0.3 else self.feed())

    async def submit(self) -> None:
        await (super().submit() if self.random.random() < 0.3 else self.feed())

    def watch(self) -> None:
        """Nothing counts as delivered that did not get so far. To look at that changes nothing."""
        for name, producer in self.pool.engine._producers.items():
            client = self.clients[name]
            if isinstance(client, ChaoticStreamingClient):
                assert producer.outbox.stats.delivered <= len(self.reached(name))

    def reached(self, name: str) -> set[bytes]:
        """Return the messages that got as far as their producer asks."""
        client = self.clients[name]
        assert isinstance(client, ChaoticStreamingClient)
        if self.policies[name].ack is Ack.WRITTEN:
            return set(client.arrivals)
        return {
            message
            for one in client.connections
            for message in one.taken[: one.acknowledged].split(b"\n")[:-1]
        }

    async def judge(self, stats: PoolStats) -> None:
        await super().judge(stats)
        for name, client in self.clients.items():
            if isinstance(client, ChaoticStreamingClient):
                self.streamed += client.streamed
                self.judge_stream(name, client)
        for name, each in stats.producers.items():
            assert each.accepted == len(self.fed[name]) + await self.submitted(name)
            if isinstance(self.clients[name], ChaoticStreamingClient):
                reached = self.reached(name)
                arrived = self.clients[name].arrivals

                assert each.delivered <= len(reached)
                assert len(arrived) - len(set(arrived)) <= each.resent
                assert each.failed + each.dropped + each.cancelled >= missing(self.fed[name], reached)

        assert not no_longer_watched()

    def judge_stream(self, name: str, client: ChaoticStreamingClient) -> None:
        """Nothing was written for nobody, cut, or tried again if it may be tried once only."""
        times = Counter(client.arrivals)

        assert not any(connection.lost for connection in client.connections)
        assert times.keys() <= {*self.fed[name], *self.receipts}
        if self.policies[name].retry.attempts == 1:
            assert max(times.values(), default=0) <= 1

    async def submitted(self, name: str) -> int:
        return sum([name in await receipt.results(wait=0) for receipt in self.receipts.values()])

    def judge_order(self) -> None:
        super().judge_order()
        for client in self.clients.values():
            first = list(dict.fromkeys(one for one in client.arrivals if one.startswith(b"fed")))

            assert first == sorted(first)


def missing(fed: Sequence[bytes], reached: set[bytes]) -> int:
    return sum(message not in reached for message in fed)
