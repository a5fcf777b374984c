"""One connection of a plain client: it is given one batch after the other, and says when it is through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from producer_pool.contract.ports import Client
from producer_pool.delivery.containment import as_failure, stop_if_cancelled
from producer_pool.delivery.entry import Entry
from producer_pool.delivery.health import STALLED_AFTER
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected, SendError
from producer_pool.model.text import format_duration

__all__ = ["PlainLink"]


class PlainLink:
    """Drives a Client that has only send(), and perhaps send_batch(), for as long as one connection lasts."""

    leave: None = None
    """It is in no convoy."""

    def __init__(
        self,
        client: Client,
        outbox: Outbox,
        *,
        careful: bool = False,
        on_stall: Callable[[str], None] = lambda why: None,
    ) -> None:
        """
        Make the link for one connection. *careful*: send one message, and the rest when it has arrived.

        *on_stall* is told why nothing moves, and, with an empty text, that it moves again.
        """
        self.producer_id = outbox.producer_id
        self._client = client
        self._outbox = outbox
        self._on_stall = on_stall
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._stalls = False
        """Whether on_stall was told so."""
        self._timer: asyncio.TimerHandle | None = None
        self._more = asyncio.Event()
        self._whole = type(client).send_batch is not Client.send_batch
        """Whether it is given whole batches, and not message by message."""
        # Who is given one message after the other needs no more care than that.
        self.probing = careful and self._whole
        """Whether the one message has not arrived yet."""

    async def serve(self) -> DeliveryError:
        """Send what waits and what comes, until a call fails; return why it did."""
        outbox = self._outbox
        while True:
            while not outbox.waiting:
                self._more.clear()
                await self._more.wait()
            if self.probing:
                outbox.isolate()
            outbox.launch(1)
            failure = await self._send(outbox.flying[0])
            if failure is not None:
                return failure
            self.probing = False

    def express(self, batch: Batch) -> int | None:
        """Return None: a plain client cannot take anything without waiting."""
        return None

    def flies(self, page: Page, batch: Batch, now: float) -> None:
        """Do nothing: nothing was taken."""

    def pump(self) -> None:
        """Note that something waits."""
        self._more.set()

    def harvest(self) -> bool:
        """Do nothing: what is settled is known as soon as a call returns."""
        return False

    def close(self) -> None:
        """Let go of the timer; nobody calls back."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Say so if a call takes long. One timer is there while calls are made, and not one for each."""
        self._timer = None
        if self._sending_since is None or self._stalls:
            return
        patience = self._client.timeout * STALLED_AFTER
        left = self._sending_since + patience - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._stalls = True
        call = "send_batch()" if self._whole else "send()"
        waited, timeout = format_duration(patience), format_duration(self._client.timeout)
        self._on_stall(f"{call} has not returned for {waited} of its timeout of {timeout}")

    async def _send(self, entry: Entry) -> DeliveryError | None:
        """Send what is in flight; return what broke the connection, if anything did."""
        outbox = self._outbox
        client = self._client
        # Asked for once: they may be taken from the wire form anew each time.
        messages: Sequence[bytes] = () if self._whole else entry.batch.messages
        while entry.start < entry.count:
            before = entry.start
            if entry.expired:
                outbox.settle(entry.count - before)
                break
            limit = asyncio.timeout(client.timeout)
            self._sending_since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(client.timeout * STALLED_AFTER, self._look)
            try:
                async with limit:
                    if self._whole:
                        await client.send_batch(entry.batch, before)
                    else:
                        await client.send(messages[before])
                stop_if_cancelled()
            except Rejected as error:
                stop_if_cancelled()
                self._advance_to(entry, error.index)
                outbox.reject(outbox.passed, error)
                outbox.advance(1)
            except BaseException as error:
                failure = as_failure(error, SendError, "send", client, outbox.producer_id, limit)
                self._advance_to(entry, failure.index)
                if not self._whole or failure.index is not None:
                    outbox.fail_first(failure)
                return failure
            else:
                if self._whole:
                    outbox.settle(entry.count - before)
                else:
                    outbox.advance(1)
            finally:
                self._sending_since = None
                if self._stalls:
                    self._stalls = False
                    self._on_stall("")
        return None

    def _advance_to(self, entry: Entry, index: int | None) -> None:
        """Settle a whole batch in flight up to the message *index* that an error names, if that can be."""
        if self._whole and index is not None:
            count = min(index, entry.count - 1) - entry.start
            if count > 0:
                self._outbox.advance(count)
