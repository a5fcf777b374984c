# mypy: disable-error-code="import-not-found, misc"
# Development does without this library: the bench has it in a directory of its own.
"""
A relay for websockets with the library `picows`: one send per message and consumer.

with_picows.py HOST:PORT...       prints "listen ws://127.0.0.1:PORT" on stderr
"""

from __future__ import annotations

import asyncio
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server


class Producer(WSListener):
    """Forwards every text to all consumers."""

    def __init__(self, consumers: list[WSTransport]) -> None:
        self._consumers = consumers

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            for consumer in self._consumers:
                consumer.send(WSMsgType.TEXT, message)


async def main(addresses: list[str]) -> None:
    """Forward every message of every connection to all *addresses*, until killed."""
    consumers = [(await ws_connect(WSListener, f"ws://{address}"))[0] for address in addresses]
    server = await ws_create_server(lambda request: Producer(consumers), "127.0.0.1", 0)
    print(f"listen ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
