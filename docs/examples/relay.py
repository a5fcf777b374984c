"""A relay in a program: messages in at one port, out to every consumer, and each shown to the program."""

import asyncio
import contextlib
import logging

from producer_pool import AsyncProducerPool, DeliveryPolicy, bind_transport_async


async def show(message: bytes) -> None:
    print("passed on:", message.decode(), flush=True)


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    async with AsyncProducerPool(policy=DeliveryPolicy.relay()) as pool:
        await pool.add_producer("billing", "tcp://127.0.0.1:9000")
        await pool.add_producer("archive", "tcp://127.0.0.1:9001")
        async with await bind_transport_async("tcp://127.0.0.1:9100", pool, on_message=show) as server:
            print("listening at", server.endpoint, flush=True)
            await server.wait()


if __name__ == "__main__":
    # Ctrl-C ends it, after what was queued has been delivered, within the pool's drain time.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
