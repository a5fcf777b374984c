"""
The control for UDP: the relay that one writes first. asyncio datagram endpoints, one send per consumer.

naive_udp.py HOST:PORT...       prints "listen udp://127.0.0.1:PORT" on stderr
"""

from __future__ import annotations

import asyncio
import sys


class Forward(asyncio.DatagramProtocol):
    """Sends each datagram to all consumers."""

    def __init__(self, consumers: list[asyncio.DatagramTransport]) -> None:
        self._consumers = consumers

    def datagram_received(self, data: bytes, addr: object) -> None:
        for consumer in self._consumers:
            consumer.sendto(data)


async def main(addresses: list[str]) -> None:
    """Forward every datagram to all *addresses*, until killed."""
    loop = asyncio.get_running_loop()
    consumers = []
    for address in addresses:
        host, port = address.rsplit(":", 1)
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(host, int(port))
        )
        consumers.append(transport)
    server, _ = await loop.create_datagram_endpoint(lambda: Forward(consumers), local_addr=("127.0.0.1", 0))
    print(f"listen udp://127.0.0.1:{server.get_extra_info('sockname')[1]}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
