"""A program with threads: several workers, one pool, and the outcome of each message."""

from concurrent.futures import ThreadPoolExecutor

from producer_pool import ProducerPool

with ProducerPool() as pool:
    pool.add_producer("billing", "tcp://127.0.0.1:9000")
    pool.add_producer("archive", "memory:archive")

    def work(number: int) -> bool:
        results = pool.forward_to_all(f"order {number}")
        for producer_id, result in results.failed.items():
            print(f"order {number} did not reach {producer_id}: {result.error}")
        return results.ok

    with ThreadPoolExecutor(max_workers=8) as workers:
        done = list(workers.map(work, range(100)))

    print(f"{sum(done)} of {len(done)} orders reached everybody")
    for producer_id, stats in pool.stats().producers.items():
        print(f"{producer_id}: {stats.accepted} accepted, {stats.delivered} delivered, {stats.failed} failed")
