"""
A program that embeds the pool: one thread calls, and the time of each call is taken by the block.

`python -m bench.embedded --verbs forward,sendall --block 500 --blocks 12 --size 128 PORT...` prints one JSON
line. Each verb is one connection id of the numbered messages, so the consumers' ledgers prove each of them.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.messages import Format

if TYPE_CHECKING:
    from producer_pool import ProducerPool

WAIT = 30.0


class Verb(ABC):
    """A way to send each message to all consumers."""

    @abstractmethod
    def call(self, messages: Sequence[bytes]) -> None:
        """Send them one call after another. The time of this is taken."""

    def settle(self) -> bool:
        """Wait until the messages are with the kernel; true if all calls were successes."""
        return True


class Pooled(Verb):
    """Opens its own pool with default settings."""

    def __init__(self, ports: Sequence[int]) -> None:
        from producer_pool import ProducerPool

        self.pool: ProducerPool = ProducerPool()
        for port in ports:
            self.pool.add_producer(f"consumer-{port}", f"tcp://127.0.0.1:{port}")
        self.pool.check(wait=WAIT)


class Submit(Pooled):
    """`submit()`: hands over and goes on. All receipts but the last are dropped, as most programs do."""

    def call(self, messages: Sequence[bytes]) -> None:
        submit = self.pool.submit
        for message in messages:
            self.receipt = submit(message)

    def settle(self) -> bool:
        return self.receipt.results(wait=WAIT).ok


class Forward(Pooled):
    """`forward_to_all()`: waits for the result of every consumer, and looks at it."""

    def call(self, messages: Sequence[bytes]) -> None:
        forward = self.pool.forward_to_all
        self.succeeded = True
        for message in messages:
            if not forward(message).ok:
                self.succeeded = False

    def settle(self) -> bool:
        return self.succeeded


class Sendall(Verb):
    """What one writes without a pool: blocking sockets, one `sendall` after another."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.sockets = [socket.create_connection(("127.0.0.1", port), timeout=WAIT) for port in ports]
        for sock in self.sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(True)

    def call(self, messages: Sequence[bytes]) -> None:
        sockets = self.sockets
        for message in messages:
            line = message + b"\n"
            for sock in sockets:
                sock.sendall(line)


VERBS: dict[str, Callable[[Sequence[int]], Verb]] = {"submit": Submit, "forward": Forward, "sendall": Sendall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbs", required=True)
    parser.add_argument("--block", type=int, required=True)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("ports", type=int, nargs="+")
    options = parser.parse_args()
    form = Format(options.size)
    verbs = {name: VERBS[name](options.ports) for name in options.verbs.split(",")}
    calls: dict[str, list[float]] = {name: [] for name in verbs}
    settled: dict[str, list[float]] = {name: [] for name in verbs}
    cpu: dict[str, list[float]] = {name: [] for name in verbs}
    failed: list[str] = []
    for block in range(options.blocks):
        for conn, (name, verb) in enumerate(verbs.items()):
            first = block * options.block
            messages = [form.encode(conn, seq) for seq in range(first, first + options.block)]
            began, cpu_began = time.perf_counter(), time.process_time()
            verb.call(messages)
            called = time.perf_counter()
            if not verb.settle():
                failed.append(name)
            calls[name].append((called - began) / options.block * 1e6)
            settled[name].append((time.perf_counter() - began) / options.block * 1e6)
            cpu[name].append((time.process_time() - cpu_began) / options.block * 1e6)
    print(json.dumps({"call_us": calls, "settled_us": settled, "cpu_us": cpu, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
