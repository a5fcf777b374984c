"""What `sink` does: an intake that prints."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections import deque
from typing import Final

from producer_pool.cli.exits import DONE, FAILED, complain
from producer_pool.cli.output import print_json, write_all
from producer_pool.cli.signals import Stop
from producer_pool.contract.ports import Listener
from producer_pool.contract.receipts import OwnReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.framing import LINES
from producer_pool.model.text import format_count

__all__ = ["Sinking", "harmless"]

_DRAIN: Final = 2.0
"""Seconds for what has arrived when it is asked to end."""


class Sinking:
    """Prints what a listener pours into it, before the listener reads on. It is an Intake."""

    def __init__(self, *, count: int | None, quiet: bool, slow: float, as_json: bool) -> None:
        self._left = sys.maxsize if count is None else count
        self._quiet = quiet
        self._slow = slow
        self._json = as_json
        self._terminal = sys.stdout.isatty()
        self._messages = 0
        self._bytes = 0
        self._failure: OSError | None = None
        self._enough = asyncio.Event()
        self._queue: deque[tuple[bytes, OwnReceipt | None]] = deque()
        """Messages that a slow sink has not come to yet, the last of a batch with its receipt."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker: asyncio.Task[None] | None = None

    async def run(self, listener: Listener) -> int:
        """
        Listen until there were enough messages or somebody asks it to end; return the exit code.

        Raises:
            ConfigurationError: it may not listen there.
            ListenError: it cannot listen there.
        """
        loop = asyncio.get_running_loop()
        stop = Stop()
        since = loop.time()
        try:
            endpoint = await listener.start(self)
            print(f"listening at {endpoint}", file=sys.stderr, flush=True)
            waits = [asyncio.ensure_future(event.wait()) for event in (stop.asked, self._enough)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if not self._enough.is_set():
                try:
                    async with asyncio.timeout(_DRAIN):
                        await listener.stop_accepting()
                        await listener.drain()
                        await self._idle.wait()
                except TimeoutError:
                    pass
        finally:
            await listener.aclose()
        return self._sum_up(loop.time() - since, listener.stats.accepted)

    # -- the intake --------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether nothing more should be read: there was enough, or a slow sink has work to do."""
        return self._enough.is_set() or bool(self._queue)

    async def resumed(self) -> None:
        """Wait until a slow sink has worked off what it has; for ever, if there was enough."""
        await self._idle.wait()
        if self._enough.is_set():
            await asyncio.Event().wait()

    def feed(self, batch: Batch) -> None:
        """Print *batch*."""
        self._take(batch, None)

    def accept(self, batch: Batch) -> OwnReceipt:
        """Print *batch*, and return a receipt that says when that is done."""
        receipt = OwnReceipt()
        self._take(batch, receipt)
        return receipt

    def _take(self, batch: Batch, receipt: OwnReceipt | None) -> None:
        if self._enough.is_set() or not len(batch):
            return
        if not self._slow:
            self._finish(self._print(batch), receipt)
            return
        *others, last = batch.messages
        self._queue.extend((message, None) for message in others)
        self._queue.append((last, receipt))
        if self._idle.is_set():
            self._idle.clear()
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._queue and not self._enough.is_set():
            await asyncio.sleep(self._slow)
            message, receipt = self._queue.popleft()
            self._finish(self._print(Batch.of([message])), receipt)
        self._idle.set()

    @staticmethod
    def _finish(whole: bool, receipt: OwnReceipt | None) -> None:
        if receipt is not None:
            receipt.finish(delivered=whole)

    # -- printing ----------------------------------------------------------------------------------

    def _print(self, batch: Batch) -> bool:
        """Print *batch*, and say whether all of it was still wanted, and is printed."""
        whole = len(batch) <= self._left
        if not whole:
            batch = batch.select(range(self._left))
        try:
            if not self._quiet:
                write_all(self._shown(batch))
        except OSError as error:
            self._failure = error
            self._enough.set()
            return False
        self._messages += len(batch)
        self._bytes += batch.nbytes
        self._left -= len(batch)
        if not self._left:
            self._enough.set()
        return whole

    def _shown(self, batch: Batch) -> bytes:
        if self._json:
            return "".join(map(_json_line, batch.messages)).encode()
        if self._terminal:
            return b"".join(harmless(message) + b"\n" for message in batch.messages)
        return batch.wire(LINES)

    def _sum_up(self, seconds: float, connections: int) -> int:
        if isinstance(self._failure, BrokenPipeError):
            return FAILED  # Whoever read our output has seen enough.
        if self._failure is not None:
            complain(f"cannot print: {self._failure.strerror}")
        summary = {"messages": self._messages, "bytes": self._bytes, "connections": connections}
        print(
            f"{format_count(self._messages, 'message')}, {format_count(self._bytes, 'byte')}, "
            f"{format_count(connections, 'connection')}, {seconds:.2f} s",
            file=sys.stderr,
            flush=True,
        )
        if self._json and self._quiet:
            print_json({**summary, "seconds": round(seconds, 3)})
        return FAILED if self._failure else DONE


def _json_line(message: bytes) -> str:
    try:
        value = {"text": message.decode()}
    except UnicodeDecodeError:
        value = {"base64": base64.b64encode(message).decode()}
    return json.dumps(value, ensure_ascii=False) + "\n"


def harmless(message: bytes) -> bytes:
    """Return a message as a terminal may show it: what came over a network must not control it."""
    text = message.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text).encode()
