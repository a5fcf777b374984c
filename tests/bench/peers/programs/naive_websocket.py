"""
The control for websockets: the relay that one writes first. The `websockets` library, one send per consumer.

naive_websocket.py HOST:PORT...       prints "listen ws://127.0.0.1:PORT" on stderr
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def main(addresses: list[str]) -> None:
    """Forward every message of every connection to all *addresses*, until killed."""
    consumers = [await connect(f"ws://{address}", proxy=None) for address in addresses]

    async def forward(producer: ServerConnection) -> None:
        async for message in producer:
            for consumer in consumers:
                await consumer.send(message)

    async with serve(forward, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"listen ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
