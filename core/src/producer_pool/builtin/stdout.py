"""``stdout:``: writes messages to the standard output, and stops nobody when nobody reads it."""
# Rule: the descriptor stays as it is: O_NONBLOCK would hold for all who share the terminal or pipe.
# Python's own buffer stays out of it: a blocked write would hold its lock at exit.

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from producer_pool.contract.options import option
from producer_pool.contract.ports import Client
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, Rejected, SendError
from producer_pool.model.framing import LINES, Framing
from producer_pool.model.text import format_duration

__all__ = ["StdoutClient", "StdoutOptions"]

_WHOLE: Final = threading.Lock()
"""Held while a batch is written, so that the frames of two producers never mix."""


@dataclass(frozen=True)
class StdoutOptions:
    """What a ``stdout:`` URL may say."""

    framing: Framing = option(LINES, "how messages are marked off")


class StdoutClient(Client):
    """
    Writes each batch to the standard output of the process, with one write, on a thread of its own.

    Returning from a send means that the kernel has taken it. While nobody reads a full pipe, sends take
    until their timeout. A batch of which writing has begun is written to its end even then, so that no
    frame is cut; the next one waits for that, and connect() does.

    It writes to the descriptor itself: what the program prints is ordered with it as far as it is flushed.
    """

    protocol_name = "stdout"
    address = "stdout:"

    def __init__(self, framing: Framing = LINES, *, descriptor: int | None = None) -> None:
        """*descriptor* is by default that of the standard output."""
        self._framing = framing
        self._descriptor = descriptor
        self._jobs: SimpleQueue[_Job | None] | None = None
        self._ended: Future[None] | None = None
        """Of the last thread."""

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        unfit = batch.misfits(self._framing)
        return {index: Rejected(self._framing.why_misfit()) for index in unfit}

    async def connect(self) -> None:
        """
        Wait until the last batch is out, and see whether somebody can read.

        Raises:
            ConnectError: there is no standard output, or nobody has its other end open.
        """
        await self.aclose()
        if self._ended is not None:
            try:
                async with asyncio.timeout(self.timeout):
                    await asyncio.shield(asyncio.wrap_future(self._ended))
            except TimeoutError:
                raise ConnectError("stdout: nobody has read the last batch yet") from None
        descriptor = self._open_descriptor()
        self._jobs = SimpleQueue()
        self._ended = Future()
        work = (self._jobs, descriptor, self._ended)
        threading.Thread(target=_write_all, args=work, name="producer pool: stdout", daemon=True).start()

    async def send(self, message: bytes) -> None:
        batch = Batch.of([message])
        for error in self.misfits(batch).values():
            raise error
        await self.send_batch(batch)

    async def send_batch(self, batch: Batch, start: int = 0) -> None:
        if self._jobs is None:
            await self.connect()
        assert self._jobs is not None
        job = _Job(batch.wire(self._framing, start))
        self._jobs.put(job)
        try:
            async with asyncio.timeout(self.timeout):
                error = await asyncio.wrap_future(job.done)
        except TimeoutError:
            raise SendError(
                f"stdout: nobody read it within {format_duration(self.timeout)}; it may still be read"
            ) from None
        if error is not None:
            failure = SendError(f"stdout: {error.strerror}")
            failure.index = start + self._framing.index(job.wire, job.written)
            raise failure

    async def aclose(self) -> None:
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.put(None)

    def _open_descriptor(self) -> int:
        descriptor = self._descriptor
        if descriptor is None:
            try:
                assert sys.__stdout__ is not None
                descriptor = sys.__stdout__.fileno()
            except (AssertionError, ValueError, OSError):
                raise ConnectError("stdout: this process has no standard output") from None
        poll = select.poll()
        poll.register(descriptor, 0)
        for _, event in poll.poll(0):
            if event & select.POLLNVAL:
                raise ConnectError("stdout: the standard output is closed")
            if event & select.POLLERR:
                raise ConnectError("stdout: nobody reads it any more")
        return descriptor


class _Job:
    """One batch on its way to the descriptor."""

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.written = 0
        self.done: Future[OSError | None] = Future()


def _write_all(jobs: SimpleQueue[_Job | None], descriptor: int, ended: Future[None]) -> None:
    """Write one job after the other, until there is None."""
    while (job := jobs.get()) is not None:
        # A job that was given up before its turn has certainly not arrived.
        if job.done.set_running_or_notify_cancel():
            with _WHOLE:
                job.done.set_result(_write(job, descriptor))
    ended.set_result(None)


def _write(job: _Job, descriptor: int) -> OSError | None:
    """Write all of *job*; return what stopped that, if something did."""
    with memoryview(job.wire) as wire:
        while job.written < len(wire):
            try:
                job.written += os.write(descriptor, wire[job.written :])
            except BlockingIOError:
                # Somebody else made it non-blocking: wait here instead.
                select.select([], [descriptor], [])
            except OSError as error:
                return error
    return None
