"""Listeners that acknowledge, for tests."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

from producer_pool.toolkit.streams.connection import AckAfter
from support.listening import PLAIN, Running
from support.streams import until

RECEIVED = replace(PLAIN, ack_after=AckAfter.RECEIVED)
STORED = replace(PLAIN, ack_after=AckAfter.STORED)
DELIVERED = replace(PLAIN, ack_after=AckAfter.DELIVERED)


async def nothing_to_read(sock: socket.socket) -> bool:
    """Whether nothing comes, though there was time for it."""
    for _ in range(5):
        await asyncio.sleep(0)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True


async def batches(running: Running, count: int) -> None:
    await until(lambda: len(running.intake.batches) >= count, f"{count} batches")
