"""
The control: the relay that one writes first. asyncio streams, one line at a time, one write per consumer.

naive.py HOST:PORT...       prints "listen tcp://127.0.0.1:PORT" on stderr
"""

from __future__ import annotations

import asyncio
import sys

LINE_LIMIT = 1024 * 1024


async def main(addresses: list[str]) -> None:
    """Forward every line of every connection to all *addresses*, until killed."""
    writers = []
    for address in addresses:
        host, port = address.rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for consumer in writers:
                consumer.write(line)
                await consumer.drain()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0, limit=LINE_LIMIT)
    print(f"listen tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
