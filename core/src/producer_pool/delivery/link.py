"""One connection of a pipelined client: what goes out, what has been settled, when it is given up."""
# The Client counts, the Outbox keeps, the Link carries the counts across.

from __future__ import annotations

import asyncio
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.delivery.outbox import Outbox
from producer_pool.model.errors import DeliveryError, Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_duration

__all__ = ["Link"]

TURN: Final = 1024 * 1024
"""Bytes that one producer writes before it lets others have the loop."""

FIRST_POLL: Final = 0.001
LAST_POLL: Final = 0.050
"""Seconds between two looks at what has been acknowledged, which is no event: doubling from the first."""

ASK_EARLY: Final = 16
"""Batches sent after which acknowledgements are looked at before the timer does: it bounds memory."""


class Link:
    """
    Drives a PipelinedClient for as long as one connection lasts.

    It is the client's signals, and dead once it is closed: what an old connection still has to say
    reaches nobody.
    """

    def __init__(self, client: PipelinedClient, outbox: Outbox, *, ack: Ack) -> None:
        self.ack = ack
        self._client = client
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._timeout = client.timeout
        self._lost: asyncio.Future[DeliveryError] = self._loop.create_future()
        self._open = False
        """Whether the client may take more."""
        self._settled = 0
        """Messages that the outbox has been told of."""
        self._unasked = 0
        """Batches sent since the last look at what was settled."""
        self._progress_at = 0.0
        self._poll = FIRST_POLL
        self._timer: asyncio.TimerHandle | None = None
        self._next_turn: asyncio.Handle | None = None

    async def serve(self) -> DeliveryError:
        """Send what waits and what comes, until the connection is lost; return why it was."""
        self._open = True
        self.pump()
        return await asyncio.shield(self._lost)

    def close(self) -> None:
        """Tell the outbox what was settled to the last, and be dead from now on."""
        self.harvest()
        self._open = False
        for handle in (self._timer, self._next_turn):
            if handle is not None:
                handle.cancel()
        if not self._lost.done():
            self._lost.cancel()

    # -- signals -----------------------------------------------------------------------------------

    def writable(self) -> None:
        """Go on: the client takes more, or has got further."""
        if not self._lost.done():
            self._open = True
            if self._outbox.flying:
                self.harvest()
            self.pump()

    def broken(self, error: DeliveryError) -> None:
        """Stop: the connection is gone."""
        self._open = False
        if not self._lost.done():
            self._lost.set_result(error)

    def rejected(self, number: int, error: Rejected) -> None:
        """Settle one message as refused."""
        if self._lost.done():
            return
        try:
            self._outbox.reject(number, error)
        except IndexError as fault:
            self.broken(
                SendError(f"{self._client.address}: the client rejected a message it does not have: {fault}")
            )

    # -- sending -----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Hand over what waits, as much as the client takes and as one turn allows."""
        outbox = self._outbox
        if not self._open or not outbox.waiting:
            return
        if not outbox.flying:
            self._progress_at = self._loop.time()
            self._poll = FIRST_POLL
        sent = 0
        while outbox.waiting:
            entries = outbox.leading(TURN)
            try:
                taken = self._client.start([entry.batch for entry in entries], entries[0].start)
                sent += outbox.launch(taken)
                self._unasked += taken
            except BaseException as error:
                self._fault("start", error)
                return
            if not taken:
                self._open = False
                break
            if sent >= TURN:
                self._open = False
                self._next_turn = self._loop.call_soon(self.writable)
                break
        if self.ack is Ack.WRITTEN or self._unasked > ASK_EARLY:
            self.harvest()
        if outbox.flying and self._timer is None:
            self._arm()

    def harvest(self) -> bool:
        """Tell the outbox what has been settled since the last time, and say whether there was anything."""
        self._unasked = 0
        try:
            settled = self._client.settled()
        except BaseException as error:
            self._fault("settled", error)
            return False
        reached = settled.written if self.ack is Ack.WRITTEN else settled.confirmed
        count = reached - self._settled
        if count <= 0:
            return False
        if count > self._outbox.in_flight():
            self.broken(
                SendError(f"{self._client.address}: the client says that more was settled than it was given")
            )
            return False
        self._settled = reached
        self._progress_at = self._loop.time()
        self._outbox.settle(count)
        return True

    def _arm(self) -> None:
        """Look again: soon if acknowledgements are awaited, else when there should have been progress."""
        delay = self._poll if self.ack > Ack.WRITTEN else self._timeout
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._lost.done():
            return
        if self.harvest():
            self._poll = max(FIRST_POLL * 4, self._poll / 2)
        else:
            self._poll = min(self._poll * 2, LAST_POLL)
        if not self._outbox.flying:
            return
        if self._loop.time() - self._progress_at >= self._timeout:
            waited = format_duration(self._timeout)
            self.broken(
                SendError(
                    f"{self._client.address}: accepts but does not read: nothing moved for {waited} "
                    "(timeout=); what was in flight may have arrived"
                )
            )
            return
        self._arm()

    def _fault(self, call: str, error: BaseException) -> None:
        """Treat an exception out of the client's own code as the end of this connection."""
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise error
        if not isinstance(error, DeliveryError):
            lost = SendError(f"{self._client.address}: {call}() raised {type(error).__name__}: {error}")
            lost.__cause__ = error
            error = lost
        self.broken(error)
