"""What becomes of an exception out of somebody else's code: of clients, stages, observers, callbacks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from producer_pool.contract.interrupts import is_interrupt
from producer_pool.contract.ports import Client
from producer_pool.model.errors import DeliveryError
from producer_pool.model.text import format_duration

__all__ = [
    "CLOSING",
    "address_of",
    "as_delivery_error",
    "as_failure",
    "end_of",
    "is_run",
    "let_closing_pass",
    "let_go",
    "let_interrupts_pass",
    "peers_of",
    "stop_if_cancelled",
]

log = logging.getLogger(__name__)

CLOSING: Final = 0.5
"""Seconds that code of others may take to let go of what it holds."""


def let_interrupts_pass(error: BaseException) -> None:
    """
    Raise *error* again if it is meant for the program: an interrupt, or this task's own cancellation.

    All else stays with the one whose code raised it, SystemExit and a CancelledError that nobody asked
    for among it: no consumer's code may end what serves the others. Nor does an interrupt anywhere but
    on the main thread, where Python handles signals.
    """
    if is_interrupt(error):
        raise error
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # No loop runs in this thread: there is no task that could be cancelled.
            return
        if task is not None and task.cancelling():
            raise error


def let_closing_pass(error: BaseException, task: asyncio.Task[Any] | None = None) -> None:
    """
    Raise *error* again if the coroutine that awaits is thrown away: then no task runs it.

    Another loop may run at that time, and a task on it: *task* is the coroutine's own, for who knows it.
    """
    if isinstance(error, GeneratorExit):
        try:
            current = asyncio.current_task()
        except RuntimeError:
            current = None
        if current is None or task not in (None, current):
            raise error


def as_delivery_error(error: object, kind: type[DeliveryError], what: str) -> DeliveryError:
    """Return *error* if it is one of ours, or one of *kind* that says *what* and what it was."""
    if isinstance(error, DeliveryError):
        return error
    failure = kind(f"{what} {type(error).__name__}: {error}")
    failure.__cause__ = error if isinstance(error, BaseException) else None
    return failure


def as_failure(
    error: BaseException,
    kind: type[DeliveryError],
    call: str,
    client: Client,
    producer_id: str,
    limit: asyncio.Timeout,
) -> DeliveryError:
    """Return what came out of a client's coroutine as one of ours, unless it is meant for the program."""
    let_closing_pass(error)
    let_interrupts_pass(error)
    stop_if_cancelled()
    where = address_of(client, producer_id)
    if isinstance(error, TimeoutError) and limit.expired():
        failure = kind(f"{where}: {call} took longer than {format_duration(client.timeout)} (timeout=)")
        failure.__cause__ = error
        return failure
    return as_delivery_error(error, kind, f"{where}: {call} raised")


def stop_if_cancelled() -> None:
    """Go on with this task's cancellation if the code that it awaited has swallowed it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def is_run(task: asyncio.Task[None] | None, loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether *loop* runs *task* just now: not when that is thrown away, and the loop is closed already."""
    return asyncio.current_task(loop) is task


async def let_go(client: Client, producer_id: str) -> None:
    """Close *client*, and do not wait for ever; what it raises is logged."""
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(CLOSING):
            await client.aclose()
    except TimeoutError:
        took = f"took longer than {format_duration(CLOSING)}"
        log.warning("%s: aclose() of its client %s; it is left as it is", producer_id, took)
    except BaseException as error:
        let_closing_pass(error, task)
        let_interrupts_pass(error)
        log.error("%s: aclose() of its client failed", producer_id, exc_info=error)


async def end_of(task: asyncio.Task[None], producer_id: str) -> None:
    """Wait until *task* ends, which was cancelled. One whose client swallows that is left behind."""
    await asyncio.wait([task], timeout=2 * CLOSING)
    if not task.done():
        log.warning("%s: its client does not end, cancelled or not; it is left behind", producer_id)


def address_of(client: Client, producer_id: str) -> str:
    """Return where *client* sends to, for people; the id of its producer if it does not say."""
    try:
        return str(client.address) or producer_id
    except BaseException as error:
        let_interrupts_pass(error)
        return producer_id


def peers_of(client: Client) -> int | None:
    """Return how many consumers are connected to *client*; None for one that connects to its consumer."""
    try:
        peers = client.peers
    except BaseException as error:
        let_interrupts_pass(error)
        return None
    return peers if type(peers) is int else None
