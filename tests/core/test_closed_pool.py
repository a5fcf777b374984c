"""What a pool still answers once it is closed."""

from producer_pool import Ack, AsyncProducerPool, Client, ProducerPool, State


class Deaf(Client):
    """Takes everything and keeps nothing."""

    protocol_name = "deaf"
    address = "deaf:"

    async def send(self, message: bytes) -> None:
        pass


async def test_closed_pool_tells_its_last_counters() -> None:
    """Whoever closes a pool can say afterwards what became of everything, and how each consumer did."""
    pool = AsyncProducerPool()
    await pool.add_producer("deaf", Deaf())
    await pool.submit("one")

    await pool.aclose()

    stats = (await pool.stats()).producers["deaf"]
    health = (await pool.health())["deaf"]
    assert (stats.accepted, stats.delivered, stats.pending) == (1, 1, 0)
    assert (health.state, health.address, health.ack) == (State.CLOSED, "deaf:", Ack.WRITTEN)


def test_closed_pool_for_threads_tells_its_last_counters() -> None:
    """The same holds for the pool of threads, whose thread has ended."""
    with ProducerPool() as pool:
        pool.add_producer("deaf", Deaf())
        pool.submit("one")

    stats = pool.stats().producers["deaf"]
    assert (stats.accepted, stats.delivered, stats.pending) == (1, 1, 0)
    assert pool.health()["deaf"].state is State.CLOSED
