"""A stream client and its consumer, for tests."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES, Framing
from producer_pool.model.outcomes import Ack
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from producer_pool.toolkit.streams.progress import TCP_ACKS
from support.streams import Consumer, FakeSignals

LEVELS = sorted(TCP_ACKS)

needs_kernel = pytest.mark.skipif(Ack.KERNEL not in TCP_ACKS, reason="needs Linux: SIOCOUTQ")


def make(consumer: Consumer, *, framing: Framing = LINES, max_message: int = 1 << 20) -> StreamClient:
    options = StreamClientOptions(framing=framing, max_message=max_message)
    return StreamClient(TcpDialer(consumer.endpoint, TcpOptions()), options, protocol_name="tcp")


class Connected:
    """A client, its consumer's socket, and what the client said."""

    def __init__(self, client: StreamClient, peer: socket.socket, signals: FakeSignals) -> None:
        self.client = client
        self.peer = peer
        self.signals = signals

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        self.signals.starting = True
        taken = self.client.start(batches, offset)
        self.signals.starting = False
        return taken

    def fill(self, batch: Batch) -> int:
        """Start *batch* until the client takes no more; return how often it did."""
        count = 0
        while self.start([batch]):
            count += 1
        return count


async def connected(consumer: Consumer, ack: Ack, *, framing: Framing = LINES) -> Connected:
    client = make(consumer, framing=framing)
    signals = FakeSignals(ack)
    client.attach(signals)
    await client.connect()
    return Connected(client, await consumer.accept(), signals)
