"""
A pool with one animal of the zoo and one good producer, for each animal in turn.

    python beside_the_zoo.py EVERY FIRST      tells the story of each EVERY-th animal, from the FIRST on

Prints a line of JSON for each. A process of its own: some animals leave threads, tasks and sockets behind.
"""

import contextlib
import gc
import json
import logging
import os
import socket
import sys
import threading
import time
import warnings
from typing import Any

from producer_pool import (
    ClientFactory,
    ConfigurationError,
    DeliveryPolicy,
    Limits,
    Outcome,
    PluginError,
    PoolClosed,
    PoolStats,
    ProducerPool,
    Retry,
)
from producer_pool.discovery.registry import Registry
from support.consumers import RecordingConsumer
from support.engines import check_books
from support.ledger import Ledger
from support.waiting import eventually
from support.zoo import ANIMALS, Animal, cleaning

__all__ = ["animals", "beside"]


def animals() -> list[Animal]:
    """Return those that are made of code, and not of files."""
    return [animal for animal in ANIMALS if not isinstance(animal.plugin, str)]


class Enclosure:
    """What the animal's client connects to: it reads, says nothing, and can break all connections."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(None)
        self.port: int = self._listening.getsockname()[1]
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                sock.settimeout(None)
                self._taken.append(sock)
                threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        sock.close()

    def break_connections(self) -> None:
        taken, self._taken = self._taken, []
        for sock in taken:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.break_connections()


def last_stats(pool: ProducerPool) -> PoolStats | None:
    """Return the counters of a pool that is closed; None while its thread waits for a client that hangs."""
    try:
        return pool.stats()
    except PoolClosed:
        return None


def beside(animal: Animal) -> dict[str, Any]:
    """Tell the story of one animal; return what the good producer noticed."""
    registry = Registry()
    ledger = Ledger()
    enclosure = Enclosure()
    policy = DeliveryPolicy(retry=Retry(attempts=3, backoff=0.01, max_backoff=0.05), deadline=2.0)
    found: dict[str, Any] = {"animal": animal.name, "refused": ""}
    with RecordingConsumer() as consumer:
        try:
            registry.register(animal.plugin, animal.name)
        except PluginError as error:
            return {**found, "refused": f"{error}", "exact": True, "closing": 0.0, "pending": 0}
        pool = ProducerPool(limits=Limits(drain=0.2), factory=ClientFactory(registry))
        with pool:
            pool.add_producer("well", consumer.url, policy=DeliveryPolicy.relay())
            try:
                pool.add_producer("animal", f"zoo://127.0.0.1:{enclosure.port}?timeout=200ms", policy=policy)
            except (ConfigurationError, PluginError) as error:
                found["refused"] = f"{error}"
            receipts = []
            for _ in range(3):
                receipts += [pool.submit(message) for message in ledger.write_many(50, size=200)]
                consumer.wait_for(len(ledger.sent))
                enclosure.break_connections()
                check_books(pool.stats())
            pool.submit("odd\nmessage", to=[name for name in pool.producers if name == "animal"])
            eventually(lambda: pool.stats().producers["well"].pending == 0, "the good one is done")
            began = time.monotonic()
        found["closing"] = time.monotonic() - began
        stats = eventually(lambda: last_stats(pool), "the pool's thread ends")
        assert stats is not None
        check_books(stats)
        results = [receipt.results(wait=0) for receipt in receipts]
        found["pending"] = sum(
            result.outcome is Outcome.PENDING for each in results for result in each.values()
        )
        found["exact"] = ledger.judge(consumer.messages).exact and all(each["well"].ok for each in results)
    enclosure.close()
    while cleaning:
        cleaning.pop()()
    return found


def _main(every: int, first: int) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    for animal in animals()[first::every]:
        try:
            found = beside(animal)
        except BaseException as error:
            found = {"animal": animal.name, "failed": repr(error)}
        print(json.dumps(found), flush=True)
    gc.collect()
    os._exit(0)  # Some of their threads never end.


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
