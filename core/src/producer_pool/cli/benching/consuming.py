"""The process of a bench that consumes: consumers that listen, and verify what they get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from producer_pool.cli.benching.machine import confine
from producer_pool.cli.benching.quick import Connection, Quick
from producer_pool.cli.benching.talk import Setup, answer, orders, refuse
from producer_pool.cli.benching.verifying import Ledger
from producer_pool.contract.ports import Listener
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ProducerPoolError
from producer_pool.model.framing import Framing
from producer_pool.toolkit.sockets.binding import Binding
from producer_pool.toolkit.streams.listener import StreamListener

__all__ = ["main"]


class _Taken:
    """The receipt of what was verified: it is delivered at once. It is an IntakeReceipt."""

    stored = None
    done = delivered = True

    def when_stored(self, callback: Callable[[], None], /) -> None:
        callback()

    def when_done(self, callback: Callable[[], None], /) -> None:
        callback()


_TAKEN = _Taken()


class _Consumer:
    """What one listener pours into. It is an Intake."""

    paused = False

    def __init__(self, ledger: Ledger, ring: Callable[[], None], often: int) -> None:
        self._ledger = ledger
        self._ring = ring
        self._often = often
        self._rung = 0

    def feed(self, batch: Batch) -> None:
        """Verify *batch*."""
        ledger = self._ledger
        ledger.enter(batch, time.monotonic_ns())
        if not 0 <= ledger.received - self._rung < self._often:
            self._rung = ledger.received
            self._ring()

    def accept(self, batch: Batch) -> _Taken:
        """Verify *batch*, and return a receipt that says so."""
        self.feed(batch)
        return _TAKEN

    async def resumed(self) -> None:
        """Return at once: it is never paused."""


class _Consuming:
    """All consumers of this process."""

    def __init__(self, setup: Setup, ledgers: Sequence[Ledger]) -> None:
        self._setup = setup
        self._ledgers = ledgers
        self._bell = os.open(setup.bell, os.O_RDWR | os.O_NONBLOCK)

    def _ring(self) -> None:
        """Tell the producers that we have got on."""
        with contextlib.suppress(BlockingIOError):  # It was rung more often than anybody listened.
            os.write(self._bell, b"!")

    async def listen(self, listeners: Sequence[Listener], asked: AsyncIterator[dict[str, Any]]) -> None:
        """Verify what listeners pour out, and obey."""
        urls = []
        try:
            for ledger, listener in zip(self._ledgers, listeners, strict=True):
                urls.append((await listener.start(_Consumer(ledger, self._ring, self._setup.often))).raw)
            answer(urls=urls)
            async for order in asked:
                self._obey(order)
        finally:
            for listener in listeners:
                await listener.aclose()

    async def read(self, plain: Sequence[tuple[Binding, Framing]]) -> None:
        """Verify what comes on sockets, and obey."""
        quick = Quick(sys.stdin.fileno(), self._ring, self._setup.often)
        urls = []
        try:
            for ledger, (binding, framing) in zip(self._ledgers, plain, strict=True):
                sockets = await binding.bind()
                for sock in sockets:
                    quick.listen(sock, partial(Connection, ledger=ledger, framing=framing))
                urls.append(binding.endpoint(sockets).raw)
            answer(urls=urls)
            # The loop of asyncio stands still from here on: nothing else is to be done on it.
            quick.serve(lambda line: self._obey(json.loads(line)))
        finally:
            quick.close()
            for binding, _ in plain:
                binding.release()

    def _obey(self, order: dict[str, Any]) -> None:
        if "begin" in order:
            for ledger in self._ledgers:
                ledger.begin(order["begin"])
            answer(cpu=time.process_time())
        else:
            reports = [ledger.as_json(order["report"]) for ledger in self._ledgers]
            answer(cpu=time.process_time(), consumers=reports)


async def _serve() -> None:
    asked = orders()
    first = await anext(asked)
    setup = Setup.from_json(first["setup"])
    confine(0, setup.load_cores)
    book, board, factory = setup.book(), setup.board(), setup.factory()
    listeners = [factory.listener(url) for _, url in first["listen"]]
    consuming = _Consuming(setup, [Ledger(book, board, number) for number, _ in first["listen"]])
    plain = [one for one in map(_plain, listeners) if one is not None]
    if len(plain) == len(listeners) and hasattr(select, "epoll"):
        await consuming.read(plain)
    else:
        await consuming.listen(listeners, asked)


def _plain(listener: Listener) -> tuple[Binding, Framing] | None:
    return listener.plain if isinstance(listener, StreamListener) else None


def main() -> None:
    """Do what is asked on stdin, until nobody is there to ask."""
    try:
        asyncio.run(_serve())
    except ProducerPoolError as error:
        refuse(error)


if __name__ == "__main__":
    main()
