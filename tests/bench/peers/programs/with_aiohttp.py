# mypy: disable-error-code="import-not-found, misc"
# Development does without this library: the bench has it in a directory of its own.
"""
A relay for websockets with the library `aiohttp`: one send per message and consumer.

with_aiohttp.py HOST:PORT...       prints "listen ws://127.0.0.1:PORT" on stderr
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import ClientSession, WSMsgType, web


async def main(addresses: list[str]) -> None:
    """Forward every message of every connection to all *addresses*, until killed."""
    async with ClientSession() as session:
        consumers = [await session.ws_connect(f"ws://{address}") for address in addresses]

        async def forward(request: web.Request) -> web.WebSocketResponse:
            producer = web.WebSocketResponse()
            await producer.prepare(request)
            async for message in producer:
                if message.type == WSMsgType.TEXT:
                    for consumer in consumers:
                        await consumer.send_str(message.data)
            return producer

        app = web.Application()
        app.router.add_get("/", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"listen ws://127.0.0.1:{runner.addresses[0][1]}", file=sys.stderr, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
